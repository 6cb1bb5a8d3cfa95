#version 460
// Many rows of activations times weights on matrix units: f16 x f16 -> f32.
//
// A workgroup computes BM rows of weights x BN rows of activations. Step by step of BK columns it
// decodes weights to f16 into shared memory, beside the activations; while its subgroups multiply
// what one buffer holds, the words of the next step are on their way. A subgroup has WM x WN of the
// result, as matrices of TM x TN. With an epilogue, tiles of gate and up alternate in BM.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 2) const uint TYPE = 2;
layout(constant_id = 3) const uint EPILOGUE = 0;
layout(constant_id = 4) const uint BM = 128;
layout(constant_id = 5) const uint BN = 128;
layout(constant_id = 6) const uint BK = 32;  // a multiple of 32
layout(constant_id = 7) const uint WM = 64;
layout(constant_id = 8) const uint WN = 64;
layout(constant_id = 9) const uint TM = 16;
layout(constant_id = 10) const uint TN = 16;
layout(constant_id = 11) const uint TK = 16;
layout(constant_id = 12) const uint BUFFERS = 2;
layout(constant_id = 13) const uint SPLIT = 0;  // 1: columns are split, sums go to `partial`

#include "backends/vulkan/matmul_epilogue.glsl"
#include "backends/vulkan/matmul_weights.glsl"

layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float at[]; };
#include "backends/vulkan/matmul.params.h"
layout(push_constant) uniform Push { MatmulParams p; };

const bool GATED = EPILOGUE != EPILOGUE_NONE;
const uint INVOCATIONS = gl_WorkGroupSize.x;
const uint STRIDE = BK / 8 + 1;  // 16-byte words from row to row: one more, to spread the banks
const uint BUFFER_WORDS = (BM + BN) * STRIDE;
// An item is a part of a row of weights that one invocation decodes: 32 columns, or fewer when there
// are more invocations than that.
const uint ITEM_COLS = BM * BK / INVOCATIONS < 32 ? BM * BK / INVOCATIONS : 32;
const uint ITEMS = BM * BK / (ITEM_COLS * INVOCATIONS);
const uint X_WORDS = BN * BK / 8;
const uint X_ITEMS = (X_WORDS + INVOCATIONS - 1) / INVOCATIONS;
const uint FM = WM / TM;
const uint FN = WN / TN;

// Staged weights and activations; at the end, results on their way out: for each subgroup WM x TN.
const uint OUT_WORDS = INVOCATIONS / SUBGROUP * WM * TN / 4;
const uint SHARED_WORDS = BUFFERS * BUFFER_WORDS > OUT_WORDS ? BUFFERS * BUFFER_WORDS : OUT_WORDS;
shared uvec4 staged[SHARED_WORDS];

// Of an invocation: its items of weights and its words of activations, of the next step. (Keeping
// those of several steps took three times as long on an H200.)
Tile tile[ITEMS];
Unit next_units[ITEMS];
uvec4 next_x[X_ITEMS];

/// Reads the words of a step.
void load_step(uint step, uint i, uint first_t) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        // Past the last column: whatever is there, times zeros.
        const uint col = min(step * BK + item / BM * ITEM_COLS, p.cols - 1);
        next_units[k] = load_unit(tile[k], col / UNIT_COLS, item % ROWS);
    }
    [[unroll]] for (uint k = 0; k < X_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint t = min(first_t + item / (BK / 8), p.n_rows - 1);
        const uint col = step * BK + item % (BK / 8) * 8;
        next_x[k] = uvec4(0);
        if (col < p.cols) next_x[k] = Words4(p.x).at[t * (p.cols / 8) + col / 8];
    }
}

/// Decodes what load_step() read to f16 in shared memory.
void stage(uint step, uint i, uint base) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint in_step = item / BM * ITEM_COLS;
        const uint col = step * BK + in_step;
        const Unit u = second_half(next_units[k], col / 32 % 2);
        const uint first_quad = in_step % 32 / 4;
        const uint at = base + item % BM * STRIDE + in_step / 8;
        [[unroll]] for (uint q = 0; q < 4; ++q) {
            // Eight columns; which ones the invocation has is no constant when an item is less than
            // a unit.
            if (ITEM_COLS == 32 ||
                (q * 2 >= first_quad && q * 8 < first_quad * 4 + ITEM_COLS)) {
                const f16vec2 s = IS_FLOAT ? f16vec2(0) : f16vec2(scale_offset(u, q / 2));
                staged[at + q - first_quad / 2] =
                    uvec4(quad_halves(u, 2 * q, s), quad_halves(u, 2 * q + 1, s));
            }
        }
    }
    [[unroll]] for (uint k = 0; k < X_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        if (X_WORDS % INVOCATIONS == 0 || item < X_WORDS)
            staged[base + (BM + item / (BK / 8)) * STRIDE + item % (BK / 8)] =
                next_x[k];
    }
}

void main() {
    const uint i = gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID;
    const uint wave = gl_SubgroupID;
    const uint wave_m = wave % (BM / WM) * WM;
    const uint wave_n = wave / (BM / WM) * WN;
    const uint first_t = gl_WorkGroupID.x * BN;

    uint group = gl_WorkGroupID.y;
    uint m = 0;
    uint partial_row = 0;
    if (!GATED) {
        [[unroll]] for (uint k = 0; k < 2; ++k) {
            const uint groups = (p.out_rows[k] + BM - 1) / BM;
            if (m == k && group >= groups) {
                group -= groups;
                partial_row += p.out_rows[k];
                m = k + 1;
            }
        }
    }
    const uint out_rows = p.out_rows[m];
    const uint tiles = (out_rows + ROWS - 1) / ROWS;
    const uint tiles_here = GATED ? BM / (2 * ROWS) : BM / ROWS;
    const uint first_tile = group * tiles_here;

    // The steps of this part of the columns.
    const uint steps = (p.cols + BK - 1) / BK;
    const uint begin = SPLIT == 0 ? 0 : steps * gl_WorkGroupID.z / gl_NumWorkGroups.z;
    const uint end = SPLIT == 0 ? steps : steps * (gl_WorkGroupID.z + 1) / gl_NumWorkGroups.z;

    coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> sum[FM * FN];
    [[unroll]] for (uint f = 0; f < FM * FN; ++f)
        sum[f] = coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(0.0);

    // Neighbours take rows, so that they read neighbouring words.
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint t = ((k * INVOCATIONS + i) % BM) / ROWS;
        const uint index = min(first_tile + (GATED ? t / 2 : t), tiles - 1);
        tile[k] = tile_at(GATED ? p.weights[t % 2] : p.weights[m], p.cols, index);
    }

    load_step(begin, i, first_t);
    [[dont_unroll]] for (uint step = begin; step < end; ++step) {
        const uint base = BUFFERS == 2 ? step % 2 * BUFFER_WORDS : 0;
        stage(step, i, base);
        barrier();
        if (step + 1 < end) load_step(step + 1, i, first_t);
        [[unroll]] for (uint k = 0; k < BK / TK; ++k) {
            coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> a[FM];
            [[unroll]] for (uint f = 0; f < FM; ++f) {
                coopMatLoad(a[f], staged, base + (wave_m + f * TM) * STRIDE + k * (TK / 8), STRIDE,
                            gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint g = 0; g < FN; ++g) {
                coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> b;
                coopMatLoad(b, staged, base + (BM + wave_n + g * TN) * STRIDE + k * (TK / 8),
                            STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint f = 0; f < FM; ++f)
                    sum[g * FM + f] = coopMatMulAdd(a[f], b, sum[g * FM + f]);
            }
        }
        // With two buffers the next barrier is enough: who stages into this one again has passed
        // it, and so has finished here.
        if (BUFFERS == 1) barrier();
    }
    barrier();

    // Each subgroup passes TN rows of activations at a time through its part of shared memory:
    // [TN][WM] f32.
    const uint lane = gl_SubgroupInvocationID;
    const uint mine = wave * (WM * TN / 4);
    [[unroll]] for (uint g = 0; g < FN; ++g) {
        [[unroll]] for (uint f = 0; f < FM; ++f) {
            coopMatStore(sum[g * FM + f], staged, mine + f * TM / 4, WM / 4,
                         gl_CooperativeMatrixLayoutColumnMajor);
        }
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        const uint out_m = GATED && SPLIT == 0 ? WM / 2 : WM;  // rows that come of WM
        for (uint o = lane; o < out_m / 4 * TN; o += SUBGROUP) {
            const uint r = o % (out_m / 4) * 4;  // of the subgroup's
            const uint n = o / (out_m / 4);
            const uint t = first_t + wave_n + g * TN + n;
            if (t >= p.n_rows) continue;
            const uint word = mine + n * (WM / 4);
            vec4 value;
            uint out_row;
            if (SPLIT == 1) {
                value = uintBitsToFloat(staged[word + r / 4]);
                const uint row_here = wave_m + r;
                uint first = partial_row;
                if (GATED) {
                    out_row = (first_tile + row_here / (2 * ROWS)) * ROWS + row_here % ROWS;
                    first = row_here / ROWS % 2 * out_rows;
                } else {
                    out_row = first_tile * ROWS + row_here;
                }
                const uint total = p.out_rows[0] + p.out_rows[1] + p.out_rows[2];
                const uint to = (gl_WorkGroupID.z * p.n_rows + t) * total + first + out_row;
                [[unroll]] for (uint k = 0; k < 4; ++k)
                    if (out_row + k < out_rows) Outs(p.partial).at[to + k] = value[k];
            } else {
                const float scale = Floats(p.x).at[(p.n_rows * p.cols) / 2 + t];
                if (GATED) {
                    const uint in_tile = r % ROWS / 4;
                    const uint pair = word + r / ROWS * (2 * ROWS / 4) + in_tile;
                    const vec4 gate = uintBitsToFloat(staged[pair]) * scale;
                    const vec4 up = uintBitsToFloat(staged[pair + ROWS / 4]) * scale;
                    [[unroll]] for (uint k = 0; k < 4; ++k) value[k] = gated(gate[k], up[k]);
                    out_row = first_tile * ROWS + wave_m / 2 + r;
                } else {
                    value = uintBitsToFloat(staged[word + r / 4]) * scale;
                    out_row = first_tile * ROWS + wave_m + r;
                }
                [[unroll]] for (uint k = 0; k < 4; ++k)
                    if (out_row + k < out_rows)
                        Outs(p.outs[m]).at[t * out_rows + out_row + k] = value[k];
            }
        }
        subgroupBarrier();
    }
}
