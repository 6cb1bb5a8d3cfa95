#version 460
// Attention of one row over a span of its keys, for all query heads of a KV head: K and V are read
// once for them. Workgroup (item, KV head). Blocks of 128 keys: kSplit neighbouring invocations score
// a key, every kSplit-th 32 elements each, then all of them sum V, four elements and every lane-th
// key each. Softmax online, block by block. The more invocations, the more loads are on their way:
// short contexts have few workgroups. Of the workgroups that have a row's spans, the last one to finish
// merges them.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(local_size_x_id = 4) in;  // 128, 256 or 512
layout(constant_id = 0) const uint kDim = 64;   // E, a multiple of 32
layout(constant_id = 1) const uint kType = 1;   // tensor::DType of the cache: f32, f16 or q8_0
layout(constant_id = 2) const uint kGroup = 1;  // query heads of a KV head, at most 8
layout(constant_id = 3) const bool kQuantizes = false;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Parts { float at[]; };
layout(buffer_reference) buffer Items;
#include "backends/vulkan/address.glsl"
#include "backends/vulkan/last_workgroup.glsl"
#include "backends/vulkan/attention.params.h"
#include "backends/vulkan/kv_load.glsl"
#include "backends/vulkan/matmul_input.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Items { RowItem at[]; };
layout(push_constant) uniform Push { AttentionParams p; };

const uint kKeys = 128;
const uint kQuads = kDim / 4;           // of a vector
const uint kThreads = gl_WorkGroupSize.x;
const uint kSplit = kThreads / kKeys;   // invocations of a key
const uint kLanes = kThreads / kQuads;  // keys that are summed at once
const uint kSubgroups = kThreads / 4;   // at most
shared vec4 q[kGroup * kQuads];
shared float weights[kGroup * kKeys];
shared float subgroup_max[kGroup * kSubgroups];
shared float subgroup_sum[kGroup * kSubgroups];
shared vec4 sums[kLanes * kGroup * kQuads];

vec4 values[4];

/// `values`: elements 4 quad to 4 quad + 3 of keys `key`, `key` + kLanes, ...
void load_values(RowItem item, uint head, int key, uint quad) {
    [[unroll]] for (int l = 0; l < 4; ++l) {
        const int v_key = min(key + l * int(kLanes), item.last_key);
        const uint page = uint(p.pages.at[item.table + v_key / int(kPageTokens)]);
        values[l] = load_4(element_address(p.v_pool, page * p.n_kv_heads + head, kPageBytes),
                           uint(v_key) % kPageTokens, quad * 4);
    }
}

/// The row's spans to one result, for the heads of KV head `head`.
void merge(RowItem item, uint head, uint i) {
    const uint stride = p.n_kv_heads * kGroup * (kDim + 2);
    [[dont_unroll]] for (uint octet = i; octet < kGroup * kDim / 8; octet += kThreads) {
        const uint e = octet * 8 % kDim;
        const uint first = uint(item.first_part) * stride +
                           (head * kGroup + octet * 8 / kDim) * (kDim + 2);
        float most = uintBitsToFloat(0xFF800000u);
        for (int part = 0; part < item.n_parts; ++part)
            most = max(most, p.parts.at[first + uint(part) * stride + kDim]);
        float whole = 0;
        vec4 a = vec4(0), b = vec4(0);
        for (int part = 0; part < item.n_parts; ++part) {
            const uint at = first + uint(part) * stride;
            const float weight = exp(p.parts.at[at + kDim] - most);
            whole += weight * p.parts.at[at + kDim + 1];
            [[unroll]] for (uint l = 0; l < 4; ++l) {
                a[l] += weight * p.parts.at[at + e + l];
                b[l] += weight * p.parts.at[at + e + 4 + l];
            }
        }
        a /= whole;
        b /= whole;
        const uint cols = p.n_kv_heads * kGroup * kDim;
        const uint row_octet = head * kGroup * kDim / 8 + octet;
        const uint to = uint(item.row) * cols / 4 + 2 * row_octet;
        Vectors(uvec2(p.to)).at[to] = a;
        Vectors(uvec2(p.to)).at[to + 1] = b;
        if (kQuantizes) store_int8(p.int8, p.n_rows, cols, uint(item.row), row_octet, a, b);
    }
}

void main() {
    const RowItem item = p.items.at[gl_WorkGroupID.x];
    if (item.row < 0) return;
    const uint head = gl_WorkGroupID.y;
    // Neighbours in this order are so in their subgroup.
    const uint i = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    const uint row_vectors = uint(item.row) * p.n_kv_heads + head;  // of kGroup * kDim
    for (uint j = i; j < kGroup * kQuads; j += kThreads)
        q[j] = Vectors(uvec2(p.q)).at[row_vectors * kGroup * kQuads + j] * p.scale;
    barrier();

    float top[kGroup], total[kGroup];
    vec4 sum[kGroup];
    [[unroll]] for (uint g = 0; g < kGroup; ++g) {
        top[g] = uintBitsToFloat(0xFF800000u);
        total[g] = 0;
        sum[g] = vec4(0);
    }
    const uint quad = i % kQuads, lane = i / kQuads;
    for (int first = item.first_key; first <= item.last_key; first += int(kKeys)) {
        // The first values are on their way while the keys are scored.
        load_values(item, head, first + int(lane), quad);
        const uint key_here = i / kSplit;
        const int key = first + int(key_here);
        float score[kGroup];
        [[unroll]] for (uint g = 0; g < kGroup; ++g) score[g] = uintBitsToFloat(0xFF800000u);
        if (key <= item.last_key) {
            const uint page = uint(p.pages.at[item.table + key / int(kPageTokens)]);
            const uvec2 at = element_address(p.k_pool, page * p.n_kv_heads + head, kPageBytes);
            [[unroll]] for (uint g = 0; g < kGroup; ++g) score[g] = 0;
            // Four loads in flight. Unrolled whole, compilers of software drivers take a minute.
            [[dont_unroll]] for (uint first_e = i % kSplit * 32; first_e < kDim;
                                 first_e += 32 * kSplit) {
                vec4 a[4], b[4];
                [[unroll]] for (uint l = 0; l < 4; ++l)
                    load_8(at, uint(key) % kPageTokens, first_e + 8 * l, a[l], b[l]);
                [[unroll]] for (uint l = 0; l < 4; ++l) {
                    const uint e_4 = first_e / 4 + 2 * l;
                    [[unroll]] for (uint g = 0; g < kGroup; ++g)
                        score[g] += dot(q[g * kQuads + e_4], a[l]) +
                                    dot(q[g * kQuads + e_4 + 1], b[l]);
                }
            }
        }
        [[unroll]] for (uint g = 0; g < kGroup; ++g) {
            // Beyond the last key all parts are -inf, and so is their sum.
            [[unroll]] for (uint step = 1; step < kSplit; step *= 2)
                score[g] += subgroupShuffleXor(score[g], step);
            const float most = subgroupMax(score[g]);
            if (subgroupElect()) subgroup_max[g * kSubgroups + gl_SubgroupID] = most;
        }
        barrier();
        float faded[kGroup];
        [[unroll]] for (uint g = 0; g < kGroup; ++g) {
            float most = top[g];
            for (uint s = 0; s < gl_NumSubgroups; ++s) most = max(most, subgroup_max[g * kSubgroups + s]);
            faded[g] = exp(top[g] - most);
            top[g] = most;
            const float weight = exp(score[g] - most);
            const bool counts = i % kSplit == 0;
            if (counts) weights[g * kKeys + key_here] = weight;
            const float part = subgroupAdd(counts ? weight : 0.0);
            if (subgroupElect()) subgroup_sum[g * kSubgroups + gl_SubgroupID] = part;
        }
        barrier();
        [[unroll]] for (uint g = 0; g < kGroup; ++g) {
            float part = 0;
            for (uint s = 0; s < gl_NumSubgroups; ++s) part += subgroup_sum[g * kSubgroups + s];
            total[g] = total[g] * faded[g] + part;
            sum[g] *= faded[g];
        }
        if (lane < kLanes) {
            const int n = min(int(kKeys), item.last_key - first + 1);
            // Weights beyond the last key are 0, and its value stands in for those there.
            [[dont_unroll]] for (int j = int(lane); j < n; j += 4 * int(kLanes)) {
                if (j != int(lane)) load_values(item, head, first + j, quad);
                [[unroll]] for (int l = 0; l < 4; ++l) {
                    const uint at = uint(j) + uint(l) * kLanes;
                    [[unroll]] for (uint g = 0; g < kGroup; ++g)
                        if (at < kKeys) sum[g] += weights[g * kKeys + at] * values[l];
                }
            }
        }
        barrier();  // before the weights of the next block
    }

    if (lane < kLanes) {
        [[unroll]] for (uint g = 0; g < kGroup; ++g)
            sums[(lane * kGroup + g) * kQuads + quad] = sum[g];
    }
    barrier();
    // Eight elements an invocation, as store_int8() wants them.
    [[dont_unroll]] for (uint octet = i; octet < kGroup * kDim / 8; octet += kThreads) {
        const uint j = 2 * octet, head_of = j / kQuads;
        vec4 a = vec4(0), b = vec4(0);
        for (uint l = 0; l < kLanes; ++l) {
            a += sums[l * kGroup * kQuads + j];
            b += sums[l * kGroup * kQuads + j + 1];
        }
        float whole = 0;
        [[unroll]] for (uint g = 0; g < kGroup; ++g) whole = head_of == g ? total[g] : whole;
        if (item.part < 0) {
            a /= whole;
            b /= whole;
            const uint to = row_vectors * kGroup * kQuads + j;
            Vectors(uvec2(p.to)).at[to] = a;
            Vectors(uvec2(p.to)).at[to + 1] = b;
            if (kQuantizes) {
                store_int8(p.int8, p.n_rows, p.n_kv_heads * kGroup * kDim, uint(item.row),
                           head * kGroup * kDim / 8 + octet, a, b);
            }
        } else {
            const uint to = ((uint(item.part) * p.n_kv_heads + head) * kGroup + head_of) *
                                (kDim + 2) + j % kQuads * 4;
            [[unroll]] for (uint l = 0; l < 4; ++l) {
                p.parts.at[to + l] = a[l];
                p.parts.at[to + 4 + l] = b[l];
            }
        }
    }
    if (item.part < 0) return;
    if (i < kGroup) {
        float most = 0, whole = 0;
        [[unroll]] for (uint g = 0; g < kGroup; ++g) {
            if (i == g) {
                most = top[g];
                whole = total[g];
            }
        }
        const uint to = ((uint(item.part) * p.n_kv_heads + head) * kGroup + i) * (kDim + 2) + kDim;
        p.parts.at[to] = most;
        p.parts.at[to + 1] = whole;
    }
    const uint counter = uint(item.first_part) * p.n_kv_heads + head;
    if (last_of(p.done, counter, uint(item.n_parts), gl_NumSubgroups)) merge(item, head, i);
}
