// Few rows of activations times weights: every weight is read once for up to MAX_T rows. Included by
// matvec_dot4.comp (DOT4: int8 activations) and matvec_plain.comp (f32 activations).
//
// A workgroup computes the rows of PANELS tiles (of gate and up both, with an epilogue). Invocation
// i has row i % 16 of each of them and the units of columns i / 16, i / 16 + SLOTS, ...: 16
// neighbours read 256 bytes, and the words of activations that they all need are the same. UNROLL
// units are read before the first is used.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 2) const uint TYPE = 2;
layout(constant_id = 3) const uint T = 1;  // rows of a workgroup
layout(constant_id = 4) const uint EPILOGUE = 0;
layout(constant_id = 5) const uint PANELS = 1;
layout(constant_id = 6) const uint UNROLL = 4;

#include "backends/vulkan/matmul_epilogue.glsl"
#include "backends/vulkan/matmul_weights.glsl"

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors { vec4 at[]; };
#include "backends/vulkan/matmul.params.h"
layout(push_constant) uniform Push { MatmulParams p; };

const bool GATED = EPILOGUE != EPILOGUE_NONE;
const uint STREAMS = GATED ? 2 * PANELS : PANELS;  // tiles that an invocation reads at a time
const uint SLOTS = gl_WorkGroupSize.x / ROWS;
// Sums of 16 (or fewer) invocations of a subgroup each go through shared memory.
const uint PARTS = gl_WorkGroupSize.x / (SUBGROUP > ROWS ? SUBGROUP : ROWS);
shared float parts[PARTS * T * STREAMS * ROWS];

#ifdef DOT4
// OpSDot, OpSUDot over four packed int8: capabilities DotProductInput4x8BitPacked and DotProduct.
spirv_instruction(capabilities = [6018, 6019], id = 4450)
int dot4(int x, int y, spirv_literal int packed_4x8);

struct Activations {
    uvec4 codes[2];
    vec3 side;  // the scale; scale times the sums of the two half groups
};

Activations load_activations(uint t, uint block) {
    Activations a;
    const uint first = t * (p.cols / 16) + 2 * block;
    a.codes[0] = Words4(p.x).at[first];
    a.codes[1] = Words4(p.x).at[first + 1];
    const uvec2 side =
        Words2(p.x).at[p.n_rows * (p.cols / 8) + t * (p.cols / 32) + block];
    const float scale = uintBitsToFloat(side.x);
    a.side = vec3(scale, scale * float(bitfieldExtract(int(side.y), 0, 16)),
                  scale * float(bitfieldExtract(int(side.y), 16, 16)));
    return a;
}

/// The 32 columns of a unit that begin at its quad `first`, for one row of activations.
float dot_block(Unit u, uint first, Activations a, vec2 s0, vec2 s1) {
    if (HALF_GROUPS) {
        int sum0 = 0, sum1 = 0;
        [[unroll]] for (uint j = 0; j < 4; ++j) {
            sum0 += dot4(int(quad(u, first + j)), int(a.codes[0][j]), 0);
            sum1 += dot4(int(quad(u, first + 4 + j)), int(a.codes[1][j]), 0);
        }
        return a.side.x * (s0.x * float(sum0) + s1.x * float(sum1)) + s0.y * a.side.y +
               s1.y * a.side.z;
    }
    int sum = 0;
    [[unroll]] for (uint j = 0; j < 8; ++j)
        sum += dot4(int(quad(u, first + j)), int(a.codes[j / 4][j % 4]), 0);
    const float product = s0.x * a.side.x * float(sum);
    return HAS_OFFSET ? product + s0.y * (a.side.y + a.side.z) : product;
}
#else
vec4 load_quad(uint t, uint unit, uint j) {
    return Vectors(p.x).at[t * (p.cols / 4) + unit * (UNIT_COLS / 4) + j];
}
#endif

void main() {
    const uint i = gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID;
    const uint row = i % ROWS;
    const uint slot = i / ROWS;
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
    Tile tile[STREAMS];
    [[unroll]] for (uint s = 0; s < STREAMS; ++s) {
        // A tile past the end is read as the last one, and not written.
        const uint index = min(group * PANELS + (GATED ? s / 2 : s), tiles - 1);
        tile[s] = tile_at(GATED ? p.weights[s % 2] : p.weights[m], p.cols, index);
    }

    float sum[STREAMS * T];
    [[unroll]] for (uint s = 0; s < STREAMS * T; ++s) sum[s] = 0;

    for (uint begin = slot; begin < units; begin += SLOTS * UNROLL) {
        Unit u[UNROLL * STREAMS];
        [[unroll]] for (uint k = 0; k < UNROLL; ++k) {
            [[unroll]] for (uint s = 0; s < STREAMS; ++s)
                u[k * STREAMS + s] =
                    load_unit(tile[s], min(begin + k * SLOTS, units - 1), row);
        }
        [[unroll]] for (uint k = 0; k < UNROLL; ++k) {
            const uint unit = begin + k * SLOTS;
            if (unit >= units) break;
            [[unroll]] for (uint b = 0; b < UNIT_COLS / 32; ++b) {
#ifdef DOT4
                vec2 s0[STREAMS], s1[STREAMS];
                [[unroll]] for (uint s = 0; s < STREAMS; ++s) {
                    s0[s] = scale_offset(u[k * STREAMS + s], 2 * b);
                    s1[s] = scale_offset(u[k * STREAMS + s], 2 * b + 1);
                }
                [[unroll]] for (uint t = 0; t < T; ++t) {
                    const Activations a = load_activations(min(first_t + t, p.n_rows - 1),
                                                           unit * (UNIT_COLS / 32) + b);
                    [[unroll]] for (uint s = 0; s < STREAMS; ++s)
                        sum[s * T + t] += dot_block(u[k * STREAMS + s], 8 * b, a, s0[s], s1[s]);
                }
#else
                [[unroll]] for (uint j = 0; j < 8; ++j) {
                    vec4 w[STREAMS];
                    [[unroll]] for (uint s = 0; s < STREAMS; ++s) {
                        const Unit part = u[k * STREAMS + s];
                        const vec2 scale = scale_offset(part, 2 * b + j / 4);
                        w[s] = IS_FLOAT ? float_quad(part, 8 * b + j)
                                        : scale.x * quad_values(quad(part, 8 * b + j)) + scale.y;
                    }
                    [[unroll]] for (uint t = 0; t < T; ++t) {
                        const vec4 x =
                            load_quad(min(first_t + t, p.n_rows - 1), unit, 8 * b + j);
                        [[unroll]] for (uint s = 0; s < STREAMS; ++s)
                            sum[s * T + t] += dot(w[s], x);
                    }
                }
#endif
            }
        }
    }

    // Over the slots: within the subgroup, then through shared memory, always in the same order.
    [[unroll]] for (uint s = 0; s < STREAMS * T; ++s) {
        [[unroll]] for (uint step = ROWS; step < SUBGROUP; step *= 2)
            sum[s] += subgroupShuffleXor(sum[s], step);
    }
    const uint part = i / (SUBGROUP > ROWS ? SUBGROUP : ROWS);
    if (SUBGROUP <= ROWS || gl_SubgroupInvocationID < ROWS) {
        [[unroll]] for (uint s = 0; s < STREAMS * T; ++s)
            parts[(part * STREAMS * T + s) * ROWS + row] = sum[s];
    }
    barrier();

    const uint outputs = PANELS * T * ROWS;
    for (uint o = i; o < outputs; o += gl_WorkGroupSize.x) {
        const uint r = o % ROWS;
        const uint t = o / ROWS % T;
        const uint panel = o / (ROWS * T);
        float value[2] = {0, 0};
        [[unroll]] for (uint g = 0; g < (GATED ? 2 : 1); ++g) {
            const uint s = GATED ? 2 * panel + g : panel;
            for (uint k = 0; k < PARTS; ++k)
                value[g] += parts[(k * STREAMS * T + s * T + t) * ROWS + r];
        }
        const uint out_row = (group * PANELS + panel) * ROWS + r;
        if (out_row >= out_rows || first_t + t >= p.n_rows) continue;
        Outs(p.outs[m]).at[(first_t + t) * out_rows + out_row] =
            GATED ? gated(value[0], value[1]) : value[0];
    }
}
