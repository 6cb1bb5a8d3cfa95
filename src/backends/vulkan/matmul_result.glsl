// How matmul_coopmat*.comp write results, and add up those of workgroups that share one, each with
// some of the columns. Include it after defining BM, BN, INVOCATIONS, EPILOGUE, INT8_OUT, the push
// constants `p` and row_scale(t), which a row of products is multiplied with.
#include "backends/vulkan/matmul_input.glsl"

// [parts, workgroups, BN, BM] of sums.
layout(buffer_reference, std430, buffer_reference_align = 16) coherent buffer Sums { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters { uint at[]; };

const bool GATED = EPILOGUE != EPILOGUE_NONE;
const uint OUT_M = GATED ? BM / 2 : BM;  // rows that come of BM
// Fours of rows that an invocation writes at a time: store_int8() takes eight.
const uint QUADS = INT8_OUT == 1 ? 2 : 1;

shared bool is_last;

/// Of BM, the row of a result's row `r`: the row itself, or that of the gate.
uint row_of_gate(uint r) { return GATED ? r / ROWS * (2 * ROWS) + r % ROWS : r; }

/// Rows of a result from `row` on. With INT8_OUT, four invocations write 32 of a row `t`.
void write(uint m, uint t, uint row, vec4 values[QUADS], vec4 ups[QUADS]) {
    if (t >= p.n_rows || row >= p.out_rows[m]) return;
    const float scale = row_scale(t);
    [[unroll]] for (uint q = 0; q < QUADS; ++q) {
        values[q] *= scale;
        [[unroll]] for (uint k = 0; k < 4; ++k) {
            if (GATED) values[q][k] = gated(values[q][k], ups[q][k] * scale);
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
