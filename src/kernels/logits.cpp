#include "kernels/logits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/check.h"
#include "kernels/simd.h"

namespace unicorn::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// ---- scalar

float clean_scalar(std::span<const float> logits, std::span<float> out) {
    float max = kNever;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        out[i] = std::isnan(logits[i]) ? kNever : std::min(logits[i], kLargest);
        max = std::max(max, out[i]);
    }
    return max;
}

float max_scalar(std::span<const float> logits) {
    float max = kNever;
    for (const float x : logits) max = std::max(max, x);
    return max;
}

std::size_t find_above_scalar(std::span<const float> logits, std::size_t i, float threshold) {
    while (i < logits.size() && !(logits[i] > threshold)) ++i;
    return i;
}

/// simd::exp_nonpositive in the same operations.
float exp_nonpositive_scalar(float x) {
    if (x < simd::kExpLowest) return 0;
    const float n = std::nearbyint(x * simd::kLog2E);
    const float r = std::fma(-n, simd::kLn2Low, std::fma(-n, simd::kLn2High, x));
    float p = simd::kExpC4;
    p = std::fma(p, r, simd::kExpC3);
    p = std::fma(p, r, simd::kExpC2);
    p = std::fma(p, r, simd::kExpC1);
    p = std::fma(p, r, simd::kExpC0);
    p = std::fma(p, r * r, r) + 1.0f;
    return p * std::bit_cast<float>(static_cast<std::uint32_t>(static_cast<int>(n) + 127) << 23);
}

double sum_exp_scalar(std::span<const float> logits, float max) {
    double lanes[8] = {};
    for (std::size_t i = 0; i < logits.size(); ++i)
        lanes[i % 8] += static_cast<double>(exp_nonpositive_scalar(logits[i] - max));
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// ---- AVX2, for AVX-512 too: L2 binds these passes. Lanes past the end are -inf, which is neutral.

constexpr std::size_t kLanes = 8;

UNICORN_TARGET_AVX2 inline __m256 load(std::span<const float> logits, std::size_t i) {
    if (i + kLanes <= logits.size()) return _mm256_loadu_ps(&logits[i]);
    if (i >= logits.size()) return _mm256_set1_ps(kNever);
    const __m256i lanes = simd::first_lanes_avx2(logits.size() - i);
    return _mm256_blendv_ps(_mm256_set1_ps(kNever), _mm256_maskload_ps(&logits[i], lanes),
                            _mm256_castsi256_ps(lanes));
}

UNICORN_TARGET_AVX2 float clean_avx2(std::span<const float> logits, std::span<float> out) {
    const std::size_t n = logits.size();
    const __m256 never = _mm256_set1_ps(kNever);
    __m256 max = never;
    for (std::size_t i = 0; i < n; i += kLanes) {
        __m256 x = load(logits, i);
        x = _mm256_blendv_ps(x, never, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        x = _mm256_min_ps(x, _mm256_set1_ps(kLargest));
        max = _mm256_max_ps(x, max);
        if (i + kLanes <= n) {
            _mm256_storeu_ps(&out[i], x);
        } else {
            _mm256_maskstore_ps(&out[i], simd::first_lanes_avx2(n - i), x);
        }
    }
    return simd::max_lanes(max);
}

UNICORN_TARGET_AVX2 float max_avx2(std::span<const float> logits) {
    __m256 max0 = _mm256_set1_ps(kNever);
    __m256 max1 = max0;
    for (std::size_t i = 0; i < logits.size(); i += 2 * kLanes) {
        max0 = _mm256_max_ps(load(logits, i), max0);
        max1 = _mm256_max_ps(load(logits, i + kLanes), max1);
    }
    return simd::max_lanes(_mm256_max_ps(max0, max1));
}

UNICORN_TARGET_AVX2 std::size_t find_above_avx2(std::span<const float> logits, std::size_t i,
                                                float threshold) {
    const __m256 t = _mm256_set1_ps(threshold);
    for (; i + 4 * kLanes <= logits.size(); i += 4 * kLanes) {  // nearly all of them hold nothing
        __m256 any = _mm256_cmp_ps(load(logits, i), t, _CMP_GT_OQ);
        for (std::size_t j = 1; j < 4; ++j)
            any = _mm256_or_ps(any, _mm256_cmp_ps(load(logits, i + j * kLanes), t, _CMP_GT_OQ));
        if (_mm256_movemask_ps(any) != 0) break;
    }
    for (; i < logits.size(); i += kLanes) {
        const int mask = _mm256_movemask_ps(_mm256_cmp_ps(load(logits, i), t, _CMP_GT_OQ));
        if (mask != 0)
            return i + static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(mask)));
    }
    return logits.size();
}

UNICORN_TARGET_AVX2 double sum_exp_avx2(std::span<const float> logits, float max) {
    const __m256 subtrahend = _mm256_set1_ps(max);
    __m256d low = _mm256_setzero_pd();
    __m256d high = _mm256_setzero_pd();
    for (std::size_t i = 0; i < logits.size(); i += kLanes) {
        const __m256 e = simd::exp_nonpositive(_mm256_sub_ps(load(logits, i), subtrahend));
        low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
        high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
    }
    alignas(32) double lanes[4];
    _mm256_store_pd(lanes, _mm256_add_pd(low, high));
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

}  // namespace

float clean_logits(Isa isa, std::span<const float> logits, std::span<float> out) {
    UNICORN_CHECK(out.size() == logits.size());
    return isa == Isa::scalar ? clean_scalar(logits, out) : clean_avx2(logits, out);
}

float max_logit(Isa isa, std::span<const float> logits) {
    return isa == Isa::scalar ? max_scalar(logits) : max_avx2(logits);
}

std::size_t find_above(Isa isa, std::span<const float> logits, std::size_t first, float threshold) {
    return isa == Isa::scalar ? find_above_scalar(logits, first, threshold)
                              : find_above_avx2(logits, first, threshold);
}

double sum_exp(Isa isa, std::span<const float> logits, float max) {
    return isa == Isa::scalar ? sum_exp_scalar(logits, max) : sum_exp_avx2(logits, max);
}

}  // namespace unicorn::kernels
