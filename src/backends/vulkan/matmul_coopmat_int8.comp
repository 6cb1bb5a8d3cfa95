#version 460
// Many rows of activations times weights on matrix units: int8 x int8 -> s32, scaled and added up in
// f32 for each 32 columns.
//
// A workgroup computes BM rows of weights x BN rows of activations, step by step of BK columns. A
// subgroup has WM rows and one of KS parts of a step's columns: it unpacks codes to bytes into its
// own piece of shared memory, and multiplies them with activations, which the workgroup shares. The
// words of the next step are on their way meanwhile: enough of them must be to stand the latency of
// memory. With an epilogue, tiles of gate and up alternate in BM.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 2) const uint TYPE = 2;
layout(constant_id = 3) const uint EPILOGUE = 0;
layout(constant_id = 4) const uint BM = 64;
layout(constant_id = 5) const uint BN = 16;
layout(constant_id = 6) const uint BK = 256;  // of them a subgroup gets 32 for each of SUBGROUP / WM
layout(constant_id = 7) const uint WM = 32;   // divides SUBGROUP
layout(constant_id = 8) const uint KS = 2;
layout(constant_id = 9) const uint TM = 16;
layout(constant_id = 10) const uint TN = 16;
layout(constant_id = 11) const uint TK = 32;  // 16 or 32
layout(constant_id = 12) const uint SPLIT = 0;  // 1: workgroups share a result, each some columns
layout(constant_id = 13) const uint INT8_OUT = 0;  // 1: outs[0] as int8, too

#include "backends/vulkan/matmul_epilogue.glsl"
#include "backends/vulkan/matmul_input.glsl"
#include "backends/vulkan/matmul_weights.glsl"

// [parts, workgroups, BN, BM] of sums.
layout(buffer_reference, std430, buffer_reference_align = 16) coherent buffer Sums { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters { uint at[]; };
#include "backends/vulkan/matmul.params.h"
layout(push_constant) uniform Push { MatmulParams p; };

const bool GATED = EPILOGUE != EPILOGUE_NONE;
const uint OUT_M = GATED ? BM / 2 : BM;  // rows that come of BM
// Fours of rows that an invocation writes at a time: store_int8() takes eight.
const uint QUADS = INT8_OUT == 1 ? 2 : 1;
const uint INVOCATIONS = gl_WorkGroupSize.x;
const uint WAVES_M = BM / WM;
const uint PART = BK / KS;    // columns of a subgroup in a step
const uint GROUPS = BK / 32;  // of columns with a scale of activations
const uint PART_GROUPS = PART / 32;
const uint MINS = HAS_MIN ? 1 : 0;
const uint FM = WM / TM;
const uint FN = BN / TN;
const uint K_STEPS = 32 / TK;

// Units of a subgroup, that many of each invocation.
const uint ITEMS = WM * PART / (32 * SUBGROUP);
const uint X_WORDS = BN * BK / 16;
const uint X_ITEMS = (X_WORDS + INVOCATIONS - 1) / INVOCATIONS;
const uint S_ITEMS = (BN * GROUPS + INVOCATIONS - 1) / INVOCATIONS;

// Rows have 16 bytes more than their codes, to spread the banks.
const uint A_STRIDE = PART / 16 + 1;
const uint A_WORDS = WM * A_STRIDE;  // of a subgroup
const uint X_STRIDE = BK / 16 + 1;
const uint X_BASE = WAVES_M * KS * A_WORDS;
const uint STAGED_WORDS = X_BASE + 2 * BN * X_STRIDE;
const uint OUT_WORDS = KS * TN * BM / 4;  // at the end
shared uvec4 staged[STAGED_WORDS > OUT_WORDS ? STAGED_WORDS : OUT_WORDS];
// Of weights, by subgroup and group: scales of the rows, then their minima. Of activations, by buffer
// and group: scales, then the sums that minima are multiplied with. (Matrices are loaded from here,
// which must be aligned like them, as no array of floats is.)
const uint W_SCALES = PART_GROUPS * (1 + MINS) * WM;  // of a subgroup
const uint X_SCALES = GROUPS * (1 + MINS) * BN;
shared vec4 w_scales[WAVES_M * KS * W_SCALES / 4];
shared vec4 x_scales[2 * X_SCALES / 4];
shared bool is_last;

// Of an invocation, of the next step.
Tile tile;
Unit next_units[ITEMS];
uvec4 next_x[X_ITEMS];
uvec2 next_side[S_ITEMS];

void load_step(uint step, uint i, uint lane, uint part, uint first_t) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        // Past the last column: whatever is there, times zeros.
        const uint col = step * BK + part * PART + (k * SUBGROUP + lane) / WM * 32;
        next_units[k] = load_unit(tile, min(col, p.cols - 1) / 32, lane % ROWS);
    }
    [[unroll]] for (uint k = 0; k < X_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint t = min(first_t + item / (BK / 16), p.n_rows - 1);
        const uint col = step * BK + item % (BK / 16) * 16;
        next_x[k] = Words4(p.x).at[t * (p.cols / 16) + min(col, p.cols - 16) / 16];
    }
    [[unroll]] for (uint k = 0; k < S_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint t = min(first_t + item / GROUPS, p.n_rows - 1);
        const uint group = step * GROUPS + item % GROUPS;
        next_side[k] = uvec2(0);
        if (group < p.cols / 32)
            next_side[k] = Words2(p.x).at[p.n_rows * (p.cols / 8) + t * (p.cols / 32) + group];
    }
}

/// Codes of columns 4 j ... 4 j + 3 of a unit as signed bytes, less what a code of 0 stands for,
/// times CODE_FACTOR.
const uint CODE_FACTOR = TYPE == Q4_0 ? 16 : TYPE == Q5_0 ? 8 : 1;
uint signed_quad(Unit u, uint j) {
    // 16 (code - 8) is a code in a byte's upper half with its highest bit inverted.
    if (TYPE == Q4_0)
        return ((u.codes[0][j / 2 % 4] << (j % 2 == 0 ? 4 : 0)) & 0xF0F0F0F0u) ^ 0x80808080u;
    if (TYPE == Q5_0) return (quad(u, j) << 3) ^ 0x80808080u;
    return quad(u, j);
}

void put_w(uint at, float value) { w_scales[at / 4][at % 4] = value; }
void put_x(uint at, float value) { x_scales[at / 4][at % 4] = value; }

void stage(uint i, uint lane, uint wave, uint buf) {
    [[unroll]] for (uint k = 0; k < ITEMS; ++k) {
        const uint item = k * SUBGROUP + lane;
        const uint row = item % WM;
        const uint group = item / WM;
        const uint at = wave * A_WORDS + row * A_STRIDE + group * 2;
        [[unroll]] for (uint h = 0; h < 2; ++h) {
            uvec4 word;
            [[unroll]] for (uint j = 0; j < 4; ++j)
                word[j] = signed_quad(next_units[k], 4 * h + j);
            staged[at + h] = word;
        }
        const uint to = wave * W_SCALES + group * (1 + MINS) * WM + row;
        const vec2 s = scale_offset(next_units[k], 0);
        put_w(to, s.x * (1.0 / float(CODE_FACTOR)));
        if (HAS_MIN) put_w(to + WM, s.y);
    }
    [[unroll]] for (uint k = 0; k < X_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        if (X_WORDS % INVOCATIONS == 0 || item < X_WORDS)
            staged[X_BASE + (buf * BN + item / (BK / 16)) * X_STRIDE + item % (BK / 16)] = next_x[k];
    }
    [[unroll]] for (uint k = 0; k < S_ITEMS; ++k) {
        const uint item = k * INVOCATIONS + i;
        const uint to = buf * X_SCALES + item % GROUPS * (1 + MINS) * BN + item / GROUPS;
        if ((BN * GROUPS) % INVOCATIONS == 0 || item < BN * GROUPS) {
            const float scale = uintBitsToFloat(next_side[k].x);
            const int low = bitfieldExtract(int(next_side[k].y), 0, 16);
            const int high = bitfieldExtract(int(next_side[k].y), 16, 16);
            put_x(to, scale);
            if (HAS_MIN) put_x(to + BN, scale * float(low + high));
        }
    }
}

#define SUMS coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>
#define PRODUCTS coopmat<int, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>

/// Of BM, the row of a result's row `r`: the row itself, or that of the gate.
uint row_of_gate(uint r) { return GATED ? r / ROWS * (2 * ROWS) + r % ROWS : r; }

/// Rows of a result from `row` on. With INT8_OUT, four invocations write 32 of a row `t`.
void write(uint m, uint t, uint row, vec4 values[QUADS], vec4 ups[QUADS]) {
    if (t >= p.n_rows || row >= p.out_rows[m]) return;
    [[unroll]] for (uint q = 0; q < QUADS; ++q) {
        [[unroll]] for (uint k = 0; k < 4; ++k) {
            if (GATED) values[q][k] = gated(values[q][k], ups[q][k]);
            const uint r = row + 4 * q + k;
            if (r < p.out_rows[m]) Outs(p.outs[m]).at[t * p.out_rows[m] + r] = values[q][k];
        }
    }
    if (INT8_OUT == 1)
        store_int8(p.int8, p.n_rows, p.out_rows[m], t, row / 8, values[0], values[QUADS - 1]);
}

/// Where in `partial` the sums of a part of these rows' columns begin.
uint sums_of(uint part) {
    const uint groups = gl_NumWorkGroups.x * gl_NumWorkGroups.y;
    const uint here = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    return (part * groups + here) * (BN * BM / 4);
}

/// After all invocations `i` have written to sums_of(gl_WorkGroupID.z): the last of the workgroups
/// with these rows adds up all parts, in the same order always.
void add_up_parts(uint i, uint m, uint first_t, uint first_row) {
    // Each invocation's sums are there for all to see before the count says so.
    memoryBarrierBuffer();
    barrier();
    if (i == 0) {
        const uint here = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
        is_last = atomicAdd(Counters(p.done).at[here], 1) + 1 == gl_NumWorkGroups.z;
        if (is_last) Counters(p.done).at[here] = 0;
    }
    barrier();
    if (!is_last) return;
    memoryBarrierBuffer();
    const uint in_row = OUT_M / (4 * QUADS);
    for (uint o = i; o < in_row * BN; o += INVOCATIONS) {
        const uint r = o % in_row * (4 * QUADS);
        const uint n = o / in_row;
        vec4 values[QUADS], ups[QUADS];
        [[unroll]] for (uint q = 0; q < QUADS; ++q) {
            values[q] = vec4(0);
            ups[q] = vec4(0);
            for (uint part = 0; part < gl_NumWorkGroups.z; ++part) {
                const uint from = sums_of(part) + (n * BM + row_of_gate(r + 4 * q)) / 4;
                values[q] += Sums(p.partial).at[from];
                if (GATED) ups[q] += Sums(p.partial).at[from + ROWS / 4];
            }
        }
        write(m, first_t + n, first_row + r, values, ups);
    }
}

/// A word of [TN][BM] of the sums in shared memory, of all parts of a step.
vec4 staged_sum(uint word) {
    vec4 sum = vec4(0);
    [[unroll]] for (uint k = 0; k < KS; ++k)
        sum += uintBitsToFloat(staged[k * TN * BM / 4 + word]);
    return sum;
}

void main() {
    const uint lane = gl_SubgroupInvocationID;
    const uint wave = gl_SubgroupID;
    const uint i = wave * SUBGROUP + lane;
    const uint wave_m = wave % WAVES_M * WM;
    const uint part = wave / WAVES_M;
    const uint first_t = gl_WorkGroupID.x * BN;

    uint group = gl_WorkGroupID.y;
    uint m = 0;
    if (!GATED) {
        [[unroll]] for (uint k = 0; k < 2; ++k) {
            const uint groups = (p.out_rows[k] + BM - 1) / BM;
            if (m == k && group >= groups) {
                group -= groups;
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

    SUMS sum[FM * FN];
    [[unroll]] for (uint f = 0; f < FM * FN; ++f) sum[f] = SUMS(0.0);

    const uint t16 = (wave_m + lane % WM) / ROWS;
    tile = tile_at(GATED ? p.weights[t16 % 2] : p.weights[m], p.cols,
                   min(first_tile + (GATED ? t16 / 2 : t16), tiles - 1));

    load_step(begin, i, lane, part, first_t);
    [[dont_unroll]] for (uint step = begin; step < end; ++step) {
        const uint buf = step % 2;
        // Codes of the step before have been read by their own subgroup; activations lie in the
        // other buffer.
        subgroupBarrier();
        stage(i, lane, wave, buf);
        if (step + 1 < end) load_step(step + 1, i, lane, part, first_t);
        barrier();
        [[unroll]] for (uint u = 0; u < PART_GROUPS; ++u) {
            // Keeps what the next groups load out of the registers.
            subgroupBarrier();
            coopmat<int8_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> a[FM * K_STEPS];
            SUMS w_scale[FM], w_min[FM];
            const uint w_at = wave * W_SCALES + u * (1 + MINS) * WM;
            [[unroll]] for (uint f = 0; f < FM; ++f) {
                [[unroll]] for (uint k = 0; k < K_STEPS; ++k)
                    coopMatLoad(a[f * K_STEPS + k], staged,
                                wave * A_WORDS + f * TM * A_STRIDE + u * 2 + k * (TK / 16),
                                A_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                // All columns are alike.
                coopMatLoad(w_scale[f], w_scales, (w_at + f * TM) / 4, 0,
                            gl_CooperativeMatrixLayoutColumnMajor);
                if (HAS_MIN)
                    coopMatLoad(w_min[f], w_scales, (w_at + WM + f * TM) / 4, 0,
                                gl_CooperativeMatrixLayoutColumnMajor);
            }
            const uint x_group = part * PART_GROUPS + u;
            const uint x_at = buf * X_SCALES + x_group * (1 + MINS) * BN;
            [[unroll]] for (uint g = 0; g < FN; ++g) {
                coopmat<int8_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> b[K_STEPS];
                [[unroll]] for (uint k = 0; k < K_STEPS; ++k)
                    coopMatLoad(b[k], staged,
                                X_BASE + (buf * BN + g * TN) * X_STRIDE + x_group * 2 +
                                    k * (TK / 16),
                                X_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                // All rows are alike.
                SUMS x_scale, x_sum;
                coopMatLoad(x_scale, x_scales, (x_at + g * TN) / 4, 0,
                            gl_CooperativeMatrixLayoutRowMajor);
                if (HAS_MIN)
                    coopMatLoad(x_sum, x_scales, (x_at + BN + g * TN) / 4, 0,
                                gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (uint f = 0; f < FM; ++f) {
                    PRODUCTS products = PRODUCTS(0);
                    [[unroll]] for (uint k = 0; k < K_STEPS; ++k)
                        products = coopMatMulAdd(a[f * K_STEPS + k], b[k], products);
                    sum[g * FM + f] += SUMS(products) * (w_scale[f] * x_scale);
                    if (HAS_MIN) sum[g * FM + f] += w_min[f] * x_sum;
                }
            }
        }
    }

    // TN rows of activations at a time pass through shared memory: [KS][TN][BM] f32.
    [[unroll]] for (uint g = 0; g < FN; ++g) {
        barrier();
        [[unroll]] for (uint f = 0; f < FM; ++f) {
            coopMatStore(sum[g * FM + f], staged, (part * TN * BM + wave_m + f * TM) / 4, BM / 4,
                         gl_CooperativeMatrixLayoutColumnMajor);
        }
        barrier();
        if (SPLIT == 1) {
            const uint to = sums_of(gl_WorkGroupID.z) + g * TN * BM / 4;
            for (uint o = i; o < TN * BM / 4; o += INVOCATIONS)
                Sums(p.partial).at[to + o] = staged_sum(o);
            continue;
        }
        const uint in_row = OUT_M / (4 * QUADS);
        for (uint o = i; o < in_row * TN; o += INVOCATIONS) {
            const uint r = o % in_row * (4 * QUADS);
            const uint n = o / in_row;
            vec4 values[QUADS], ups[QUADS];
            [[unroll]] for (uint q = 0; q < QUADS; ++q) {
                const uint word = (n * BM + row_of_gate(r + 4 * q)) / 4;
                values[q] = staged_sum(word);
                ups[q] = GATED ? staged_sum(word + ROWS / 4) : vec4(0);
            }
            write(m, first_t + g * TN + n, first_tile * ROWS + r, values, ups);
        }
    }
    if (SPLIT == 1) add_up_parts(i, m, first_t, first_tile * ROWS);
}
