#version 460
// x [T, D] f32 to int8 or f16. Workgroup (row, part of its columns); f16 needs a row in one workgroup.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "backends/vulkan/matmul_input.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint FORM = INPUT_INT8;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors { vec4 at[]; };
#include "backends/vulkan/matmul.params.h"
layout(push_constant) uniform Push { MatmulQuantizeParams p; };

shared uint row_most;

void main() {
    const uint t = gl_WorkGroupID.x;
    const uint first = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    const uint octets = p.cols / 8;
    const uint row = t * (p.cols / 4);
    float scale = 1.0;
    if (FORM == INPUT_F16) {
        if (first == 0) row_most = 0;
        barrier();
        uint most = 0;
        for (uint i = first; i < octets; i += gl_WorkGroupSize.x) {
            most = max(most, largest_bits(Vectors(p.x).at[row + 2 * i],
                                          Vectors(p.x).at[row + 2 * i + 1]));
        }
        most = subgroupMax(most);
        if (subgroupElect()) atomicMax(row_most, most);
        barrier();
        scale = f16_scale(row_most);
    }
    const uint step = gl_WorkGroupSize.x * gl_NumWorkGroups.y;
    for (uint i = gl_WorkGroupID.y * gl_WorkGroupSize.x + first; i < octets; i += step) {
        const vec4 a = Vectors(p.x).at[row + 2 * i];
        const vec4 b = Vectors(p.x).at[row + 2 * i + 1];
        if (FORM == INPUT_INT8) store_int8(p.to, p.n_rows, p.cols, t, i, a, b);
        if (FORM == INPUT_F16) store_f16(p.to, p.n_rows, p.cols, t, i, a, b, scale);
    }
}
