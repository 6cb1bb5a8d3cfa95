#version 460
// Attention of a tile of consecutive rows, for all query heads of a KV head: 64 query vectors (rows
// times heads) against blocks of 64 keys, as Dao 2023 (FlashAttention-2) orders it: scores and
// weights of a block stay in shared memory, the weighted sums of V in registers. f32 throughout.
// Workgroup (item, KV head).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_clustered : require

layout(local_size_x = 256) in;
layout(constant_id = 0) const uint kDim = 64;   // E, a multiple of 32
layout(constant_id = 1) const uint kType = 1;   // tensor::DType of the cache: f32, f16 or q8_0
layout(constant_id = 2) const uint kGroup = 1;  // query heads of a KV head, at most 8

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Parts { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters { uint at[]; };
layout(buffer_reference) buffer Items;
#include "backends/vulkan/address.glsl"
#include "backends/vulkan/attention.params.h"
#include "backends/vulkan/kv_load.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Items { TileItem at[]; };
layout(push_constant) uniform Push { AttentionParams p; };

const uint kQueries = 64, kKeys = 64;
const uint kPart = 32;                // elements of q, k or v at a time
const uint kParts = kDim / kPart;
const uint kUnroll = 4;
const uint kStride = kKeys + 4;       // keeps columns in different banks, and vec4 aligned
// First q [kPart][kQueries] and k [kPart][kKeys], both with kStride; then weights [kKeys][kQueries].
shared float block[2 * kPart * kStride];
shared float values[kKeys * kPart];
shared float top[kQueries], total[kQueries], faded[kQueries];

/// Row of the tile and head of query vector `query`.
uint row_of(uint query) { return query / kGroup; }

uvec2 page_of(uvec2 pool, int table, int key) {
    const uint page = uint(p.pages.at[table + key / int(kPageTokens)]);
    return element_address(pool, page * p.n_kv_heads + gl_WorkGroupID.y, kPageBytes);
}

void main() {
    const TileItem item = p.items.at[gl_WorkGroupID.x];
    if (item.first_row < 0) return;
    // Neighbours in this order are so in their subgroup.
    const uint i = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    const uint n_queries = uint(item.n_rows) * kGroup;
    const uint query_4 = i / 16 * 4, key_4 = i % 16 * 4;  // the 4 x 4 scores of this invocation
    const uint e_2 = i % 16 * 2;                          // and its 4 x 2 sums of each part
    vec4 sum[kParts][2];
    [[unroll]] for (uint c = 0; c < kParts; ++c) sum[c][0] = sum[c][1] = vec4(0);
    if (i < kQueries) {
        top[i] = uintBitsToFloat(0xFF800000u);
        total[i] = 0;
    }

    const int last_key = item.first_position + item.n_rows - 1;
    int first_key = 0;
    if (p.window > 0) first_key = max(0, item.first_position - int(p.window) + 1);
    for (int first = first_key / int(kKeys) * int(kKeys); first <= last_key; first += int(kKeys)) {
        // Scores.
        vec4 score[4] = {vec4(0), vec4(0), vec4(0), vec4(0)};  // [key] of 4 queries
        [[dont_unroll]] for (uint c = 0; c < kParts; ++c) {
            barrier();
            // 64 vectors of 32 elements each, eight elements an invocation.
            const uint vector = i % 64, e = i / 64 * 8;
            vec4 a = vec4(0), b = vec4(0);
            if (vector < n_queries) {
                const uint head = gl_WorkGroupID.y * kGroup + vector % kGroup;
                const uint row = uint(item.first_row) + row_of(vector);
                const uint at =
                    ((row * p.n_kv_heads * kGroup + head) * kDim + c * kPart + e) / 4;
                a = Vectors(uvec2(p.q)).at[at] * p.scale;
                b = Vectors(uvec2(p.q)).at[at + 1] * p.scale;
            }
            [[unroll]] for (uint j = 0; j < 4; ++j) {
                block[(e + j) * kStride + vector] = a[j];
                block[(e + 4 + j) * kStride + vector] = b[j];
            }
            const int key = first + int(vector);
            a = b = vec4(0);
            if (key >= first_key && key <= last_key) {
                load_8(page_of(p.k_pool, item.table, key), uint(key) % kPageTokens, c * kPart + e, a,
                       b);
            }
            [[unroll]] for (uint j = 0; j < 4; ++j) {
                block[(kPart + e + j) * kStride + vector] = a[j];
                block[(kPart + e + 4 + j) * kStride + vector] = b[j];
            }
            barrier();
            // Some iterations' loads at once; all of them would keep software drivers' compilers busy.
            [[dont_unroll]] for (uint first_d = 0; first_d < kPart; first_d += kUnroll) {
                [[unroll]] for (uint l = 0; l < kUnroll; ++l) {
                    const uint d = first_d + l;
                    vec4 qs, ks;
                    [[unroll]] for (uint j = 0; j < 4; ++j) {
                        qs[j] = block[d * kStride + query_4 + j];
                        ks[j] = block[(kPart + d) * kStride + key_4 + j];
                    }
                    [[unroll]] for (uint j = 0; j < 4; ++j) score[j] += ks[j] * qs;
                }
            }
        }
        barrier();
        // Weights, over q and k: what a query does not see weighs nothing.
        [[unroll]] for (uint j = 0; j < 4; ++j) {
            const int key = first + int(key_4 + j);
            [[unroll]] for (uint l = 0; l < 4; ++l) {
                const uint query = query_4 + l;
                const int position = item.first_position + int(row_of(query));
                const bool seen = query < n_queries && key <= position && key >= first_key &&
                                  (p.window == 0 || position - key < int(p.window));
                block[(key_4 + j) * kStride + query] =
                    seen ? score[j][l] : uintBitsToFloat(0xFF800000u);
            }
        }
        barrier();
        // Four neighbours have a query, every fourth key each.
        {
            const uint query = i / 4, quarter = i % 4;
            float score_of[kKeys / 4];
            float most = top[query];
            [[unroll]] for (uint j = 0; j < kKeys / 4; ++j) {
                score_of[j] = block[(4 * j + quarter) * kStride + query];
                most = max(most, score_of[j]);
            }
            most = subgroupClusteredMax(most, 4);
            // A query without keys so far has most = -inf: its weights are 0, not NaN.
            const float base = most == uintBitsToFloat(0xFF800000u) ? 0.0 : most;
            float part = 0;
            [[unroll]] for (uint j = 0; j < kKeys / 4; ++j) {
                const float weight = exp(score_of[j] - base);
                block[(4 * j + quarter) * kStride + query] = weight;
                part += weight;
            }
            part = subgroupClusteredAdd(part, 4);
            if (quarter == 0) {
                faded[query] = exp(top[query] - base);
                total[query] = total[query] * faded[query] + part;
                top[query] = most;
            }
        }
        // Sums of V, part by part.
        [[unroll]] for (uint c = 0; c < kParts; ++c) {
            const uint vector = i / 4, e = i % 4 * 8;
            const int key = first + int(vector);
            vec4 a = vec4(0), b = vec4(0);
            if (key >= first_key && key <= last_key) {
                load_8(page_of(p.v_pool, item.table, key), uint(key) % kPageTokens, c * kPart + e, a,
                       b);
            }
            barrier();
            [[unroll]] for (uint j = 0; j < 4; ++j) {
                values[vector * kPart + e + j] = a[j];
                values[vector * kPart + e + 4 + j] = b[j];
            }
            barrier();
            vec4 fade;
            [[unroll]] for (uint j = 0; j < 4; ++j) fade[j] = faded[query_4 + j];
            vec4 sum_0 = sum[c][0] * fade, sum_1 = sum[c][1] * fade;
            [[dont_unroll]] for (uint first_j = 0; first_j < kKeys; first_j += kUnroll) {
                [[unroll]] for (uint k = 0; k < kUnroll; ++k) {
                    const uint j = first_j + k;
                    vec4 weight;
                    [[unroll]] for (uint l = 0; l < 4; ++l)
                        weight[l] = block[j * kStride + query_4 + l];
                    sum_0 += weight * values[j * kPart + e_2];
                    sum_1 += weight * values[j * kPart + e_2 + 1];
                }
            }
            sum[c][0] = sum_0;
            sum[c][1] = sum_1;
        }
    }
    barrier();
    [[unroll]] for (uint l = 0; l < 4; ++l) {
        const uint query = query_4 + l;
        if (query >= n_queries) continue;
        const float inverse = 1.0 / total[query];
        const uint head = gl_WorkGroupID.y * kGroup + query % kGroup;
        const uint row = uint(item.first_row) + row_of(query);
        const uint to = (row * p.n_kv_heads * kGroup + head) * kDim + e_2;
        [[unroll]] for (uint c = 0; c < kParts; ++c) {
            p.to.at[to + c * kPart] = sum[c][0][l] * inverse;
            p.to.at[to + c * kPart + 1] = sum[c][1][l] * inverse;
        }
    }
}
