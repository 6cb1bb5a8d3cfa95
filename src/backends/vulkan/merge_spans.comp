#version 460
// Merges the spans of a row that attend_rows split. Workgroup (item, query head).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;  // E or more
layout(constant_id = 1) const uint kDim = 64;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference) buffer Items;
#include "backends/vulkan/attention.params.h"
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Items { MergeItem at[]; };
layout(push_constant) uniform Push { AttentionParams p; };

void main() {
    const MergeItem item = p.items.at[gl_WorkGroupID.x];
    const uint head = gl_WorkGroupID.y, n_heads = gl_NumWorkGroups.y, e = gl_LocalInvocationIndex;
    if (e >= kDim) return;
    const uint stride = n_heads * (kDim + 2);
    const uint first = uint(item.first_part) * stride + head * (kDim + 2);
    float top = uintBitsToFloat(0xFF800000u);
    for (int i = 0; i < item.n_parts; ++i)
        top = max(top, p.parts.at[first + uint(i) * stride + kDim]);
    float total = 0, sum = 0;
    for (int i = 0; i < item.n_parts; ++i) {
        const uint part = first + uint(i) * stride;
        const float weight = exp(p.parts.at[part + kDim] - top);
        total += weight * p.parts.at[part + kDim + 1];
        sum += weight * p.parts.at[part + e];
    }
    p.to.at[(uint(item.row) * n_heads + head) * kDim + e] = sum / total;
}
