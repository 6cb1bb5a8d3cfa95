// Few rows of activations times weights: every weight is read once for up to 8 rows. Included by
// matvec_dot4.comp (DOT4: int8 activations) and matvec_plain.comp (f32 activations), and by those
// where the last workgroup to finish does what comes next, too, for T = 1 (NORMS: matvec_norm.comp,
// CACHES: matvec_qkv.comp).
//
// A workgroup computes the rows of PANELS tiles (of gate and up both, with an epilogue), an
// invocation LANE_ROWS rows of each: i % ROW_LANES, and those ROW_LANES, 2 ROW_LANES, ... after it,
// so that neighbours read neighbouring words, and what is read of the activations serves several
// rows. (On an H200 one row an invocation took 2.5 times as long for T = 8: the activations' way
// through the L1 cache was the limit.) Its columns are the units i / ROW_LANES, SLOTS after that, and
// so on; UNROLL units are read while the UNROLL before them are used. Units past the end read the last
// one and count for nothing: a branch would make each load wait for the one before.
#extension GL_EXT_buffer_reference : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 2) const uint TYPE = 2;
layout(constant_id = 3) const uint T = 1;  // rows of activations of a workgroup
layout(constant_id = 4) const uint EPILOGUE = 0;
layout(constant_id = 5) const uint PANELS = 1;
layout(constant_id = 6) const uint UNROLL = 1;
layout(constant_id = 7) const uint LANE_ROWS = 4;
layout(constant_id = 8) const uint QUANTIZES = 0;  // 1: two PANELS, one matrix's rows, a multiple of 32

#ifdef NORMS
layout(constant_id = 9) const uint kForm = 0;
const bool kAdds = true;
#define FINISH RmsNormParams
#define OUTS_ARE coherent
#include "backends/vulkan/last_workgroup.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) coherent readonly buffer NormInput { vec4 at[]; };
#include "backends/vulkan/norm_row.glsl"
#elif defined(CACHES)
layout(constant_id = 9) const uint kDim = 64;
layout(constant_id = 10) const uint kType = 0;
#define FINISH QkvToCacheParams
#define OUTS_ARE coherent
#include "backends/vulkan/last_workgroup.glsl"
layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer HeadFloats { float at[]; };
#include "backends/vulkan/qkv_head.glsl"
#include "backends/vulkan/matmul_input.glsl"
#else
#include "backends/vulkan/matmul_input.glsl"
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors { vec4 at[]; };
#endif
#include "backends/vulkan/matmul_epilogue.glsl"
#include "backends/vulkan/matmul_weights.glsl"
#include "backends/vulkan/matmul.params.h"
#ifdef FINISH
layout(push_constant) uniform Push {
    MatmulParams p;
    FINISH finish;
    Counters done;  // [1] for norms, [heads] for the cache
};
#else
layout(push_constant) uniform Push { MatmulParams p; };
#endif

const bool GATED = EPILOGUE != EPILOGUE_NONE;
const uint TILES = GATED ? 2 * PANELS : PANELS;
const uint STREAMS = TILES * LANE_ROWS;  // rows of weights of an invocation
const uint SUMS = STREAMS * T;           // of an invocation
const uint ROW_LANES = ROWS / LANE_ROWS;
const uint SLOTS = gl_WorkGroupSize.x / ROW_LANES;
const uint WIDTH = SUBGROUP > ROW_LANES ? SUBGROUP : ROW_LANES;
const uint PARTS = gl_WorkGroupSize.x / WIDTH;
const uint BLOCKS = UNIT_COLS / 32;
const uint WRITERS = (PANELS * T * ROWS + SUBGROUP - 1) / SUBGROUP;  // the first subgroups
shared float parts[PARTS * SUMS * ROW_LANES];
shared float results[QUANTIZES == 1 ? T * 2 * ROWS : 1];  // [T][32]: a group of int8

#ifdef DOT4
// OpSDot over four packed int8: capabilities DotProductInput4x8BitPacked and DotProduct.
spirv_instruction(capabilities = [6018, 6019], id = 4450)
int dot4(int x, int y, spirv_literal int packed_4x8);

// Codes are CODE_ZERO above what they stand for, in units of the scale.
const int CODE_ZERO = TYPE == Q4_0 ? 8 : TYPE == Q5_0 ? 16 : TYPE == Q6_K ? 32 : TYPE == Q3_K ? 4 : 0;

struct Activations {
    uvec4 codes[2];
    float scale;
    ivec2 sums;  // of the half groups' codes
};

Activations load_activations(uint t, uint block) {
    Activations a;
    const uint first = t * (p.cols / 16) + 2 * block;
    a.codes[0] = Words4(p.x).at[first];
    a.codes[1] = Words4(p.x).at[first + 1];
    const uvec2 side = Words2(p.x).at[p.n_rows * (p.cols / 8) + t * (p.cols / 32) + block];
    a.scale = uintBitsToFloat(side.x);
    a.sums = ivec2(bitfieldExtract(int(side.y), 0, 16), bitfieldExtract(int(side.y), 16, 16));
    return a;
}

/// Block `b` (32 columns) of a unit, for one row of activations.
float dot_block(Unit u, uint b, Activations a) {
    const vec2 s0 = scale_offset(u, 2 * b);
    if (HALF_GROUPS) {
        const vec2 s1 = scale_offset(u, 2 * b + 1);
        ivec2 sum = -CODE_ZERO * a.sums;
        [[unroll]] for (uint j = 0; j < 4; ++j) {
            sum.x += dot4(int(quad(u, 8 * b + j)), int(a.codes[0][j]), 0);
            sum.y += dot4(int(quad(u, 8 * b + 4 + j)), int(a.codes[1][j]), 0);
        }
        float value = s0.x * float(sum.x) + s1.x * float(sum.y);
        if (HAS_MIN) value += s0.y * float(a.sums.x) + s1.y * float(a.sums.y);
        return a.scale * value;
    }
    int sum = -CODE_ZERO * (a.sums.x + a.sums.y);
    [[unroll]] for (uint j = 0; j < 8; ++j)
        sum += dot4(int(quad(u, 8 * b + j)), int(a.codes[j / 4][j % 4]), 0);
    float value = s0.x * float(sum);
    if (HAS_MIN) value += s0.y * float(a.sums.x + a.sums.y);
    return a.scale * value;
}
#endif

// Of an invocation, as functions take no arrays whose size is specialised.
Tile tile[TILES];
Unit used[UNROLL * STREAMS];
Unit next[UNROLL * STREAMS];

/// `next`: UNROLL units from `begin` on, for all rows of an invocation.
void load_next(uint begin, uint slot, uint row, uint units) {
    [[unroll]] for (uint k = 0; k < UNROLL; ++k) {
        const uint unit = min(begin + k * SLOTS + slot, units - 1);
        [[unroll]] for (uint s = 0; s < STREAMS; ++s)
            next[k * STREAMS + s] =
                load_unit(tile[s / LANE_ROWS], unit, row + s % LANE_ROWS * ROW_LANES);
    }
}

void main() {
    const uint i = gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID;
    const uint row = i % ROW_LANES;
    const uint slot = i / ROW_LANES;
    const uint units = p.cols / UNIT_COLS;
    const uint first_t = gl_WorkGroupID.y * T;

    // Which matrix, and which of its tiles.
    uint group = gl_WorkGroupID.x;
    uint m = 0;
    if (!GATED) {
        [[unroll]] for (uint k = 0; k < 2; ++k) {
            const uint groups = (p.out_rows[k] + PANELS * ROWS - 1) / (PANELS * ROWS);
            if (m == k && group >= groups) {
                group -= groups;
                m = k + 1;
            }
        }
    }
    const uint out_rows = p.out_rows[m];
    const uint tiles = (out_rows + ROWS - 1) / ROWS;
    [[unroll]] for (uint s = 0; s < TILES; ++s) {
        // A tile past the end is read as the last one, and not written.
        const uint index = min(group * PANELS + (GATED ? s / 2 : s), tiles - 1);
        tile[s] = tile_at(GATED ? p.weights[s % 2] : p.weights[m], p.cols, index);
    }

    float sum[SUMS];  // [STREAMS][T]
    [[unroll]] for (uint s = 0; s < SUMS; ++s) sum[s] = 0;

    load_next(0, slot, row, units);
    for (uint begin = 0; begin < units; begin += SLOTS * UNROLL) {
        // The next units are on their way while these are used.
        [[unroll]] for (uint k = 0; k < UNROLL * STREAMS; ++k) used[k] = next[k];
        if (begin + SLOTS * UNROLL < units) load_next(begin + SLOTS * UNROLL, slot, row, units);
        [[unroll]] for (uint k = 0; k < UNROLL; ++k) {
            const bool counts = begin + k * SLOTS + slot < units;
            const uint unit = min(begin + k * SLOTS + slot, units - 1);
            [[unroll]] for (uint b = 0; b < BLOCKS; ++b) {
#ifdef DOT4
                [[unroll]] for (uint t = 0; t < T; ++t) {
                    Activations a =
                        load_activations(min(first_t + t, p.n_rows - 1), unit * BLOCKS + b);
                    if (!counts) a.scale = 0.0;
                    [[unroll]] for (uint s = 0; s < STREAMS; ++s)
                        sum[s * T + t] += dot_block(used[k * STREAMS + s], b, a);
                }
#else
                [[unroll]] for (uint j = 0; j < 8; ++j) {
                    vec4 w[STREAMS];
                    [[unroll]] for (uint s = 0; s < STREAMS; ++s) {
                        const Unit part = used[k * STREAMS + s];
                        const vec2 scale = scale_offset(part, 2 * b + j / 4);
                        w[s] = IS_FLOAT ? float_quad(part, 8 * b + j)
                                        : scale.x * quad_values(quad(part, 8 * b + j)) + scale.y;
                    }
                    [[unroll]] for (uint t = 0; t < T; ++t) {
                        vec4 x = Vectors(p.x).at[min(first_t + t, p.n_rows - 1) * (p.cols / 4) +
                                                 unit * (UNIT_COLS / 4) + 8 * b + j];
                        if (!counts) x = vec4(0);
                        [[unroll]] for (uint s = 0; s < STREAMS; ++s) sum[s * T + t] += dot(w[s], x);
                    }
                }
#endif
            }
        }
    }

    // Over the slots, always in the same order. Within the subgroup, at each step one of two
    // partners keeps the first half of the sums and the other the second; a single one they both
    // keep. Then through shared memory.
    uint n = SUMS;
    uint first = 0;
    uint copies = 0;  // lanes with one of these bits have what another has
    [[unroll]] for (uint step = ROW_LANES; step < SUBGROUP; step *= 2) {
        const bool upper = (gl_SubgroupInvocationID & step) != 0;
        if (n % 2 == 0) {
            n /= 2;
            [[unroll]] for (uint s = 0; s < n; ++s) {
                const float sent = upper ? sum[s] : sum[s + n];
                const float kept = upper ? sum[s + n] : sum[s];
                sum[s] = kept + subgroupShuffleXor(sent, step);
            }
            first += upper ? n : 0;
        } else {
            [[unroll]] for (uint s = 0; s < n; ++s) sum[s] += subgroupShuffleXor(sum[s], step);
            copies |= step;
        }
    }
    if ((gl_SubgroupInvocationID & copies) == 0) {
        [[unroll]] for (uint s = 0; s < n; ++s)
            parts[(i / WIDTH * SUMS + first + s) * ROW_LANES + row] = sum[s];
    }
    barrier();

    for (uint o = i; o < PANELS * T * ROWS; o += gl_WorkGroupSize.x) {
        const uint r = o % ROWS;
        const uint t = o / ROWS % T;
        const uint panel = o / (ROWS * T);
        float value[2] = {0, 0};
        [[unroll]] for (uint g = 0; g < (GATED ? 2 : 1); ++g) {
            const uint s = (GATED ? 2 * panel + g : panel) * LANE_ROWS + r / ROW_LANES;
            [[unroll]] for (uint k = 0; k < PARTS; ++k)
                value[g] += parts[(k * SUMS + s * T + t) * ROW_LANES + r % ROW_LANES];
        }
        const uint out_row = (group * PANELS + panel) * ROWS + r;
        if (out_row >= out_rows || first_t + t >= p.n_rows) continue;
        const float result = GATED ? gated(value[0], value[1]) : value[0];
        Outs(p.outs[m]).at[(first_t + t) * out_rows + out_row] = result;
        if (QUANTIZES == 1) results[t * 2 * ROWS + panel * ROWS + r] = result;
    }
#ifdef NORMS
    if (last_of(done, 0, gl_NumWorkGroups.x, WRITERS)) norm_row(finish, 0, i);
#endif
#ifdef CACHES
    // A head's rows are whole workgroups' of one matrix.
    const uint groups = kDim / (PANELS * ROWS);
    const uint first_head = m == 0 ? 0 : m == 1 ? finish.n_heads : finish.n_heads + finish.n_kv_heads;
    const uint head = first_head + group / groups;
    if (last_of(done, head, groups, WRITERS)) finish_head(finish, 0, head, i);
#endif
    if (QUANTIZES == 0) return;
    barrier();
    if (i >= 4 * T || first_t + i / 4 >= p.n_rows) return;
    vec4 a, b;
    [[unroll]] for (uint k = 0; k < 4; ++k) {
        a[k] = results[8 * i + k];
        b[k] = results[8 * i + 4 + k];
    }
    store_int8(p.int8, p.n_rows, out_rows, first_t + i / 4, group * 4 + i % 4, a, b);
}
