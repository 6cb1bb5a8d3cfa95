// kernels/rope.h and kernels/kv_page.h for one head vector of a row, by a workgroup of E/2 invocations
// or more: q is normed and rotated in place, k goes to the cache so, v as it is. Include it after
// defining the constants kDim (E) and kType (tensor::DType of the cache: f32, f16 or q8_0), and the
// buffer type HeadFloats.
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require

layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer PageFloats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer PageWords { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 2) writeonly buffer PageHalves { uint16_t at[]; };
layout(buffer_reference, std430, buffer_reference_align = 1) writeonly buffer PageBytes { uint8_t at[]; };
#include "backends/vulkan/address.glsl"
#include "backends/vulkan/qkv_to_cache.params.h"
#include "backends/vulkan/rope_angle.glsl"
#include "backends/vulkan/workgroup_sum.glsl"

const uint kPageTokens = 32;
const float kF16Max = 65504.0;
shared float vector[kDim];

/// IEEE binary16 to nearest even; |x| <= 65504 or NaN. The conversion that GPUs have may round
/// otherwise.
uint half_bits(float x) {
    const uint bits = floatBitsToUint(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return sign | 0x7E00u;
    uint out_bits, rest, half_way;
    if (magnitude < 0x38800000u) {  // below 2^-14: in steps of 2^-24
        if (magnitude < 0x33000000u) return sign;
        const uint shift = 126 - (magnitude >> 23);
        const uint m = (magnitude & 0x7FFFFFu) | 0x800000u;
        out_bits = m >> shift;
        rest = m & ((1u << shift) - 1);
        half_way = 1u << (shift - 1);
    } else {
        out_bits = (magnitude - 0x38000000u) >> 13;
        rest = magnitude & 0x1FFFu;
        half_way = 0x1000u;
    }
    if (rest > half_way || (rest == half_way && (out_bits & 1) != 0)) ++out_bits;
    return sign | out_bits;
}

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7FFFFFFFu) > 0x7F800000u; }

/// clamp() that leaves NaN alone.
float clamped(float x, float most) { return is_nan(x) ? x : clamp(x, -most, most); }

/// Stores `vector` as token `token` of the page at `page`; `first`: the invocation.
void store_token(uvec2 page, uint token, uint first) {
    const uint step = gl_WorkGroupSize.x;
    if (kType == 0) {
        PageFloats to = PageFloats(page);
        for (uint i = first; i < kDim; i += step) to.at[token * kDim + i] = vector[i];
    } else if (kType == 1) {
        PageWords to = PageWords(page);
        for (uint i = first; i < kDim / 2; i += step) {
            to.at[(token * kDim) / 2 + i] =
                half_bits(clamped(vector[2 * i], kF16Max)) |
                (half_bits(clamped(vector[2 * i + 1], kF16Max)) << 16);
        }
    } else {
        const float most = kF16Max * 127.0;
        for (uint i = first; i < kDim; i += step) {
            const uint group = i / 32 * 32;
            uint largest = 0;
            for (uint j = 0; j < 32; ++j) {
                const float x = clamped(vector[group + j], most);
                largest = max(largest, floatBitsToUint(x) & 0x7FFFFFFFu);
            }
            uint half_scale = 0x7E00u;
            float inverse = 0;
            if (largest <= 0x7F800000u) {
                const float wanted = uintBitsToFloat(largest) / 127.0;
                half_scale = half_bits(wanted);
                if (unpackHalf2x16(half_scale).x < wanted) ++half_scale;
                inverse = half_scale == 0 ? 0.0 : 1.0 / unpackHalf2x16(half_scale).x;
            }
            const float x = clamped(vector[i], most);
            const int code = inverse == 0 ? 0 : int(roundEven(x * inverse));
            PageBytes(page).at[token * kDim + i] = uint8_t(uint(clamp(code, -127, 127)) & 255u);
            if (i == group) {
                PageHalves(page).at[(kPageTokens * kDim) / 2 + (token * kDim + i) / 32] =
                    uint16_t(half_scale);
            }
        }
    }
}

/// Head vector `head` of row `t`, in the order q, k, v, for invocation `i` of its subgroups' order.
/// All invocations must call it, once.
void finish_head(QkvToCacheParams c, uint t, uint head, uint i) {
    const uint half_dim = kDim / 2;
    const bool is_q = head < c.n_heads, is_v = head >= c.n_heads + c.n_kv_heads;
    const uint kv_head = (head - c.n_heads) % c.n_kv_heads;
    const uint from = is_q ? (t * c.n_heads + head) * kDim : (t * c.n_kv_heads + kv_head) * kDim;

    // All that is read, at once: what comes from far away is on its way while the rest is used.
    const int position = c.positions.at[t];
    const uint table = uint(c.tables.at[t]);
    float a = 0, b = 0, gain_a = 0, gain_b = 0, frequency = 0;
    if (i < half_dim) {
        if (!is_v) {
            gain_a = is_q ? c.q_gain.at[i] : c.k_gain.at[i];
            gain_b = is_q ? c.q_gain.at[half_dim + i] : c.k_gain.at[half_dim + i];
            frequency = c.frequencies.at[i];
        }
        if (is_q) {
            a = c.q.at[from + i];
            b = c.q.at[from + half_dim + i];
        } else if (is_v) {
            a = c.v.at[from + i];
            b = c.v.at[from + half_dim + i];
        } else {
            a = c.k.at[from + i];
            b = c.k.at[from + half_dim + i];
        }
    }
    uint page = 0;
    if (!is_q) page = uint(c.pages.at[table + uint(position) / kPageTokens]);
    if (!is_v) {
        const float scale = inversesqrt(workgroup_sum(a * a + b * b) / float(kDim) + c.eps);
        if (i < half_dim) {
            const vec2 turn = cos_sin(float(position) * frequency);
            const float x = a * scale * gain_a, y = b * scale * gain_b;
            a = x * turn.x - y * turn.y;
            b = y * turn.x + x * turn.y;
        }
    }
    if (is_q) {
        if (i < half_dim) {
            c.q.at[from + i] = a;
            c.q.at[from + half_dim + i] = b;
        }
        return;
    }
    if (i < half_dim) {
        vector[i] = a;
        vector[half_dim + i] = b;
    }
    barrier();
    const uint page_bytes = kType == 0   ? kPageTokens * kDim * 4
                            : kType == 1 ? kPageTokens * kDim * 2
                                         : kDim * 34;
    const uvec2 pool = is_v ? uvec2(c.v_pool) : uvec2(c.k_pool);
    store_token(element_address(pool, page * c.n_kv_heads + kv_head, page_bytes),
                uint(position) % kPageTokens, i);
}
