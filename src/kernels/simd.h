#pragma once
// What the AVX2 and AVX-512 forms of the small kernels share: target attributes, tails, sums, exp.
// Included by kernels' .cpp files only.

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <limits>

/// A form is compiled for its instruction set by attribute, so that no file needs its own flags.
#define UNICORN_TARGET_AVX2 [[gnu::target("avx2,fma,f16c")]]
#define UNICORN_TARGET_AVX512 [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]]

namespace unicorn::kernels::simd {

/// The first min(n, 16) lanes.
UNICORN_TARGET_AVX512 inline __mmask16 first_lanes(std::size_t n) {
    return n >= 16 ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << n) - 1u);
}

/// The first min(n, 8) lanes, for maskload and maskstore.
UNICORN_TARGET_AVX2 inline __m256i first_lanes_avx2(std::size_t n) {
    const int count = n >= 8 ? 8 : static_cast<int>(n);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// The sum of 8 lanes: lane j with j + 4, then + 2, then + 1.
UNICORN_TARGET_AVX2 inline float sum_lanes(__m256 x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/// The sum of 16 lanes: lane j with j + 8, then as above.
UNICORN_TARGET_AVX512 inline float sum_lanes(__m512 x) {
    return sum_lanes(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}

UNICORN_TARGET_AVX2 inline float max_lanes(__m256 x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

UNICORN_TARGET_AVX512 inline float max_lanes(__m512 x) {
    return max_lanes(_mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}

/// 1 / sqrt(mean square + eps), for the norms. Squares that overflow give NaN: 1 / inf would turn a
/// broken row into a plausible row of zeros.
inline float inverse_rms(float sum_of_squares, std::size_t dim, float eps) {
    if (std::isinf(sum_of_squares)) return std::numeric_limits<float>::quiet_NaN();
    return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(dim) + eps);
}

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2;
// exp(r) = 1 + r + r^2 (c0 + c1 r + ... + c4 r^4), interpolated at Chebyshev nodes: within 1.1e-8.
inline constexpr float kExpC0 = 0.5f;
inline constexpr float kExpC1 = 0.16666576946436f;
inline constexpr float kExpC2 = 0.04166655456316f;
inline constexpr float kExpC3 = 0.00836318625558f;
inline constexpr float kExpC4 = 0.00139261925853f;
inline constexpr float kLog2E = 1.44269504088896f;
inline constexpr float kLn2High = 0.693359375f;  // 9 bits: n * kLn2High is exact
inline constexpr float kLn2Low = -2.12194440054690e-4f;
inline constexpr float kExpLowest = -87.0f;  // exp is 1.6e-38 there, still a normal number

/// exp(x) for x <= 0. Relative error at most 2e-7 in [-87, 0]; 0 below -87 and for -inf; NaN stays
/// NaN.
UNICORN_TARGET_AVX2 inline __m256 exp_nonpositive(__m256 x) {
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(kLog2E)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2High), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2Low), r);
    __m256 p = _mm256_set1_ps(kExpC4);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpC3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpC2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpC1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpC0));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    const __m256i exponent =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
    const __m256 too_low = _mm256_cmp_ps(x, _mm256_set1_ps(kExpLowest), _CMP_LT_OQ);
    return _mm256_andnot_ps(too_low, p);
}

UNICORN_TARGET_AVX512 inline __m512 exp_nonpositive(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(kLog2E)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2High), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2Low), r);
    __m512 p = _mm512_set1_ps(kExpC4);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC0));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    // Not-less-than is true for NaN, which so stays NaN.
    const __mmask16 in_range = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpLowest), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(in_range, p, n);
}

}  // namespace unicorn::kernels::simd
