// The arithmetic of drawing a token, in integers, for C++ and GLSL alike: the CPU's sampler and the
// GPU's then draw the same token on every driver, compiler and C library. Floats are given as their
// bits. (Vulkan's own floats may flush denormals, round divisions by 2.5 ulp, and bring an exp of
// their own.)
#ifdef __cplusplus
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#define UNICORN_DRAW inline
namespace unicorn::kernels::draw {
using std::max;
using std::uint64_t;
using uint = std::uint32_t;
/// The place of the highest bit that is set; -1 for 0.
inline int findMSB(uint x) { return 31 - std::countl_zero(x); }
#else
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#define UNICORN_DRAW
#endif

const uint kMaxTopK = 1024;       // what a GPU selects at most
const uint kMaxHistory = 1024;    // tokens that penalties look back on there
const uint kMaxBias = 1024;       // biased tokens there
const uint kIdBits = 22;          // of a vocabulary there
const uint kNever = 0xFF800000u;  // -inf
const uint kLargest = 0x7F7FFFFFu;
const uint kSign = 0x80000000u;

/// What a GPU keeps of one sampler: options in the form that the arithmetic takes, and the state
/// that it brings up to date with each token it draws. 64-bit numbers as two words, low first.
struct DrawState {
    uint top_k;           // 1 to kMaxTopK
    uint is_greedy;       // temperature 0: takes the best and draws no number
    uint random[2];       // SplitMix64's counter
    uint repeat_penalty;  // f32
    uint presence_penalty;
    uint frequency_penalty;
    uint scale_mantissa;  // log2(e) / temperature = mantissa * 2^exponent
    int scale_exponent;
    uint base_mantissa;  // the same for temperature 1
    int base_exponent;
    uint has_top_p;
    uint top_p[2];         // times 2^64
    uint most_distant[2];  // min-p, as what distance() gives at most
    uint history_size;     // the last so many tokens are penalised; 0: none
    uint n_history;
    uint next_history;  // where the next one goes, once the ring is full
    uint n_bias;
    uint history[kMaxHistory];
    uint bias_ids[kMaxBias];  // each id once
    uint bias[kMaxBias];      // f32
};

// ---- float arithmetic, rounded to nearest even, denormals included

UNICORN_DRAW bool is_nan(uint x) { return (x & 0x7FFFFFFFu) > 0x7F800000u; }
UNICORN_DRAW bool is_infinite(uint x) { return (x & 0x7FFFFFFFu) == 0x7F800000u; }

UNICORN_DRAW int highest_bit(uint64_t x) {
    const uint high = uint(x >> 32);
    return high != 0u ? 32 + findMSB(high) : findMSB(uint(x));
}

/// |x| = mantissa(x) * 2^exponent(x), for finite x.
UNICORN_DRAW uint64_t mantissa(uint x) {
    const uint fraction = x & 0x7FFFFFu;
    return uint64_t((x & 0x7F800000u) == 0u ? fraction : fraction | 0x800000u);
}
UNICORN_DRAW int exponent(uint x) { return max(int((x >> 23) & 255u), 1) - 150; }

/// The float nearest to m * 2^e, m < 2^62, with the sign bit given. Where bits were cut off from m
/// the lowest must be set, and m be at least 2^26.
UNICORN_DRAW uint rounded(uint sign, int e, uint64_t m) {
    if (m == uint64_t(0)) return sign;
    int lowest = max(e + highest_bit(m) - 23, -149);
    const int cut = lowest - e;
    uint64_t kept = uint64_t(0);
    if (cut <= 0) {
        kept = m << uint(-cut);
    } else if (cut < 64) {
        const uint64_t one = uint64_t(1);
        const uint64_t rest = m & ((one << uint(cut)) - one);
        const uint64_t half_way = one << uint(cut - 1);
        kept = m >> uint(cut);
        if (rest > half_way || (rest == half_way && (kept & one) == one)) kept += one;
    }
    uint bits = uint(kept);
    if (bits == 0x1000000u) {
        bits >>= 1;
        lowest += 1;
    }
    if (bits < 0x800000u) return sign | bits;
    if (lowest > 104) return sign | 0x7F800000u;
    return sign | (uint(lowest + 150) << 23) | (bits & 0x7FFFFFu);
}

/// a * b and a / b of finite a and b, b != 0 in a division.
UNICORN_DRAW uint times(uint a, uint b) {
    return rounded((a ^ b) & kSign, exponent(a) + exponent(b), mantissa(a) * mantissa(b));
}
UNICORN_DRAW uint divided(uint a, uint b) {
    const uint sign = (a ^ b) & kSign;
    if (mantissa(a) == uint64_t(0)) return sign;
    const int up = 61 - highest_bit(mantissa(a));
    const uint64_t numerator = mantissa(a) << uint(up);
    uint64_t quotient = numerator / mantissa(b);
    if (quotient * mantissa(b) != numerator) quotient |= uint64_t(1);
    return rounded(sign, exponent(a) - up - exponent(b), quotient);
}

/// a + b; inf - inf is a NaN. No NaN may go in.
UNICORN_DRAW uint plus(uint a, uint b) {
    if (is_infinite(a)) return is_infinite(b) && a != b ? 0x7FC00000u : a;
    if (is_infinite(b)) return b;
    const bool swaps = exponent(a) < exponent(b);
    const uint high = swaps ? b : a;
    const uint low = swaps ? a : b;
    const int apart = exponent(high) - exponent(low);
    uint64_t m_high = mantissa(high);
    uint64_t m_low = mantissa(low);
    int e = exponent(low);
    if (apart <= 36) {
        m_high <<= uint(apart);
    } else {
        m_high <<= 36u;
        e = exponent(high) - 36;
        const int cut = apart - 36;
        const uint64_t kept = cut < 32 ? m_low >> uint(cut) : uint64_t(0);
        const bool exact = cut < 32 ? (kept << uint(cut)) == m_low : m_low == uint64_t(0);
        m_low = exact ? kept : kept | uint64_t(1);
    }
    const uint sign = high & kSign;
    if (sign == (low & kSign)) return rounded(sign, e, m_high + m_low);
    if (m_high == m_low) return 0u;
    if (m_high > m_low) return rounded(sign, e, m_high - m_low);
    return rounded(sign ^ kSign, e, m_low - m_high);
}

// ---- logits

/// A NaN counts as -inf, +inf as the largest float.
UNICORN_DRAW uint clean(uint logit) {
    if (is_nan(logit)) return kNever;
    return logit == 0x7F800000u ? kLargest : logit;
}

/// A clean logit with a bias that is finite or -inf.
UNICORN_DRAW uint biased(uint logit, uint bias) { return clean(plus(logit, bias)); }

/// A clean logit of a token that was there `count` times. Penalties of extreme size overflow, to
/// infinity or, against one, to NaN: a banned token stays banned, whatever else is asked of it.
UNICORN_DRAW uint penalised(uint logit, uint count, uint repeat, uint presence, uint frequency) {
    if (logit == kNever) return kNever;
    const bool is_positive = logit != 0u && (logit & kSign) == 0u;
    const uint repeated = is_positive ? divided(logit, repeat) : times(logit, repeat);
    const uint penalty = plus(presence, times(frequency, rounded(0u, 0, uint64_t(count))));
    return clean(plus(repeated, penalty ^ kSign));
}

/// Larger for what comes first: by logit, equal ones by id, so that no two are the same. 54 bits.
UNICORN_DRAW uint64_t order_key(uint logit, uint id) {
    const uint x = logit == kSign ? 0u : logit;  // -0 is 0
    const uint ordered = (x & kSign) != 0u ? ~x : x | kSign;
    return (uint64_t(ordered) << kIdBits) | uint64_t(((1u << kIdBits) - 1u) - id);
}
UNICORN_DRAW uint key_logit(uint64_t key) {
    const uint ordered = uint(key >> kIdBits);
    return (ordered & kSign) != 0u ? ordered & ~kSign : ~ordered;
}
UNICORN_DRAW uint key_id(uint64_t key) {
    return ((1u << kIdBits) - 1u) - (uint(key) & ((1u << kIdBits) - 1u));
}

// ---- weights

/// 64 times 2^32: as far as a distance is told apart.
UNICORN_DRAW uint64_t farthest() { return uint64_t(1) << 38; }

/// apart * scale * 2^32, farthest() at most. `apart` is plus(best, logit ^ kSign) for finite best
/// >= logit; the scale is one of DrawState, log2(e) / temperature, so that the token's probability
/// is the best one's times 2^-(distance / 2^32).
UNICORN_DRAW uint64_t distance(uint apart, uint scale_mantissa, int scale_exponent) {
    if (is_infinite(apart)) return farthest();
    const uint64_t product = mantissa(apart) * uint64_t(scale_mantissa);  // < 2^56
    if (product == uint64_t(0)) return product;
    const int shift = exponent(apart) + scale_exponent + 32;
    if (highest_bit(product) + shift >= 38) return farthest();
    if (shift >= 0) return product << uint(shift);
    return shift > -64 ? product >> uint(-shift) : uint64_t(0);
}

/// (x * y) >> 32, for x below 2^32.
UNICORN_DRAW uint high_product(uint x, uint y) { return uint((uint64_t(x) * uint64_t(y)) >> 32); }

/// 2^40 * 2^-(d / 2^32), within 2e-9 of it and 1; 0 below 1. 2^23 of them add up in 64 bits.
/// The polynomial is 1 - f g(f), g interpolated at 7 Chebyshev nodes of [0, 1].
UNICORN_DRAW uint64_t weight(uint64_t d) {
    const uint whole = uint(d >> 32);
    if (whole > 40u) return uint64_t(0);
    const uint f = uint(d);
    uint g = 0x0000BDA6u;
    g = 0x0009C200u - high_product(g, f);
    g = 0x005728B0u - high_product(g, f);
    g = 0x027641A9u - high_product(g, f);
    g = 0x0E358127u - high_product(g, f);
    g = 0x3D7F7BCBu - high_product(g, f);
    g = 0xB17217F7u - high_product(g, f);
    const uint64_t power = (uint64_t(1) << 32) - uint64_t(high_product(g, f));
    return (power << 8) >> whole;
}

/// (a * b) >> 64.
UNICORN_DRAW uint64_t share_of(uint64_t a, uint64_t b) {
    const uint64_t low_word = uint64_t(0xFFFFFFFFu);
    const uint64_t a0 = a & low_word;
    const uint64_t a1 = a >> 32;
    const uint64_t b0 = b & low_word;
    const uint64_t b1 = b >> 32;
    const uint64_t middle = a1 * b0 + ((a0 * b0) >> 32);
    const uint64_t other = a0 * b1 + (middle & low_word);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

// ---- random numbers

UNICORN_DRAW uint64_t words(uint low, uint high) { return (uint64_t(high) << 32) | uint64_t(low); }

/// What SplitMix64's counter grows by, and what it makes of it.
UNICORN_DRAW uint64_t random_step() { return words(0x7F4A7C15u, 0x9E3779B9u); }
UNICORN_DRAW uint64_t random_mix(uint64_t counter) {
    uint64_t z = counter;
    z = (z ^ (z >> 30)) * words(0x1CE4E5B9u, 0xBF58476Du);
    z = (z ^ (z >> 27)) * words(0x133111EBu, 0x94D049BBu);
    return z ^ (z >> 31);
}

#ifdef __cplusplus
}  // namespace unicorn::kernels::draw
#endif
#undef UNICORN_DRAW
