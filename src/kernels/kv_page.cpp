#include "kernels/kv_page.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/simd.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

constexpr float kF16Max = 65504.0f;
constexpr float kQ8Max = kF16Max * 127.0f;  // 2^23 - 69600: exact

/// What the codes of a group are made with.
struct GroupScale {
    std::uint16_t half;
    float inverse;  // 0 where all codes are 0
};

/// Of a group whose largest |x| has these bits; as integers, NaN is above all numbers. Rounding up
/// keeps codes within 127 where f16 has few digits left.
GroupScale group_scale(std::uint32_t max_bits) {
    constexpr std::uint16_t kNan = 0x7E00;
    if (max_bits > 0x7F800000u) return {kNan, 0};
    const float wanted = std::bit_cast<float>(max_bits) / 127.0f;
    std::uint16_t half = tensor::f32_to_f16(wanted);
    if (tensor::f16_to_f32(half) < wanted) ++half;
    return {half, half == 0 ? 0 : 1.0f / tensor::f16_to_f32(half)};
}

void store_f16_scalar(std::uint16_t* out, const float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        out[i] = tensor::f32_to_f16(std::clamp(x[i], -kF16Max, kF16Max));  // clamp leaves NaN alone
    }
}

void store_q8_scalar(std::int8_t* codes, std::uint16_t* scales, const float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += kKvGroup) {
        std::uint32_t max_bits = 0;
        for (std::size_t j = i; j < i + kKvGroup; ++j) {
            const float value = std::clamp(x[j], -kQ8Max, kQ8Max);
            max_bits = std::max(max_bits, std::bit_cast<std::uint32_t>(std::abs(value)));
        }
        const GroupScale scale = group_scale(max_bits);
        scales[i / kKvGroup] = scale.half;
        for (std::size_t j = i; j < i + kKvGroup; ++j) {
            const float value = std::clamp(x[j], -kQ8Max, kQ8Max);
            codes[j] = scale.inverse == 0
                           ? std::int8_t{0}
                           : static_cast<std::int8_t>(std::nearbyint(value * scale.inverse));
        }
    }
}

// min and max return their second operand when one is NaN, so that NaN passes the clamp.
UNICORN_TARGET_AVX2 inline __m256 clamp(__m256 x, float most) {
    x = _mm256_min_ps(_mm256_set1_ps(most), x);
    return _mm256_max_ps(_mm256_set1_ps(-most), x);
}

UNICORN_TARGET_AVX512 inline __m512 clamp(__m512 x, float most) {
    x = _mm512_min_ps(_mm512_set1_ps(most), x);
    return _mm512_max_ps(_mm512_set1_ps(-most), x);
}

UNICORN_TARGET_AVX2 void store_f16_avx2(std::uint16_t* out, const float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 8) {
        const __m128i halves = _mm256_cvtps_ph(clamp(_mm256_loadu_ps(x + i), kF16Max),
                                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), halves);
    }
}

UNICORN_TARGET_AVX512 void store_f16_avx512(std::uint16_t* out, const float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 16) {
        const __m256i halves = _mm512_cvtps_ph(clamp(_mm512_loadu_ps(x + i), kF16Max),
                                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), halves);
    }
}

UNICORN_TARGET_AVX2 void store_q8_avx2(std::int8_t* codes, std::uint16_t* scales, const float* x,
                                       std::size_t n) {
    for (std::size_t i = 0; i < n; i += kKvGroup) {
        __m256 values[4];
        __m256i most = _mm256_setzero_si256();
        for (std::size_t j = 0; j < 4; ++j) {
            values[j] = clamp(_mm256_loadu_ps(x + i + 8 * j), kQ8Max);
            most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(values[j]),
                                                           _mm256_set1_epi32(0x7FFFFFFF)));
        }
        __m128i m = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
        m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
        m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
        const GroupScale scale = group_scale(static_cast<std::uint32_t>(_mm_cvtsi128_si32(m)));
        scales[i / kKvGroup] = scale.half;
        if (scale.inverse == 0) {
            std::memset(codes + i, 0, kKvGroup);
            continue;
        }
        const __m256 inverse = _mm256_set1_ps(scale.inverse);
        __m256i c[4];
        for (std::size_t j = 0; j < 4; ++j)
            c[j] = _mm256_cvtps_epi32(_mm256_mul_ps(values[j], inverse));
        const __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
        // The packs work within 128-bit lanes: dwords now begin with 0,8,16,24 | 4,12,20,28.
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i),
                            _mm256_permutevar8x32_epi32(packed, order));
    }
}

UNICORN_TARGET_AVX512 void store_q8_avx512(std::int8_t* codes, std::uint16_t* scales,
                                           const float* x, std::size_t n) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    for (std::size_t i = 0; i < n; i += kKvGroup) {
        const __m512 x0 = clamp(_mm512_loadu_ps(x + i), kQ8Max);
        const __m512 x1 = clamp(_mm512_loadu_ps(x + i + 16), kQ8Max);
        const __m512i most = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x0), magnitude),
                                              _mm512_and_si512(_mm512_castps_si512(x1), magnitude));
        const GroupScale scale = group_scale(_mm512_reduce_max_epu32(most));
        scales[i / kKvGroup] = scale.half;
        if (scale.inverse == 0) {
            std::memset(codes + i, 0, kKvGroup);
            continue;
        }
        const __m512 inverse = _mm512_set1_ps(scale.inverse);
        const __m128i c0 = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse)));
        const __m128i c1 = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), c0);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i + 16), c1);
    }
}

}  // namespace

bool can_cache(DType type, std::size_t head_dim) {
    const bool plain = type == DType::f16 || type == DType::f32;
    const std::size_t multiple = plain ? 16 : kKvGroup;
    return (plain || type == DType::q8_0) && head_dim > 0 && head_dim % multiple == 0 &&
           head_dim <= kMaxHeadDim;
}

std::size_t kv_page_bytes(DType type, std::size_t head_dim) {
    return tensor::row_bytes(type, kPageTokens * head_dim);
}

void store_kv(Isa isa, DType type, std::byte* page, std::size_t token, std::span<const float> x) {
    const std::size_t dim = x.size();
    UNICORN_DCHECK(can_cache(type, dim) && token < kPageTokens);
    if (type == DType::f32) {
        std::memcpy(page + token * x.size_bytes(), x.data(), x.size_bytes());
    } else if (type == DType::f16) {
        const auto form = isa == Isa::scalar ? store_f16_scalar
                          : isa == Isa::avx2 ? store_f16_avx2
                                             : store_f16_avx512;
        form(reinterpret_cast<std::uint16_t*>(page) + token * dim, x.data(), dim);
    } else {
        const auto form = isa == Isa::scalar ? store_q8_scalar
                          : isa == Isa::avx2 ? store_q8_avx2
                                             : store_q8_avx512;
        auto* const scales = reinterpret_cast<std::uint16_t*>(page + kPageTokens * dim);
        form(reinterpret_cast<std::int8_t*>(page) + token * dim, scales + token * dim / kKvGroup,
             x.data(), dim);
    }
}

}  // namespace unicorn::kernels
