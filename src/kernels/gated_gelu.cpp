#include "kernels/gated_gelu.h"

#include <cmath>
#include <cstddef>

#include "base/check.h"
#include "kernels/simd.h"

namespace unicorn::kernels {
namespace {

void gated_gelu_scalar(float* out, const float* gate, const float* up, std::size_t n) {
    constexpr double kSqrt2OverPi = 0.79788456080286535588;
    for (std::size_t i = 0; i < n; ++i) {
        const double x = static_cast<double>(gate[i]);
        const double gelu = 0.5 * x * (1.0 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
        out[i] = static_cast<float>(gelu * static_cast<double>(up[i]));
    }
}

// The vector forms use gelu_tanh(x) = x / (1 + exp(-y)), y = 2 sqrt(2/pi) (x + 0.044715 x^3), with
// the exponential of -|y| only, which cannot overflow:
//   1 / (1 + exp(-y)) = (y < 0 ? e : 1) / (1 + e),  e = exp(-|y|).
// For large |x| y is infinite, e is 0 and the gate is exactly x or -0.
constexpr float kLinear = 1.59576912160573f;  // 2 sqrt(2/pi)
constexpr float kCubic = 0.0713548162726f;    // 2 sqrt(2/pi) 0.044715

UNICORN_TARGET_AVX2 inline __m256 gated_gelu_avx2(__m256 x, __m256 up) {
    const __m256 polynomial =
        _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(kCubic), _mm256_set1_ps(kLinear));
    const __m256 y = _mm256_mul_ps(x, polynomial);
    const __m256 e = simd::exp_nonpositive(_mm256_or_ps(y, _mm256_set1_ps(-0.0f)));
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 sigmoid = _mm256_div_ps(_mm256_blendv_ps(one, e, y), _mm256_add_ps(one, e));
    return _mm256_mul_ps(_mm256_mul_ps(x, sigmoid), up);
}

UNICORN_TARGET_AVX2 void gated_gelu_avx2(float* out, const float* gate, const float* up,
                                         std::size_t n) {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(out + i,
                         gated_gelu_avx2(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    }
    if (i < n) {
        const __m256i lanes = simd::first_lanes_avx2(n - i);
        _mm256_maskstore_ps(out + i, lanes,
                            gated_gelu_avx2(_mm256_maskload_ps(gate + i, lanes),
                                            _mm256_maskload_ps(up + i, lanes)));
    }
}

UNICORN_TARGET_AVX512 void gated_gelu_avx512(float* out, const float* gate, const float* up,
                                             std::size_t n) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (std::size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = simd::first_lanes(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(lanes, gate + i);
        const __m512 polynomial =
            _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(kCubic), _mm512_set1_ps(kLinear));
        const __m512 y = _mm512_mul_ps(x, polynomial);
        const __m512 e = simd::exp_nonpositive(_mm512_or_ps(y, _mm512_set1_ps(-0.0f)));
        const __m512 numerator =
            _mm512_mask_mov_ps(one, _mm512_movepi32_mask(_mm512_castps_si512(y)), e);
        const __m512 sigmoid = _mm512_div_ps(numerator, _mm512_add_ps(one, e));
        const __m512 gelu = _mm512_mul_ps(x, sigmoid);
        _mm512_mask_storeu_ps(out + i, lanes,
                              _mm512_mul_ps(gelu, _mm512_maskz_loadu_ps(lanes, up + i)));
    }
}

}  // namespace

void gated_gelu(Isa isa, std::span<float> out, std::span<const float> gate,
                std::span<const float> up) {
    UNICORN_DCHECK(out.size() == gate.size() && up.size() == gate.size());
    switch (isa) {
        case Isa::scalar: return gated_gelu_scalar(out.data(), gate.data(), up.data(), gate.size());
        case Isa::avx2: return gated_gelu_avx2(out.data(), gate.data(), up.data(), gate.size());
        case Isa::avx512: return gated_gelu_avx512(out.data(), gate.data(), up.data(), gate.size());
    }
}

}  // namespace unicorn::kernels
