#version 460
// Adds up what matmul_coopmat.comp left of parts of the columns: partial [n_parts, T, all rows] f32.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint EPILOGUE = 0;

#include "backends/vulkan/matmul_epilogue.glsl"
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float at[]; };
#include "backends/vulkan/matmul.params.h"
layout(push_constant) uniform Push { MatmulParams p; };

const bool GATED = EPILOGUE != EPILOGUE_NONE;

float total(uint t, uint row, uint all_rows) {
    float sum = 0;
    for (uint part = 0; part < p.n_parts; ++part)
        sum += Floats(p.partial).at[(part * p.n_rows + t) * all_rows + row];
    return sum * Floats(p.x).at[(p.n_rows * p.cols) / 2 + t];
}

void main() {
    const uint t = gl_WorkGroupID.y;
    const uint all_rows = p.out_rows[0] + p.out_rows[1] + p.out_rows[2];
    const uint row = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (row >= (GATED ? p.out_rows[0] : all_rows)) return;
    if (GATED) {
        Outs(p.outs[0]).at[t * p.out_rows[0] + row] =
            gated(total(t, row, all_rows), total(t, p.out_rows[0] + row, all_rows));
        return;
    }
    uint m = 0;
    uint r = row;
    [[unroll]] for (uint k = 0; k < 2; ++k) {
        if (m == k && r >= p.out_rows[k]) {
            r -= p.out_rows[k];
            m = k + 1;
        }
    }
    Outs(p.outs[m]).at[t * p.out_rows[m] + r] = total(t, row, all_rows);
}
