#include "kernels/rope.h"

#include <cmath>

#include "base/check.h"
#include "kernels/simd.h"

namespace unicorn::kernels {
namespace {

void norm_rope_scalar(float* x, const float* gain, float eps, const float* cos, const float* sin,
                      std::size_t half) {
    double sum = 0;
    for (std::size_t i = 0; i < 2 * half; ++i)
        sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    const double scale =
        1.0 / std::sqrt(sum / static_cast<double>(2 * half) + static_cast<double>(eps));
    for (std::size_t i = 0; i < half; ++i) {
        const double a = static_cast<double>(x[i]) * scale * static_cast<double>(gain[i]);
        const double b =
            static_cast<double>(x[i + half]) * scale * static_cast<double>(gain[i + half]);
        const double c = static_cast<double>(cos[i]);
        const double s = static_cast<double>(sin[i]);
        x[i] = static_cast<float>(a * c - b * s);
        x[i + half] = static_cast<float>(b * c + a * s);
    }
}

UNICORN_TARGET_AVX2 void norm_rope_avx2(float* x, const float* gain, float eps, const float* cos,
                                        const float* sin, std::size_t half) {
    __m256 sum_a = _mm256_setzero_ps(), sum_b = sum_a;
    for (std::size_t i = 0; i < half; i += 8) {
        const __m256i lanes = simd::first_lanes_avx2(half - i);
        const __m256 a = _mm256_maskload_ps(x + i, lanes);
        const __m256 b = _mm256_maskload_ps(x + half + i, lanes);
        sum_a = _mm256_fmadd_ps(a, a, sum_a);
        sum_b = _mm256_fmadd_ps(b, b, sum_b);
    }
    const __m256 scale = _mm256_set1_ps(
        simd::inverse_rms(simd::sum_lanes(_mm256_add_ps(sum_a, sum_b)), 2 * half, eps));
    for (std::size_t i = 0; i < half; i += 8) {
        const __m256i lanes = simd::first_lanes_avx2(half - i);
        const __m256 a = _mm256_mul_ps(_mm256_mul_ps(_mm256_maskload_ps(x + i, lanes), scale),
                                       _mm256_maskload_ps(gain + i, lanes));
        const __m256 b =
            _mm256_mul_ps(_mm256_mul_ps(_mm256_maskload_ps(x + half + i, lanes), scale),
                          _mm256_maskload_ps(gain + half + i, lanes));
        const __m256 c = _mm256_maskload_ps(cos + i, lanes);
        const __m256 s = _mm256_maskload_ps(sin + i, lanes);
        _mm256_maskstore_ps(x + i, lanes, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_maskstore_ps(x + half + i, lanes, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

UNICORN_TARGET_AVX512 void norm_rope_avx512(float* x, const float* gain, float eps,
                                            const float* cos, const float* sin, std::size_t half) {
    __m512 sum_a = _mm512_setzero_ps(), sum_b = sum_a;
    for (std::size_t i = 0; i < half; i += 16) {
        const __mmask16 lanes = simd::first_lanes(half - i);
        const __m512 a = _mm512_maskz_loadu_ps(lanes, x + i);
        const __m512 b = _mm512_maskz_loadu_ps(lanes, x + half + i);
        sum_a = _mm512_fmadd_ps(a, a, sum_a);
        sum_b = _mm512_fmadd_ps(b, b, sum_b);
    }
    const __m512 scale = _mm512_set1_ps(
        simd::inverse_rms(simd::sum_lanes(_mm512_add_ps(sum_a, sum_b)), 2 * half, eps));
    for (std::size_t i = 0; i < half; i += 16) {
        const __mmask16 lanes = simd::first_lanes(half - i);
        const __m512 a = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), scale),
                                       _mm512_maskz_loadu_ps(lanes, gain + i));
        const __m512 b =
            _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + half + i), scale),
                          _mm512_maskz_loadu_ps(lanes, gain + half + i));
        const __m512 c = _mm512_maskz_loadu_ps(lanes, cos + i);
        const __m512 s = _mm512_maskz_loadu_ps(lanes, sin + i);
        _mm512_mask_storeu_ps(x + i, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, lanes, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

}  // namespace

namespace {

/// Calls visit(i, frequency[i] rounded to f32) for i in [0, half).
template <typename Visit>
void for_frequencies(double base, double divisor, std::size_t half, const Visit& visit) {
    // Powers by repeated multiplication: step i is off by at most 2i * 2^-53, far below f32's
    // rounding.
    const double ratio = std::pow(base, -1.0 / static_cast<double>(half));
    double frequency = 1.0 / divisor;
    for (std::size_t i = 0; i < half; ++i) {
        visit(i, static_cast<float>(frequency));
        frequency *= ratio;
    }
}

}  // namespace

void rope_frequencies(double base, double divisor, std::span<float> out) {
    for_frequencies(base, divisor, out.size(),
                    [&](std::size_t i, float frequency) { out[i] = frequency; });
}

void rope_angles(std::int32_t position, double base, double divisor, std::span<float> cos,
                 std::span<float> sin) {
    UNICORN_DCHECK(!cos.empty() && cos.size() == sin.size());
    for_frequencies(base, divisor, cos.size(), [&](std::size_t i, float frequency) {
        const float angle = static_cast<float>(position) * frequency;
        cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    });
}

void norm_rope(Isa isa, std::span<float> x, std::span<const float> gain, float eps,
               std::span<const float> cos, std::span<const float> sin) {
    const std::size_t half = x.size() / 2;
    UNICORN_DCHECK(x.size() >= 16 && x.size() % 2 == 0 && gain.size() == x.size());
    UNICORN_DCHECK(cos.size() == half && sin.size() == half);
    const auto form = isa == Isa::scalar ? norm_rope_scalar
                      : isa == Isa::avx2 ? norm_rope_avx2
                                         : norm_rope_avx512;
    form(x.data(), gain.data(), eps, cos.data(), sin.data(), half);
}

}  // namespace unicorn::kernels
