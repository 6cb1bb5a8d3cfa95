// Activations to int8 in groups of 32. The forms agree bit for bit: the maximum is taken over the
// bits of |x| (as integers, NaN > infinity > numbers), then one division, one product, one
// rounding.

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/matmul_simd.h"

namespace unicorn::kernels {
namespace {

/// What a group's codes are made with.
struct GroupScale {
    float scale;    // what a code stands for
    float inverse;  // 0 where all codes are 0
};

GroupScale group_scale(std::uint32_t max_bits) {
    constexpr float kTiny = 0x1p-119f;  // below, 127 / max would overflow
    if (max_bits >= 0x7F800000u) return {std::numeric_limits<float>::quiet_NaN(), 0};
    const float most = std::bit_cast<float>(max_bits);
    if (most < kTiny) return {0, 0};
    return {most / 127.0f, 127.0f / most};
}

void store_zeros(std::int8_t* codes, std::int32_t* sums) {
    std::memset(codes, 0, kGroup);
    sums[0] = sums[1] = 0;
}

void quantize_group_scalar(const float* x, std::int8_t* codes, float* scale, std::int32_t* sums) {
    std::uint32_t max_bits = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu;
        if (bits > max_bits) max_bits = bits;
    }
    const GroupScale s = group_scale(max_bits);
    *scale = s.scale;
    if (s.inverse == 0) return store_zeros(codes, sums);
    sums[0] = sums[1] = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const auto code = static_cast<std::int32_t>(std::nearbyint(x[i] * s.inverse));
        codes[i] = static_cast<std::int8_t>(code);
        sums[i / 16] += code;
    }
}

UNICORN_INLINE_AVX2 __m256i magnitude_bits(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF));
}

UNICORN_INLINE_AVX2 std::int32_t sum_lanes(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

UNICORN_TARGET_AVX2 void quantize_group_avx2(const float* x, std::int8_t* codes, float* scale,
                                             std::int32_t* sums) {
    const __m256 x0 = _mm256_loadu_ps(x);
    const __m256 x1 = _mm256_loadu_ps(x + 8);
    const __m256 x2 = _mm256_loadu_ps(x + 16);
    const __m256 x3 = _mm256_loadu_ps(x + 24);
    const __m256i most = _mm256_max_epu32(_mm256_max_epu32(magnitude_bits(x0), magnitude_bits(x1)),
                                          _mm256_max_epu32(magnitude_bits(x2), magnitude_bits(x3)));
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    const GroupScale s = group_scale(static_cast<std::uint32_t>(_mm_cvtsi128_si32(m)));
    *scale = s.scale;
    if (s.inverse == 0) return store_zeros(codes, sums);
    const __m256 inverse = _mm256_set1_ps(s.inverse);
    const __m256i c0 = _mm256_cvtps_epi32(_mm256_mul_ps(x0, inverse));
    const __m256i c1 = _mm256_cvtps_epi32(_mm256_mul_ps(x1, inverse));
    const __m256i c2 = _mm256_cvtps_epi32(_mm256_mul_ps(x2, inverse));
    const __m256i c3 = _mm256_cvtps_epi32(_mm256_mul_ps(x3, inverse));
    sums[0] = sum_lanes(_mm256_add_epi32(c0, c1));
    sums[1] = sum_lanes(_mm256_add_epi32(c2, c3));
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(c0, c1), _mm256_packs_epi32(c2, c3));
    // The packs work within 128-bit lanes: dwords now hold 0,8,16,24 | 4,12,20,28 (first elements).
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                        _mm256_permutevar8x32_epi32(packed, order));
}

UNICORN_TARGET_AVX512 void quantize_group_avx512(const float* x, std::int8_t* codes, float* scale,
                                                 std::int32_t* sums) {
    const __m512 x0 = _mm512_loadu_ps(x);
    const __m512 x1 = _mm512_loadu_ps(x + 16);
    const __m512i sign = _mm512_set1_epi32(0x7FFFFFFF);
    const __m512i most = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x0), sign),
                                          _mm512_and_si512(_mm512_castps_si512(x1), sign));
    const GroupScale s = group_scale(_mm512_reduce_max_epu32(most));
    *scale = s.scale;
    if (s.inverse == 0) return store_zeros(codes, sums);
    const __m512 inverse = _mm512_set1_ps(s.inverse);
    const __m512i c0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
    const __m512i c1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
    sums[0] = _mm512_reduce_add_epi32(c0);
    sums[1] = _mm512_reduce_add_epi32(c1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(c0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16), _mm512_cvtepi32_epi8(c1));
}

using GroupFn = void (*)(const float*, std::int8_t*, float*, std::int32_t*);

GroupFn group_fn(Isa isa) {
    switch (isa) {
        case Isa::scalar: return quantize_group_scalar;
        case Isa::avx2: return quantize_group_avx2;
        case Isa::avx512: return quantize_group_avx512;
    }
    return quantize_group_scalar;
}

}  // namespace

void quantize_rows(Isa isa, const float* x, std::size_t x_stride, std::size_t first,
                   std::size_t last, const QuantizedRows& out) {
    UNICORN_CHECK(out.cols % kGroup == 0 && first <= last && last <= out.n_rows);
    const GroupFn quantize_group = group_fn(isa);
    const std::size_t n_groups = out.cols / kGroup;
    for (std::size_t t = first; t < last; ++t) {
        for (std::size_t g = 0; g < n_groups; ++g) {
            const std::size_t i = t * n_groups + g;
            quantize_group(x + t * x_stride + g * kGroup, out.codes + i * kGroup, out.scales + i,
                           out.sums + 2 * i);
        }
    }
}

}  // namespace unicorn::kernels
