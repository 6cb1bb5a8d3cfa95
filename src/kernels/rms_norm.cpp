#include "kernels/rms_norm.h"

#include <cmath>

#include "base/check.h"
#include "kernels/simd.h"

namespace unicorn::kernels {
namespace {

// The forms work on D floats at plain pointers; `out` may be `x`, so each element is read before
// it is written.

double inverse_rms_scalar(const float* x, std::size_t dim, float eps) {
    double sum = 0;
    for (std::size_t d = 0; d < dim; ++d)
        sum += static_cast<double>(x[d]) * static_cast<double>(x[d]);
    return 1.0 / std::sqrt(sum / static_cast<double>(dim) + static_cast<double>(eps));
}

void rms_norm_scalar(float* out, const float* x, const float* gain, std::size_t dim, float eps) {
    const double scale = inverse_rms_scalar(x, dim, eps);
    for (std::size_t d = 0; d < dim; ++d) {
        out[d] =
            static_cast<float>(static_cast<double>(x[d]) * scale * static_cast<double>(gain[d]));
    }
}

void add_rms_norm_scalar(float* residual, const float* branch, const float* branch_gain,
                         const float* next_gain, std::size_t dim, float eps, float* out) {
    const double scale = inverse_rms_scalar(branch, dim, eps);
    for (std::size_t d = 0; d < dim; ++d) {
        const double normed =
            static_cast<double>(branch[d]) * scale * static_cast<double>(branch_gain[d]);
        residual[d] = static_cast<float>(static_cast<double>(residual[d]) + normed);
    }
    rms_norm_scalar(out, residual, next_gain, dim, eps);
}

UNICORN_TARGET_AVX2 float sum_of_squares_avx2(const float* x, std::size_t dim) {
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    std::size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        const __m256 x0 = _mm256_loadu_ps(x + d), x1 = _mm256_loadu_ps(x + d + 8);
        const __m256 x2 = _mm256_loadu_ps(x + d + 16), x3 = _mm256_loadu_ps(x + d + 24);
        s0 = _mm256_fmadd_ps(x0, x0, s0);
        s1 = _mm256_fmadd_ps(x1, x1, s1);
        s2 = _mm256_fmadd_ps(x2, x2, s2);
        s3 = _mm256_fmadd_ps(x3, x3, s3);
    }
    for (; d < dim; d += 8) {
        const __m256 tail = _mm256_maskload_ps(x + d, simd::first_lanes_avx2(dim - d));
        s0 = _mm256_fmadd_ps(tail, tail, s0);
    }
    return simd::sum_lanes(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

UNICORN_TARGET_AVX2 void scale_avx2(float* out, const float* x, const float* gain, std::size_t dim,
                                    float scale) {
    const __m256 s = _mm256_set1_ps(scale);
    std::size_t d = 0;
    for (; d + 8 <= dim; d += 8) {
        const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + d), s);
        _mm256_storeu_ps(out + d, _mm256_mul_ps(scaled, _mm256_loadu_ps(gain + d)));
    }
    if (d < dim) {
        const __m256i lanes = simd::first_lanes_avx2(dim - d);
        const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + d, lanes), s);
        _mm256_maskstore_ps(out + d, lanes,
                            _mm256_mul_ps(scaled, _mm256_maskload_ps(gain + d, lanes)));
    }
}

UNICORN_TARGET_AVX2 void rms_norm_avx2(float* out, const float* x, const float* gain,
                                       std::size_t dim, float eps) {
    scale_avx2(out, x, gain, dim, simd::inverse_rms(sum_of_squares_avx2(x, dim), dim, eps));
}

UNICORN_TARGET_AVX2 void add_rms_norm_avx2(float* residual, const float* branch,
                                           const float* branch_gain, const float* next_gain,
                                           std::size_t dim, float eps, float* out) {
    const __m256 s = _mm256_set1_ps(simd::inverse_rms(sum_of_squares_avx2(branch, dim), dim, eps));
    std::size_t d = 0;
    for (; d + 8 <= dim; d += 8) {
        const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(branch + d), s);
        _mm256_storeu_ps(residual + d, _mm256_fmadd_ps(scaled, _mm256_loadu_ps(branch_gain + d),
                                                       _mm256_loadu_ps(residual + d)));
    }
    if (d < dim) {
        const __m256i lanes = simd::first_lanes_avx2(dim - d);
        const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(branch + d, lanes), s);
        const __m256 sum = _mm256_fmadd_ps(scaled, _mm256_maskload_ps(branch_gain + d, lanes),
                                           _mm256_maskload_ps(residual + d, lanes));
        _mm256_maskstore_ps(residual + d, lanes, sum);
    }
    rms_norm_avx2(out, residual, next_gain, dim, eps);
}

UNICORN_TARGET_AVX512 float sum_of_squares_avx512(const float* x, std::size_t dim) {
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    std::size_t d = 0;
    for (; d + 64 <= dim; d += 64) {
        const __m512 x0 = _mm512_loadu_ps(x + d), x1 = _mm512_loadu_ps(x + d + 16);
        const __m512 x2 = _mm512_loadu_ps(x + d + 32), x3 = _mm512_loadu_ps(x + d + 48);
        s0 = _mm512_fmadd_ps(x0, x0, s0);
        s1 = _mm512_fmadd_ps(x1, x1, s1);
        s2 = _mm512_fmadd_ps(x2, x2, s2);
        s3 = _mm512_fmadd_ps(x3, x3, s3);
    }
    for (; d < dim; d += 16) {
        const __m512 tail = _mm512_maskz_loadu_ps(simd::first_lanes(dim - d), x + d);
        s0 = _mm512_fmadd_ps(tail, tail, s0);
    }
    return simd::sum_lanes(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

UNICORN_TARGET_AVX512 void rms_norm_avx512(float* out, const float* x, const float* gain,
                                           std::size_t dim, float eps) {
    const __m512 s = _mm512_set1_ps(simd::inverse_rms(sum_of_squares_avx512(x, dim), dim, eps));
    for (std::size_t d = 0; d < dim; d += 16) {
        const __mmask16 lanes = simd::first_lanes(dim - d);
        const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + d), s);
        _mm512_mask_storeu_ps(out + d, lanes,
                              _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(lanes, gain + d)));
    }
}

UNICORN_TARGET_AVX512 void add_rms_norm_avx512(float* residual, const float* branch,
                                               const float* branch_gain, const float* next_gain,
                                               std::size_t dim, float eps, float* out) {
    const __m512 s =
        _mm512_set1_ps(simd::inverse_rms(sum_of_squares_avx512(branch, dim), dim, eps));
    for (std::size_t d = 0; d < dim; d += 16) {
        const __mmask16 lanes = simd::first_lanes(dim - d);
        const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, branch + d), s);
        const __m512 sum = _mm512_fmadd_ps(scaled, _mm512_maskz_loadu_ps(lanes, branch_gain + d),
                                           _mm512_maskz_loadu_ps(lanes, residual + d));
        _mm512_mask_storeu_ps(residual + d, lanes, sum);
    }
    rms_norm_avx512(out, residual, next_gain, dim, eps);
}

}  // namespace

void rms_norm(Isa isa, std::span<float> out, std::span<const float> x, std::span<const float> gain,
              float eps) {
    UNICORN_DCHECK(!x.empty() && out.size() == x.size() && gain.size() == x.size());
    switch (isa) {
        case Isa::scalar: return rms_norm_scalar(out.data(), x.data(), gain.data(), x.size(), eps);
        case Isa::avx2: return rms_norm_avx2(out.data(), x.data(), gain.data(), x.size(), eps);
        case Isa::avx512: return rms_norm_avx512(out.data(), x.data(), gain.data(), x.size(), eps);
    }
}

void add_rms_norm(Isa isa, std::span<float> residual, std::span<const float> branch,
                  std::span<const float> branch_gain, std::span<const float> next_gain, float eps,
                  std::span<float> out) {
    const std::size_t dim = residual.size();
    UNICORN_DCHECK(dim > 0 && branch.size() == dim && branch_gain.size() == dim);
    UNICORN_DCHECK(next_gain.size() == dim && out.size() == dim);
    const auto form = isa == Isa::scalar ? add_rms_norm_scalar
                      : isa == Isa::avx2 ? add_rms_norm_avx2
                                         : add_rms_norm_avx512;
    form(residual.data(), branch.data(), branch_gain.data(), next_gain.data(), dim, eps,
         out.data());
}

}  // namespace unicorn::kernels
