#include "quant/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace unicorn::quant {
namespace {

using namespace tensor;

constexpr float kLargestF16 = 65504.0f;
// Below this no weight reaches half the smallest f16 (2^-24) times any code: it is zero.
constexpr float kTiny = 1e-15f;

// Four floats at a time, on any CPU: sums are formed in the same order everywhere. Left to itself,
// gcc 12 vectorises none of the loops below (clamps and reductions); this is 2 to 4 times faster.
using F4 [[gnu::vector_size(16)]] = float;

inline F4 load(const float* x) {
    F4 v;
    std::memcpy(&v, x, sizeof(v));
    return v;
}
inline F4 splat(float v) { return F4{v, v, v, v}; }
inline float sum(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// A copy of a block without NaN, infinities and magnitudes whose scale would overflow f16.
template <int N>
std::array<float, N> sanitized(const float* x) {
    std::array<float, N> clean;
    for (int i = 0; i < N; ++i) {
        float v = x[i] == x[i] ? x[i] : 0.0f;
        v = v < kLargestF16 ? v : kLargestF16;
        clean[i] = v > -kLargestF16 ? v : -kLargestF16;
    }
    return clean;
}

// Nearest integer, ties to even, for |v| < 2^22; compiles to two additions.
inline F4 round_even(F4 v) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
    return (v + kMagic) - kMagic;
}

inline float round_f16(float v) { return f16_to_f32(f32_to_f16(v)); }

// What a code can stand for, in units of the scale.
template <int lowest_, int highest_>
struct Uniform {
    static constexpr float kLowest = lowest_;
    static F4 nearest(F4 v) {
        const F4 low = splat(lowest_);
        const F4 high = splat(highest_);
        v = v > low ? v : low;
        v = v < high ? v : high;
        return round_even(v);
    }
    static std::uint8_t code(float level) {
        return static_cast<std::uint8_t>(static_cast<int>(level) - lowest_);
    }
    // Where the largest weight may come to lie; found to gain most for normal weights.
    static constexpr float kSpread = lowest_ <= -16 ? 0.6f : 0.9f;
};

struct IQ4Levels {
    static constexpr float kLowest = kIQ4Values[0];
    static F4 nearest(F4 v) {
        F4 level = splat(kIQ4Values[0]);
        for (int i = 1; i < 16; ++i) {
            const F4 middle = splat(0.5f * static_cast<float>(kIQ4Values[i - 1] + kIQ4Values[i]));
            const F4 step = splat(static_cast<float>(kIQ4Values[i] - kIQ4Values[i - 1]));
            level += v > middle ? step : splat(0);
        }
        return level;
    }
    static std::uint8_t code(float level) {
        return static_cast<std::uint8_t>(
            std::lower_bound(kIQ4Values.begin(), kIQ4Values.end(), static_cast<int>(level)) -
            kIQ4Values.begin());
    }
    static constexpr float kSpread = 24.0f;
};

struct MinMax {
    float low;
    float high;
};

template <int N>
MinMax range_of(const float* x) {
    F4 low = load(x);
    F4 high = low;
    for (int i = 4; i < N; i += 4) {
        const F4 v = load(x + i);
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    return {std::min({low[0], low[1], low[2], low[3]}),
            std::max({high[0], high[1], high[2], high[3]})};
}

// The weight of the largest magnitude, with its sign.
template <int N>
float extreme_of(const float* x) {
    const auto [low, high] = range_of<N>(x);
    return -low > high ? low : high;
}

// sum x q and sum q^2 for q = the levels nearest to x * inverse.
struct Moments {
    float xq = 0;
    float qq = 0;
};

template <typename Levels, int N>
Moments moments_at(const float* x, float inverse) {
    F4 xq = {};
    F4 qq = {};
    for (int i = 0; i < N; i += 4) {
        const F4 v = load(x + i);
        const F4 q = Levels::nearest(v * inverse);
        xq += v * q;
        qq += q * q;
    }
    return {sum(xq), sum(qq)};
}

// The scale d that makes sum (x - d q)^2 small, q being the nearest levels. Each candidate puts the
// largest weight at or near an end of the levels; least squares then gives its best scale, which
// takes xq^2 / qq off the squared error.
template <typename Levels, int N>
float fit_scale(const float* x, int n_candidates) {
    const float extreme = extreme_of<N>(x);
    if (std::abs(extreme) < kTiny) return 0;
    float best_gain = 0;
    float best = 0;
    const auto consider = [&](float inverse) {
        const Moments m = moments_at<Levels, N>(x, inverse);
        if (m.qq > 0 && m.xq * m.xq > best_gain * m.qq) {
            best_gain = m.xq * m.xq / m.qq;
            best = m.xq / m.qq;
        }
    };
    for (int c = -n_candidates; c <= n_candidates; ++c) {
        const float shift =
            Levels::kSpread * static_cast<float>(c) / static_cast<float>(n_candidates);
        consider((Levels::kLowest + shift) / extreme);
        consider((-Levels::kLowest + shift) / extreme);
    }
    if (best != 0) consider(1 / best);
    return best;
}

template <typename Levels, int N>
void write_levels(const float* x, float d, float* levels) {
    const float inverse = d != 0 ? 1 / d : 0.0f;
    for (int i = 0; i < N; i += 4) {
        const F4 q = Levels::nearest(load(x + i) * inverse);
        std::memcpy(levels + i, &q, sizeof(q));
    }
}

template <typename Levels, int N>
float squared_error(const float* x, float d) {
    const float inverse = d != 0 ? 1 / d : 0.0f;
    F4 total = {};
    for (int i = 0; i < N; i += 4) {
        const F4 v = load(x + i);
        const F4 e = v - d * Levels::nearest(v * inverse);
        total += e * e;
    }
    return sum(total);
}

// x ~ scale * q + offset, q an integer in [0, highest].
struct Affine {
    float scale = 0;
    float offset = 0;
};

template <int N>
struct AffineFit {
    float error;
    Affine fit;
};

// Least squares of scale and offset for the codes that `at` gives. `base` is near the weights, so
// that the sums do not cancel. With `below_zero` the offset may not be positive.
template <int highest, int N>
AffineFit<N> refit_affine(const float* x, float base, const Affine& at, bool below_zero) {
    const float inverse = 1 / at.scale;
    F4 sums[5] = {};
    for (int i = 0; i < N; i += 4) {
        const F4 v = load(x + i);
        const F4 code = Uniform<0, highest>::nearest((v - at.offset) * inverse);
        const F4 above = v - base;
        sums[0] += code;
        sums[1] += code * code;
        sums[2] += above * code;
        sums[3] += above;
        sums[4] += above * above;
    }
    const float q = sum(sums[0]), qq = sum(sums[1]), yq = sum(sums[2]), y = sum(sums[3]),
                yy = sum(sums[4]);
    const float determinant = N * qq - q * q;
    float scale = 0;
    float offset = y / N;  // all codes equal: their mean is the best there is
    if (determinant > 0) {
        scale = (N * yq - y * q) / determinant;
        offset = (y * qq - q * yq) / determinant;
    }
    if (below_zero && base + offset > 0) {
        offset = -base;
        scale = qq > 0 ? (yq - offset * q) / qq : 0.0f;
    }
    const float error = yy - 2 * (scale * yq + offset * y) + scale * scale * qq +
                        2 * scale * offset * q + N * offset * offset;
    return {error, {scale, base + offset}};
}

template <int highest, int N>
Affine fit_affine(const float* x, bool below_zero, int n_candidates) {
    const MinMax weights = range_of<N>(x);
    const float low = below_zero ? std::min(weights.low, 0.0f) : weights.low;
    const float high = below_zero ? std::max(weights.high, 0.0f) : weights.high;
    const float range = high - low;
    if (range < kTiny) return {0, low};
    AffineFit<N> best = {INFINITY, {0, low}};
    const auto consider = [&](const Affine& at) {
        if (!(at.scale > 0)) return;
        const AffineFit<N> found = refit_affine<highest, N>(x, low, at, below_zero);
        if (found.error < best.error) best = found;
    };
    // The codes' range may be a little narrower than the weights' (clipping both ends) or wider.
    constexpr float kSpread = highest == 3 ? 1.2f : 1.0f;
    for (int c = -n_candidates; c <= n_candidates; ++c) {
        const float levels =
            highest + kSpread * static_cast<float>(c) / static_cast<float>(n_candidates);
        const float scale = range / levels;
        const float slack = below_zero && low == 0 ? 0.0f : 0.5f * (range - scale * highest);
        consider({scale, low + slack});
        consider({scale, low});
    }
    consider(best.fit);
    consider(best.fit);
    return best.fit;
}

// ---- blocks of 32 -----------------------------------------------------------------------------

void pack_nibbles(const std::uint8_t* codes, std::uint8_t* qs) {
    for (int j = 0; j < 16; ++j)
        qs[j] = static_cast<std::uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}

std::uint32_t fifth_bits(const std::uint8_t* codes) {
    std::uint32_t bits = 0;
    for (int j = 0; j < 32; ++j) bits |= static_cast<std::uint32_t>(codes[j] >> 4) << j;
    return bits;
}

template <typename Levels, int N>
void write_codes(const float* x, float d, std::uint8_t* codes) {
    float levels[N];
    write_levels<Levels, N>(x, d, levels);
    for (int i = 0; i < N; ++i) codes[i] = Levels::code(levels[i]);
}

template <int highest, int N>
void write_affine_codes(const float* x, const Affine& a, std::uint8_t* codes) {
    const float inverse = a.scale != 0 ? 1 / a.scale : 0.0f;
    for (int i = 0; i < N; i += 4) {
        const F4 q = Uniform<0, highest>::nearest((load(x + i) - a.offset) * inverse);
        for (int l = 0; l < 4; ++l)
            codes[i + l] = static_cast<std::uint8_t>(static_cast<int>(q[l]));
    }
}

void encode(const float* x, BlockQ8_0& b) {
    const std::array<float, 32> w = sanitized<32>(x);
    // The largest weight keeps its value under each of these scales; the others have more or less
    // luck with their rounding.
    const float largest = std::abs(extreme_of<32>(w.data()));
    b.d = 0;
    float best_error = INFINITY;
    for (const float highest : {127.0f, 126.0f, 125.0f}) {
        const std::uint16_t d = f32_to_f16(largest / highest);
        const float error = squared_error<Uniform<-127, 127>, 32>(w.data(), f16_to_f32(d));
        if (error < best_error) {
            best_error = error;
            b.d = d;
        }
    }
    float levels[32];
    write_levels<Uniform<-127, 127>, 32>(w.data(), f16_to_f32(b.d), levels);
    for (int j = 0; j < 32; ++j) b.qs[j] = static_cast<std::int8_t>(static_cast<int>(levels[j]));
}

void encode(const float* x, BlockQ4_0& b) {
    const std::array<float, 32> w = sanitized<32>(x);
    b.d = f32_to_f16(fit_scale<Uniform<-8, 7>, 32>(w.data(), 4));
    std::uint8_t codes[32];
    write_codes<Uniform<-8, 7>, 32>(w.data(), f16_to_f32(b.d), codes);
    pack_nibbles(codes, b.qs);
}

void encode(const float* x, BlockQ5_0& b) {
    const std::array<float, 32> w = sanitized<32>(x);
    b.d = f32_to_f16(fit_scale<Uniform<-16, 15>, 32>(w.data(), 4));
    std::uint8_t codes[32];
    write_codes<Uniform<-16, 15>, 32>(w.data(), f16_to_f32(b.d), codes);
    pack_nibbles(codes, b.qs);
    b.qh = fifth_bits(codes);
}

void encode(const float* x, BlockIQ4_NL& b) {
    const std::array<float, 32> w = sanitized<32>(x);
    b.d = f32_to_f16(fit_scale<IQ4Levels, 32>(w.data(), 6));
    std::uint8_t codes[32];
    write_codes<IQ4Levels, 32>(w.data(), f16_to_f32(b.d), codes);
    pack_nibbles(codes, b.qs);
}

template <int highest, typename Block>
void encode_affine(const float* x, Block& b, std::uint8_t* codes) {
    const std::array<float, 32> w = sanitized<32>(x);
    const Affine a = fit_affine<highest, 32>(w.data(), false, 5);
    b.d = f32_to_f16(a.scale);
    b.m = f32_to_f16(std::clamp(a.offset, -kLargestF16, kLargestF16));
    write_affine_codes<highest, 32>(w.data(), {f16_to_f32(b.d), f16_to_f32(b.m)}, codes);
    pack_nibbles(codes, b.qs);
}

void encode(const float* x, BlockQ4_1& b) {
    std::uint8_t codes[32];
    encode_affine<15>(x, b, codes);
}

void encode(const float* x, BlockQ5_1& b) {
    std::uint8_t codes[32];
    encode_affine<31>(x, b, codes);
    b.qh = fifth_bits(codes);
}

// ---- blocks of 256 ----------------------------------------------------------------------------
// Groups have integer scales in units of the block's f16 scale. We fit each group alone, derive the
// block's scale, choose for each group the best of the neighbouring integers, refit the block's
// scale to the codes, and repeat while it helps.

constexpr int kRounds = 4;

// Group g's weights ~ d * scales[g] * level.
template <int N>
struct Scaled {
    float d = 0;
    std::array<int, 256 / N> scales = {};
};

template <typename Levels, int N, int lowest_scale, int highest_scale>
Scaled<N> fit_scaled(const float* x, int n_candidates) {
    constexpr int kGroups = 256 / N;
    float wanted[kGroups];
    float extreme = 0;
    for (int g = 0; g < kGroups; ++g) {
        wanted[g] = fit_scale<Levels, N>(x + g * N, n_candidates);
        if (std::abs(wanted[g]) > std::abs(extreme)) extreme = wanted[g];
    }
    Scaled<N> best;
    float best_error = INFINITY;
    float d = round_f16(extreme / static_cast<float>(lowest_scale));
    for (int round = 0; round < kRounds && d != 0; ++round) {
        Scaled<N> now;
        now.d = d;
        float error = 0;
        double xq = 0;
        double qq = 0;
        for (int g = 0; g < kGroups; ++g) {
            const int middle =
                static_cast<int>(std::lround(std::clamp(wanted[g] / d, -200.0f, 200.0f)));
            float group_error = INFINITY;
            for (int scale = middle - 1; scale <= middle + 1; ++scale) {
                const int allowed = std::clamp(scale, lowest_scale, highest_scale);
                const float e =
                    squared_error<Levels, N>(x + g * N, d * static_cast<float>(allowed));
                if (e < group_error) {
                    group_error = e;
                    now.scales[g] = allowed;
                }
            }
            error += group_error;
            const float step = d * static_cast<float>(now.scales[g]);
            if (step == 0) continue;
            const Moments m = moments_at<Levels, N>(x + g * N, 1 / step);
            xq += static_cast<double>(now.scales[g]) * static_cast<double>(m.xq);
            qq += static_cast<double>(now.scales[g] * now.scales[g]) * static_cast<double>(m.qq);
        }
        if (!(error < best_error)) break;
        best_error = error;
        best = now;
        const float refitted = qq > 0 ? round_f16(static_cast<float>(xq / qq)) : 0.0f;
        if (refitted == d) break;
        d = refitted;
    }
    return best;
}

// Group g's weights ~ d * scales[g] * q - dmin * mins[g].
template <int N>
struct ScaledMin {
    float d = 0;
    float dmin = 0;
    std::array<int, 256 / N> scales = {};
    std::array<int, 256 / N> mins = {};

    Affine group(int g) const {
        return {d * static_cast<float>(scales[g]), -dmin * static_cast<float>(mins[g])};
    }
};

template <int highest, int N>
float affine_error(const float* x, const Affine& a) {
    const float inverse = a.scale != 0 ? 1 / a.scale : 0.0f;
    F4 total = {};
    for (int i = 0; i < N; i += 4) {
        const F4 v = load(x + i) - a.offset;
        const F4 e = v - a.scale * Uniform<0, highest>::nearest(v * inverse);
        total += e * e;
    }
    return sum(total);
}

template <int highest, int N, int highest_scale>
ScaledMin<N> fit_scaled_min(const float* x) {
    constexpr int kGroups = 256 / N;
    Affine wanted[kGroups];
    float largest_scale = 0;
    float largest_min = 0;
    for (int g = 0; g < kGroups; ++g) {
        wanted[g] = fit_affine<highest, N>(x + g * N, true, 6);
        largest_scale = std::max(largest_scale, wanted[g].scale);
        largest_min = std::max(largest_min, -wanted[g].offset);
    }
    ScaledMin<N> best;
    float best_error = INFINITY;
    float d = round_f16(largest_scale / highest_scale);
    float dmin = round_f16(largest_min / highest_scale);
    for (int round = 0; round < kRounds; ++round) {
        ScaledMin<N> now;
        now.d = d;
        now.dmin = dmin;
        float error = 0;
        double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;  // a = scale * q, b = -min
        for (int g = 0; g < kGroups; ++g) {
            const float* group = x + g * N;
            const int scale =
                d > 0 ? static_cast<int>(std::lround(std::min(wanted[g].scale / d, 100.0f))) : 0;
            const int min =
                dmin > 0 ? static_cast<int>(std::lround(std::min(-wanted[g].offset / dmin, 100.0f)))
                         : 0;
            float group_error = INFINITY;
            for (int s = scale - 1; s <= scale + 1; ++s) {
                for (int m = min - 1; m <= min + 1; ++m) {
                    const int allowed_s = std::clamp(s, 0, highest_scale);
                    const int allowed_m = std::clamp(m, 0, highest_scale);
                    const float e = affine_error<highest, N>(
                        group,
                        {d * static_cast<float>(allowed_s), -dmin * static_cast<float>(allowed_m)});
                    if (e < group_error) {
                        group_error = e;
                        now.scales[g] = allowed_s;
                        now.mins[g] = allowed_m;
                    }
                }
            }
            error += group_error;
            const Affine chosen = now.group(g);
            const float inverse = chosen.scale != 0 ? 1 / chosen.scale : 0.0f;
            F4 sums[4] = {};
            for (int i = 0; i < N; i += 4) {
                const F4 v = load(group + i);
                const F4 q = Uniform<0, highest>::nearest((v - chosen.offset) * inverse);
                sums[0] += q;
                sums[1] += q * q;
                sums[2] += v * q;
                sums[3] += v;
            }
            const double s = now.scales[g];
            const double m = now.mins[g];
            aa += s * s * static_cast<double>(sum(sums[1]));
            ab -= s * m * static_cast<double>(sum(sums[0]));
            bb += m * m * N;
            xa += s * static_cast<double>(sum(sums[2]));
            xb -= m * static_cast<double>(sum(sums[3]));
        }
        if (!(error < best_error)) break;
        best_error = error;
        best = now;
        const double determinant = aa * bb - ab * ab;
        double new_d = aa > 0 ? xa / aa : 0;
        double new_dmin = static_cast<double>(dmin);
        if (determinant > 1e-6 * aa * bb) {
            new_d = (xa * bb - xb * ab) / determinant;
            new_dmin = (xb * aa - xa * ab) / determinant;
        }
        const float rounded_d = round_f16(static_cast<float>(std::max(new_d, 0.0)));
        const float rounded_dmin = round_f16(static_cast<float>(std::max(new_dmin, 0.0)));
        if (rounded_d == d && rounded_dmin == dmin) break;
        d = rounded_d;
        dmin = rounded_dmin;
    }
    return best;
}

// Bits [2 s, 2 s + 2) of out[32 h + l] are the two bits at `shift` of code 128 h + 32 s + l.
void pack_pairs(const std::uint8_t* codes, int shift, std::uint8_t* out) {
    std::fill(out, out + 64, std::uint8_t{0});
    for (int i = 0; i < 256; ++i) {
        const int pair = (codes[i] >> shift) & 3;
        out[i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>(pair << (2 * (i / 32 % 4)));
    }
}

void encode(const float* x, BlockQ2_K& b) {
    const std::array<float, 256> w = sanitized<256>(x);
    const ScaledMin<16> fit = fit_scaled_min<3, 16, 15>(w.data());
    b.d = f32_to_f16(fit.d);
    b.dmin = f32_to_f16(fit.dmin);
    std::uint8_t codes[256];
    for (int g = 0; g < 16; ++g) {
        b.scales[g] = static_cast<std::uint8_t>(fit.scales[g] | (fit.mins[g] << 4));
        write_affine_codes<3, 16>(w.data() + g * 16, fit.group(g), codes + g * 16);
    }
    pack_pairs(codes, 0, b.qs);
}

void encode(const float* x, BlockQ3_K& b) {
    const std::array<float, 256> w = sanitized<256>(x);
    const Scaled<16> fit = fit_scaled<Uniform<-4, 3>, 16, -32, 31>(w.data(), 5);
    b.d = f32_to_f16(fit.d);
    std::uint8_t codes[256];
    std::fill(std::begin(b.scales), std::end(b.scales), std::uint8_t{0});
    for (int g = 0; g < 16; ++g) {
        const int scale = fit.scales[g] + 32;
        b.scales[g % 8] |= static_cast<std::uint8_t>((scale & 15) << (4 * (g / 8)));
        b.scales[8 + g % 4] |= static_cast<std::uint8_t>((scale >> 4) << (2 * (g / 4)));
        write_codes<Uniform<-4, 3>, 16>(w.data() + g * 16,
                                        fit.d * static_cast<float>(fit.scales[g]), codes + g * 16);
    }
    pack_pairs(codes, 0, b.qs);
    std::fill(std::begin(b.hmask), std::end(b.hmask), std::uint8_t{0});
    for (int i = 0; i < 256; ++i)
        b.hmask[i % 32] |= static_cast<std::uint8_t>((codes[i] >> 2) << (i / 32));
}

void pack_q4_k_scales(const ScaledMin<32>& fit, std::uint8_t* packed) {
    for (int g = 0; g < 4; ++g) {
        packed[g] = static_cast<std::uint8_t>(fit.scales[g] | ((fit.scales[g + 4] >> 4) << 6));
        packed[g + 4] = static_cast<std::uint8_t>(fit.mins[g] | ((fit.mins[g + 4] >> 4) << 6));
        packed[g + 8] =
            static_cast<std::uint8_t>((fit.scales[g + 4] & 15) | ((fit.mins[g + 4] & 15) << 4));
    }
}

// What Q4_K and Q5_K share: everything but the fifth bits.
template <int highest, typename Block>
void encode_q4_k(const float* x, Block& b, std::uint8_t* codes) {
    const std::array<float, 256> w = sanitized<256>(x);
    const ScaledMin<32> fit = fit_scaled_min<highest, 32, 63>(w.data());
    b.d = f32_to_f16(fit.d);
    b.dmin = f32_to_f16(fit.dmin);
    pack_q4_k_scales(fit, b.scales);
    for (int g = 0; g < 8; ++g) {
        write_affine_codes<highest, 32>(w.data() + g * 32, fit.group(g), codes + g * 32);
    }
    for (int i = 0; i < 128; ++i) {
        const std::uint8_t* pair = codes + i / 32 * 64 + i % 32;
        b.qs[i] = static_cast<std::uint8_t>((pair[0] & 15) | ((pair[32] & 15) << 4));
    }
}

void encode(const float* x, BlockQ4_K& b) {
    std::uint8_t codes[256];
    encode_q4_k<15>(x, b, codes);
}

void encode(const float* x, BlockQ5_K& b) {
    std::uint8_t codes[256];
    encode_q4_k<31>(x, b, codes);
    std::fill(std::begin(b.qh), std::end(b.qh), std::uint8_t{0});
    for (int i = 0; i < 256; ++i)
        b.qh[i % 32] |= static_cast<std::uint8_t>((codes[i] >> 4) << (i / 32));
}

void encode(const float* x, BlockQ6_K& b) {
    const std::array<float, 256> w = sanitized<256>(x);
    const Scaled<16> fit = fit_scaled<Uniform<-32, 31>, 16, -128, 127>(w.data(), 5);
    b.d = f32_to_f16(fit.d);
    std::uint8_t codes[256];
    for (int g = 0; g < 16; ++g) {
        b.scales[g] = static_cast<std::int8_t>(fit.scales[g]);
        write_codes<Uniform<-32, 31>, 16>(
            w.data() + g * 16, fit.d * static_cast<float>(fit.scales[g]), codes + g * 16);
    }
    for (int i = 0; i < 128; ++i) {
        const std::uint8_t* c = codes + i / 64 * 128 + i % 64;
        b.ql[i] = static_cast<std::uint8_t>((c[0] & 15) | ((c[64] & 15) << 4));
    }
    pack_pairs(codes, 4, b.qh);
}

void encode(const float* x, BlockIQ4_XS& b) {
    const std::array<float, 256> w = sanitized<256>(x);
    const Scaled<32> fit = fit_scaled<IQ4Levels, 32, -32, 31>(w.data(), 6);
    b.d = f32_to_f16(fit.d);
    b.scales_h = 0;
    std::fill(std::begin(b.scales_l), std::end(b.scales_l), std::uint8_t{0});
    for (int g = 0; g < 8; ++g) {
        const int scale = fit.scales[g] + 32;
        b.scales_l[g / 2] |= static_cast<std::uint8_t>((scale & 15) << (4 * (g % 2)));
        b.scales_h = static_cast<std::uint16_t>(b.scales_h | ((scale >> 4) << (2 * g)));
        std::uint8_t codes[32];
        write_codes<IQ4Levels, 32>(w.data() + g * 32, fit.d * static_cast<float>(fit.scales[g]),
                                   codes);
        pack_nibbles(codes, b.qs + g * 16);
    }
}

template <typename Block>
void encode_row(std::span<const float> x, std::byte* out) {
    const std::size_t block_size = info(Block::kType).block_size;
    UNICORN_CHECK(x.size() % block_size == 0);
    for (std::size_t i = 0; i < x.size() / block_size; ++i) {
        Block block;
        encode(x.data() + i * block_size, block);
        std::memcpy(out + i * sizeof(Block), &block, sizeof(Block));
    }
}

template <std::uint16_t (*convert)(float)>
void encode_halves(std::span<const float> x, std::byte* out) {
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::uint16_t half = convert(x[i]);
        std::memcpy(out + i * sizeof(half), &half, sizeof(half));
    }
}

}  // namespace

void quantize_row(DType type, std::span<const float> x, std::byte* out) {
    switch (type) {
        case DType::f32:
            if (!x.empty()) std::memcpy(out, x.data(), x.size_bytes());
            return;
        case DType::f16: return encode_halves<f32_to_f16>(x, out);
        case DType::bf16: return encode_halves<f32_to_bf16>(x, out);
        case DType::q4_0: return encode_row<BlockQ4_0>(x, out);
        case DType::q4_1: return encode_row<BlockQ4_1>(x, out);
        case DType::q5_0: return encode_row<BlockQ5_0>(x, out);
        case DType::q5_1: return encode_row<BlockQ5_1>(x, out);
        case DType::q8_0: return encode_row<BlockQ8_0>(x, out);
        case DType::q2_k: return encode_row<BlockQ2_K>(x, out);
        case DType::q3_k: return encode_row<BlockQ3_K>(x, out);
        case DType::q4_k: return encode_row<BlockQ4_K>(x, out);
        case DType::q5_k: return encode_row<BlockQ5_K>(x, out);
        case DType::q6_k: return encode_row<BlockQ6_K>(x, out);
        case DType::iq4_nl: return encode_row<BlockIQ4_NL>(x, out);
        case DType::iq4_xs: return encode_row<BlockIQ4_XS>(x, out);
    }
    UNICORN_CHECK(false && "a DType outside its enumerators");
}

}  // namespace unicorn::quant
