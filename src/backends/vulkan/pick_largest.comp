#version 460
// The largest value of each row, the first of those that are; a NaN counts as nothing, +inf as the
// largest float. Workgroups (part, row); the last one of a row to finish has that of the row.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_KHR_shader_subgroup_basic : require

layout(local_size_x = 256) in;

layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Tops { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer TopIds { int at[]; };
#include "backends/vulkan/last_workgroup.glsl"
#include "backends/vulkan/pick_largest.params.h"
layout(push_constant) uniform Push { PickLargestParams p; };

shared float tops[256];
shared int top_ids[256];

const int kNone = 0x7FFFFFFF;

/// Whether (a, id a) comes before (b, id b).
bool better(float a, int id_a, float b, int id_b) { return a > b || (a == b && id_a < id_b); }

/// The best of all invocations' (top, id), in tops[0] and top_ids[0] for the first one.
void reduce(float top, int id) {
    const uint i = gl_LocalInvocationIndex;
    tops[i] = top;
    top_ids[i] = id;
    for (uint half_size = 128; half_size > 0; half_size /= 2) {
        barrier();
        if (i < half_size &&
            better(tops[i + half_size], top_ids[i + half_size], tops[i], top_ids[i])) {
            tops[i] = tops[i + half_size];
            top_ids[i] = top_ids[i + half_size];
        }
    }
}

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex, groups = gl_NumWorkGroups.x;
    const float nothing = uintBitsToFloat(0xFF800000u);
    float top = nothing;
    int id = kNone;
    for (uint j = gl_WorkGroupID.x * 256 + i; j < p.n; j += groups * 256) {
        float value = p.values.at[row * p.stride + j];
        const uint bits = floatBitsToUint(value);
        if (bits == 0x7F800000u) value = uintBitsToFloat(0x7F7FFFFFu);
        const bool is_number = (bits & 0x7FFFFFFFu) <= 0x7F800000u;
        if (is_number && value > nothing && better(value, int(j), top, id)) {
            top = value;
            id = int(j);
        }
    }
    reduce(top, id);
    if (i == 0) {
        p.best.at[row * groups + gl_WorkGroupID.x] = tops[0];
        p.best_ids.at[row * groups + gl_WorkGroupID.x] = top_ids[0];
    }
    if (!last_of(p.done, row, groups, gl_NumSubgroups)) return;
    const bool has_part = i < groups;
    reduce(has_part ? p.best.at[row * groups + i] : nothing,
           has_part ? p.best_ids.at[row * groups + i] : kNone);
    if (i == 0) p.ids.at[row] = top_ids[0] == kNone ? -1 : top_ids[0];
}
