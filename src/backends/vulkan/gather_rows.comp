#version 460
// out[i] = x[rows[i]], one workgroup a row: what the head multiplies.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
#include "backends/vulkan/gather_rows.params.h"
layout(push_constant) uniform Push { GatherRowsParams p; };

void main() {
    const uint from = uint(p.rows.at[gl_WorkGroupID.x]) * p.cols, to = gl_WorkGroupID.x * p.cols;
    for (uint i = gl_LocalInvocationIndex; i < p.cols; i += gl_WorkGroupSize.x)
        p.result.at[to + i] = p.x.at[from + i];
}
