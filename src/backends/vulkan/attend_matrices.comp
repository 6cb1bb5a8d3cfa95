#version 460
// Attention of a tile of consecutive rows on matrix units, for all query heads of a KV head: what
// attend_tiles.comp computes, by f16 x f16 -> f32. Workgroup (item, KV head, part of the item's
// query vectors).
//
// BQ query vectors (rows times heads) against blocks of BK keys, CHUNK elements of K or V in shared
// memory at a time; the words of the next chunk are on their way meanwhile. Subgroups share the
// scores [BQ, BK], then the sums of V [BQ, CHUNK], as WR x WC parts each. Scores pass through shared
// memory as f32, where few invocations have a row; so weights and what the sums fade by come back.
//
// Accuracy  q is rounded to f16 relative to the largest of its vector, as matmul.h's f16 form has
//           it, so q of any size stays finite. Keys and values in f16 are as they are; those in q8_0
//           are rounded times 2^-7, with which the largest is no infinity: by 2^-11 of their size,
//           at least 2^-18. Weights are rounded, relative to the largest so far, and add up as
//           rounded. Scores and sums are f32. With s = scale * sum|q k| of the key for which that is
//           most: the result is within ((2 s + 2) * 2^-11 + n * 2^-24) * max|v| of the exact one for
//           n keys in f16; in q8_0 4 s + 3 takes the place of 2 s + 2.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require

// attend_shape.cpp chooses these, so that nothing is left over where they are divided below.
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 2) const uint kDim = 64;   // E, a multiple of CHUNK
layout(constant_id = 3) const uint kType = 1;   // tensor::DType of the cache: f16 or q8_0
layout(constant_id = 4) const uint kGroup = 1;  // query heads of a KV head
layout(constant_id = 5) const uint BQ = 32;
layout(constant_id = 6) const uint BK = 64;     // a multiple of a page's 32
layout(constant_id = 7) const uint CHUNK = 64;
layout(constant_id = 8) const uint WR = 1;
layout(constant_id = 9) const uint WC = 4;
layout(constant_id = 10) const uint TM = 16;
layout(constant_id = 11) const uint TN = 16;
layout(constant_id = 12) const uint TK = 16;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Parts { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters { uint at[]; };
layout(buffer_reference) buffer Items;
#include "backends/vulkan/address.glsl"
#include "backends/vulkan/attention.params.h"
#include "backends/vulkan/kv_load.glsl"
#include "backends/vulkan/matmul_input.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Items { TileItem at[]; };
layout(push_constant) uniform Push { AttentionParams p; };

const uint INVOCATIONS = gl_WorkGroupSize.x;
const uint CHUNKS = kDim / CHUNK;
const uint RT = BQ / (WR * TM);     // matrices of a subgroup: rows of queries,
const uint KT = BK / (WC * TN);     // columns of keys,
const uint CT = CHUNK / (WC * TN);  // columns of V's elements
const uint PAGES = BK / kPageTokens;
const uint ITEMS = BK * CHUNK / 8 / INVOCATIONS;  // words of a chunk that an invocation moves
const uint ROW_INVOCATIONS = INVOCATIONS / BQ;    // neighbours that have a row of scores
const uint OCTETS = BK / 8 / ROW_INVOCATIONS;     // of keys, of each
const float kKvScale = kType == 1 ? 1.0 : 1.0 / 128;
const float kLog2E = 1.4426950408889634;

// In words of 16 bytes; rows are one longer, to spread the banks.
const uint Q_STRIDE = kDim / 8 + 1;
const uint KV_STRIDE = CHUNK / 8 + 1;
const uint S_STRIDE = BK / 4 + 1;
const uint KV_AT = BQ * Q_STRIDE;
const uint S_AT = KV_AT + BK * KV_STRIDE;
const uint FADE_AT = S_AT + BQ * S_STRIDE;
const uint WORDS = FADE_AT + BQ / 4;
const uint OUT_WORDS = RT * TM * TN / 4;  // of a subgroup, at the end
const uint SHARED_WORDS = WORDS > WR * WC * OUT_WORDS ? WORDS : WR * WC * OUT_WORDS;
// q, a chunk of K or V, scores (f32) or weights (f16), what sums fade by; at the end, results on
// their way out.
shared uvec4 staged[SHARED_WORDS];
shared float q_scale[BQ], inverse_total[BQ];

uvec4 next[ITEMS];  // of the next chunk
uint pages[PAGES];  // of its block: which of the pool

uvec4 to_halves(vec4 a, vec4 b) {
    return uvec4(packHalf2x16(a.xy), packHalf2x16(a.zw), packHalf2x16(b.xy), packHalf2x16(b.zw));
}

/// Finds the pages of the block at key `first`; those without keys that are seen are in no table.
void find_pages(int table, int first, int first_key, int last_key) {
    [[unroll]] for (uint n = 0; n < PAGES; ++n) {
        const int page = clamp(first / int(kPageTokens) + int(n), first_key / int(kPageTokens),
                               last_key / int(kPageTokens));
        pages[n] = uint(p.pages.at[table + page]) * p.n_kv_heads + gl_WorkGroupID.y;
    }
}

/// Reads chunk `c` of the block at key `first`. Keys that no query of the tile sees become 0: memory
/// that was never written may hold what times 0 is NaN.
void load_chunk(uvec2 pool, int first, int first_key, int last_key, uint c, uint i) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint in_block = item / (CHUNK / 8);
        const uint e = c * CHUNK + item % (CHUNK / 8) * 8;
        const int key = first + int(in_block);
        uint page = pages[0];
        [[unroll]] for (uint n = 1; n < PAGES; ++n)
            if (in_block >= n * kPageTokens) page = pages[n];
        next[k] = uvec4(0);
        if (key >= first_key && key <= last_key) {
            const uvec2 at = element_address(pool, page, kPageBytes);
            const uint token = in_block % kPageTokens;
            if (kType == 1) {
                next[k] = Pool(at).at[(token * kDim + e) / 8];
            } else {
                vec4 a, b;
                load_8(at, token, e, a, b);
                next[k] = to_halves(a * kKvScale, b * kKvScale);
            }
        }
    }
}

void stage_chunk(uint i) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        staged[KV_AT + item / (CHUNK / 8) * KV_STRIDE + item % (CHUNK / 8)] = next[k];
    }
}

/// Index of query vector `query` of the item in q and `to`, in vectors.
uint vector_at(TileItem item, uint query) {
    return (uint(item.first_row) + query / kGroup) * p.n_kv_heads * kGroup +
           gl_WorkGroupID.y * kGroup + query % kGroup;
}

void stage_queries(TileItem item, uint first_query, uint n_queries) {
    [[unroll]] for (uint r = 0; r < BQ / (WR * WC); ++r) {
        const uint query = r * (WR * WC) + gl_SubgroupID;
        const uint from = vector_at(item, first_query + query) * (kDim / 4);
        uint most = 0;
        for (uint o = gl_SubgroupInvocationID; o < kDim / 8; o += SUBGROUP) {
            if (query < n_queries) {
                most = max(most, largest_bits(Vectors(uvec2(p.q)).at[from + 2 * o],
                                              Vectors(uvec2(p.q)).at[from + 2 * o + 1]));
            }
        }
        const float scale = f16_scale(subgroupMax(most));
        const float inverse = isnan(scale) ? 0.0 : 1.0 / scale;
        for (uint o = gl_SubgroupInvocationID; o < kDim / 8; o += SUBGROUP) {
            uvec4 word = uvec4(0);
            if (query < n_queries && !isnan(scale)) {
                word = to_halves(Vectors(uvec2(p.q)).at[from + 2 * o] * inverse,
                                 Vectors(uvec2(p.q)).at[from + 2 * o + 1] * inverse);
            }
            staged[query * Q_STRIDE + o] = word;
        }
        if (gl_SubgroupInvocationID == 0) q_scale[query] = scale;
    }
}

void main() {
    const TileItem item = p.items.at[gl_WorkGroupID.x];
    const uint first_query = gl_WorkGroupID.z * BQ;  // of the item's
    if (item.first_row < 0 || first_query >= uint(item.n_rows) * kGroup) return;
    const uint n_queries = min(BQ, uint(item.n_rows) * kGroup - first_query);
    const uint wave = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    const uint i = wave * SUBGROUP + lane;         // neighbours are so in their subgroup
    const uint first_m = wave / WC * RT;           // of this subgroup's matrices
    const uint wave_n = wave % WC;
    const uint query = i / ROW_INVOCATIONS;        // of scores
    const uint part = i % ROW_INVOCATIONS;

    const int first_position = item.first_position + int(first_query / kGroup);
    const int last_key = item.first_position + int((first_query + n_queries - 1) / kGroup);
    const int first_key = p.window > 0 ? max(0, first_position - int(p.window) + 1) : 0;
    int first = first_key / int(BK) * int(BK);
    find_pages(item.table, first, first_key, last_key);
    load_chunk(uvec2(p.k_pool), first, first_key, last_key, 0, i);
    stage_queries(item, first_query, n_queries);

    coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> sum[CHUNKS * CT * RT];
    [[unroll]] for (uint f = 0; f < CHUNKS * CT * RT; ++f)
        sum[f] = coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(0.0);
    const float minus_infinity = uintBitsToFloat(0xFF800000u);
    float top = minus_infinity, total = 0;
    const int position = item.first_position + int((first_query + query) / kGroup);
    // Of the keys that `query` sees.
    const int last_seen = query < n_queries ? position : -1;
    const int first_seen = p.window > 0 ? max(0, position - int(p.window) + 1) : 0;

    [[dont_unroll]] for (; first <= last_key; first += int(BK)) {
        coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> score[KT * RT];
        [[unroll]] for (uint f = 0; f < KT * RT; ++f)
            score[f] = coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(0.0);
        [[dont_unroll]] for (uint c = 0; c < CHUNKS; ++c) {
            stage_chunk(i);
            barrier();
            if (c + 1 < CHUNKS) {
                load_chunk(uvec2(p.k_pool), first, first_key, last_key, c + 1, i);
            } else {
                load_chunk(uvec2(p.v_pool), first, first_key, last_key, 0, i);
            }
            [[unroll]] for (uint k = 0; k < CHUNK / TK; ++k) {
                coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> a[RT];
                [[unroll]] for (uint r = 0; r < RT; ++r) {
                    coopMatLoad(a[r], staged,
                                (first_m + r) * TM * Q_STRIDE + c * (CHUNK / 8) + k * (TK / 8),
                                Q_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                }
                [[unroll]] for (uint g = 0; g < KT; ++g) {
                    coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> b;
                    coopMatLoad(b, staged, KV_AT + (wave_n * KT + g) * TN * KV_STRIDE + k * (TK / 8),
                                KV_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                    [[unroll]] for (uint r = 0; r < RT; ++r)
                        score[g * RT + r] = coopMatMulAdd(a[r], b, score[g * RT + r]);
                }
            }
            if (c + 1 < CHUNKS) barrier();
        }
        [[unroll]] for (uint g = 0; g < KT; ++g) {
            [[unroll]] for (uint r = 0; r < RT; ++r) {
                coopMatStore(score[g * RT + r], staged,
                             S_AT + (first_m + r) * TM * S_STRIDE + (wave_n * KT + g) * (TN / 4),
                             S_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            }
        }
        barrier();
        {
            const float to_log2 = q_scale[query] * p.scale * (kLog2E / kKvScale);
            vec4 s[2 * OCTETS];
            float most = top;
            [[unroll]] for (uint o = 0; o < OCTETS; ++o) {
                const uint octet = o * ROW_INVOCATIONS + part;
                [[unroll]] for (uint h = 0; h < 2; ++h) {
                    const vec4 raw =
                        uintBitsToFloat(staged[S_AT + query * S_STRIDE + 2 * octet + h]) * to_log2;
                    const ivec4 key = first + int(8 * octet + 4 * h) + ivec4(0, 1, 2, 3);
                    [[unroll]] for (uint l = 0; l < 4; ++l) {
                        const bool seen = key[l] >= first_seen && key[l] <= last_seen;
                        s[2 * o + h][l] = seen ? raw[l] : minus_infinity;
                        most = max(most, s[2 * o + h][l]);
                    }
                }
            }
            [[unroll]] for (uint m = 1; m < ROW_INVOCATIONS; m *= 2)
                most = max(most, subgroupShuffleXor(most, m));
            // A query without keys so far has most = -inf: its weights are 0, not NaN.
            const float base = most == minus_infinity ? 0.0 : most;
            // All of a row have read it before its weights take its place.
            subgroupMemoryBarrierShared();
            subgroupBarrier();
            float sum_here = 0;
            [[unroll]] for (uint o = 0; o < OCTETS; ++o) {
                const uvec4 word = to_halves(exp2(s[2 * o] - base), exp2(s[2 * o + 1] - base));
                staged[S_AT + query * S_STRIDE + o * ROW_INVOCATIONS + part] = word;
                [[unroll]] for (uint l = 0; l < 4; ++l) {
                    const vec2 rounded = unpackHalf2x16(word[l]);
                    sum_here += rounded.x + rounded.y;
                }
            }
            [[unroll]] for (uint m = 1; m < ROW_INVOCATIONS; m *= 2)
                sum_here += subgroupShuffleXor(sum_here, m);
            const float fade = exp2(top - base);
            if (part == 0) staged[FADE_AT + query / 4][query % 4] = floatBitsToUint(fade);
            total = total * fade + sum_here;
            top = most;
        }
        const bool has_next = first + int(BK) <= last_key;
        [[unroll]] for (uint c = 0; c < CHUNKS; ++c) {
            stage_chunk(i);
            barrier();
            if (c + 1 < CHUNKS) {
                load_chunk(uvec2(p.v_pool), first, first_key, last_key, c + 1, i);
            } else if (has_next) {
                find_pages(item.table, first + int(BK), first_key, last_key);
                load_chunk(uvec2(p.k_pool), first + int(BK), first_key, last_key, 0, i);
            }
            if (c == 0) {
                [[unroll]] for (uint r = 0; r < RT; ++r) {
                    // Every column the same.
                    coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> fade;
                    coopMatLoad(fade, staged, FADE_AT + (first_m + r) * (TM / 4), 0,
                                gl_CooperativeMatrixLayoutColumnMajor);
                    [[unroll]] for (uint f = 0; f < CHUNKS * CT; ++f)
                        sum[f * RT + r] = sum[f * RT + r] * fade;
                }
            }
            [[unroll]] for (uint k = 0; k < BK / TK; ++k) {
                coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> a[RT];
                [[unroll]] for (uint r = 0; r < RT; ++r) {
                    coopMatLoad(a[r], staged, S_AT + (first_m + r) * TM * S_STRIDE + k * (TK / 8),
                                S_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                }
                [[unroll]] for (uint g = 0; g < CT; ++g) {
                    coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> b;
                    coopMatLoad(b, staged,
                                KV_AT + k * TK * KV_STRIDE + (wave_n * CT + g) * (TN / 8),
                                KV_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                    [[unroll]] for (uint r = 0; r < RT; ++r) {
                        sum[(c * CT + g) * RT + r] =
                            coopMatMulAdd(a[r], b, sum[(c * CT + g) * RT + r]);
                    }
                }
            }
            barrier();
        }
    }
    if (part == 0) inverse_total[query] = 1.0 / (total * kKvScale);
    barrier();

    // Each subgroup passes its matrices through its part of shared memory, some columns at a time.
    const uint mine = wave * OUT_WORDS;
    [[unroll]] for (uint f = 0; f < CHUNKS * CT; ++f) {
        [[unroll]] for (uint r = 0; r < RT; ++r) {
            coopMatStore(sum[f * RT + r], staged, mine + r * (TM * TN / 4), TN / 4,
                         gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        const uint e = f / CT * CHUNK + (wave_n * CT + f % CT) * TN;
        for (uint o = lane; o < OUT_WORDS; o += SUBGROUP) {
            const uint of = first_m * TM + o / (TN / 4);
            if (of >= n_queries) continue;
            const uint to = (vector_at(item, first_query + of) * kDim + e) / 4 + o % (TN / 4);
            Vectors(uvec2(p.to)).at[to] = uintBitsToFloat(staged[mine + o]) * inverse_total[of];
        }
        subgroupBarrier();
    }
}
