#version 460
// Merges the spans of a row that attend_rows split. Workgroup (item, KV head), eight elements of the
// heads of its group an invocation.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x_id = 0) in;  // kGroup * E / 8 or more
layout(constant_id = 1) const uint kDim = 64;   // E, a multiple of 32
layout(constant_id = 2) const uint kGroup = 1;  // query heads of a KV head
layout(constant_id = 3) const bool kQuantizes = false;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference) buffer Items;
#include "backends/vulkan/attention.params.h"
#include "backends/vulkan/matmul_input.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Items { MergeItem at[]; };
layout(push_constant) uniform Push { AttentionParams p; };

void main() {
    const MergeItem item = p.items.at[gl_WorkGroupID.x];
    const uint octet = gl_LocalInvocationIndex;
    if (item.row < 0 || octet >= kGroup * kDim / 8) return;
    const uint head = gl_WorkGroupID.y * kGroup + octet * 8 / kDim, e = octet * 8 % kDim;
    const uint stride = p.n_kv_heads * kGroup * (kDim + 2);
    const uint first = uint(item.first_part) * stride + head * (kDim + 2);
    float top = uintBitsToFloat(0xFF800000u);
    for (int i = 0; i < item.n_parts; ++i)
        top = max(top, p.parts.at[first + uint(i) * stride + kDim]);
    float total = 0;
    vec4 a = vec4(0), b = vec4(0);
    for (int i = 0; i < item.n_parts; ++i) {
        const uint part = first + uint(i) * stride;
        const float weight = exp(p.parts.at[part + kDim] - top);
        total += weight * p.parts.at[part + kDim + 1];
        [[unroll]] for (uint l = 0; l < 4; ++l) {
            a[l] += weight * p.parts.at[part + e + l];
            b[l] += weight * p.parts.at[part + e + 4 + l];
        }
    }
    a /= total;
    b /= total;
    const uint cols = p.n_kv_heads * kGroup * kDim;
    const uint row_octet = gl_WorkGroupID.y * kGroup * kDim / 8 + octet;
    const uint to = uint(item.row) * cols / 4 + 2 * row_octet;
    Vectors(uvec2(p.to)).at[to] = a;
    Vectors(uvec2(p.to)).at[to + 1] = b;
    if (kQuantizes) store_int8(p.int8, p.n_rows, cols, uint(item.row), row_octet, a, b);
}
