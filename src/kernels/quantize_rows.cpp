// Activations to int8 in groups of 32, with a scale for each or for 8 of them. The forms agree bit
// for bit: the maximum is taken over the bits of |x| (as integers, NaN > infinity > numbers), then
// one division, one product, one rounding.

#include <algorithm>
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

// Each form has two functions of a group: the bits of its largest |x|, and its codes and their sums
// (x * inverse is at most 127).

std::uint32_t max_bits_scalar(const float* x) {
    std::uint32_t max_bits = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu;
        if (bits > max_bits) max_bits = bits;
    }
    return max_bits;
}

void codes_scalar(const float* x, float inverse, std::int8_t* codes, std::int32_t* sums) {
    sums[0] = sums[1] = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const auto code = static_cast<std::int32_t>(std::nearbyint(x[i] * inverse));
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

UNICORN_TARGET_AVX2 std::uint32_t max_bits_avx2(const float* x) {
    const __m256i most =
        _mm256_max_epu32(_mm256_max_epu32(magnitude_bits(_mm256_loadu_ps(x)),
                                          magnitude_bits(_mm256_loadu_ps(x + 8))),
                         _mm256_max_epu32(magnitude_bits(_mm256_loadu_ps(x + 16)),
                                          magnitude_bits(_mm256_loadu_ps(x + 24))));
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(m));
}

UNICORN_TARGET_AVX2 void codes_avx2(const float* x, float inverse, std::int8_t* codes,
                                    std::int32_t* sums) {
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i c0 = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    const __m256i c1 = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
    const __m256i c2 = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16), factor));
    const __m256i c3 = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 24), factor));
    sums[0] = sum_lanes(_mm256_add_epi32(c0, c1));
    sums[1] = sum_lanes(_mm256_add_epi32(c2, c3));
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(c0, c1), _mm256_packs_epi32(c2, c3));
    // The packs work within 128-bit lanes: dwords now hold 0,8,16,24 | 4,12,20,28 (first elements).
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                        _mm256_permutevar8x32_epi32(packed, order));
}

UNICORN_TARGET_AVX512 std::uint32_t max_bits_avx512(const float* x) {
    const __m512i sign = _mm512_set1_epi32(0x7FFFFFFF);
    return _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(_mm512_loadu_si512(x), sign),
                         _mm512_and_si512(_mm512_loadu_si512(x + 16), sign)));
}

UNICORN_TARGET_AVX512 void codes_avx512(const float* x, float inverse, std::int8_t* codes,
                                        std::int32_t* sums) {
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i c0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
    const __m512i c1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), factor));
    sums[0] = _mm512_reduce_add_epi32(c0);
    sums[1] = _mm512_reduce_add_epi32(c1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(c0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16), _mm512_cvtepi32_epi8(c1));
}

struct Functions {
    std::uint32_t (*max_bits)(const float*);
    void (*codes)(const float*, float, std::int8_t*, std::int32_t*);
};

Functions functions(Isa isa) {
    switch (isa) {
        case Isa::avx2: return {max_bits_avx2, codes_avx2};
        case Isa::avx512: return {max_bits_avx512, codes_avx512};
        case Isa::scalar: break;
    }
    return {max_bits_scalar, codes_scalar};
}

}  // namespace

void quantize_row(Isa isa, const float* x, std::size_t t, const QuantizedRows& out) {
    UNICORN_CHECK(out.cols % kGroup == 0 && t < out.n_rows);
    UNICORN_CHECK(out.scale_columns > 0 && out.scale_columns % kGroup == 0);
    const Functions form = functions(isa);
    const std::size_t n_groups = out.cols / kGroup;
    const std::size_t together = out.scale_columns / kGroup;
    for (std::size_t begin = 0; begin < n_groups; begin += together) {
        const std::size_t end = std::min(n_groups, begin + together);
        std::uint32_t max_bits = 0;
        for (std::size_t g = begin; g < end; ++g)
            max_bits = std::max(max_bits, form.max_bits(x + g * kGroup));
        const GroupScale s = group_scale(max_bits);
        for (std::size_t g = begin; g < end; ++g) {
            const std::size_t i = t * n_groups + g;
            out.scales[i] = s.scale;
            if (s.inverse == 0) {
                store_zeros(out.codes + i * kGroup, out.sums + 2 * i);
            } else {
                form.codes(x + g * kGroup, s.inverse, out.codes + i * kGroup, out.sums + 2 * i);
            }
        }
    }
}

void quantize_rows(Isa isa, const float* x, std::size_t x_stride, std::size_t first,
                   std::size_t last, const QuantizedRows& out) {
    UNICORN_CHECK(first <= last && last <= out.n_rows);
    for (std::size_t t = first; t < last; ++t) quantize_row(isa, x + t * x_stride, t, out);
}

}  // namespace unicorn::kernels
