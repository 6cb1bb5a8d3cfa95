#pragma once
// Half a panel (panel_formats.h), 8 of its 16 rows, in AVX2 registers: a byte a code, 4 bytes a
// scale. Included by matmul_packed_avx2.cpp only.

#include <cstddef>
#include <cstdint>

#include "kernels/matmul_simd.h"
#include "kernels/panel_formats.h"

namespace unicorn::kernels::avx2 {

using Byte = std::uint8_t;

UNICORN_INLINE_AVX2 __m256i load(const Byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// ---- codes ----

/// Each byte of `v` moved up by kBy bits (down, where it is negative), then masked.
template <int kBy>
UNICORN_INLINE_AVX2 __m256i moved(__m256i v, int mask) {
    if constexpr (kBy > 0) v = _mm256_slli_epi16(v, kBy);
    if constexpr (kBy < 0) v = _mm256_srli_epi16(v, -kBy);
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
}

/// Step kS of 8 rows whose codes begin at `p`: byte 4 r + j is row r, k = 4 kS + j. Types with
/// offset 128 give signed weights, the others unsigned codes.
template <tensor::DType kType, int kS>
UNICORN_INLINE_AVX2 __m256i unpack_step(const Byte* p) {
    constexpr int kBits = panel_format(kType).bits;
    if constexpr (kBits == 8) {
        return _mm256_xor_si256(load(p + 64 * kS), _mm256_set1_epi8(-128));
    } else if constexpr (kBits <= 3) {
        const __m256i low = moved<-2 * (kS % 4)>(load(p + 64 * (kS / 4)), 3);
        if constexpr (kBits == 2) return low;
        return _mm256_or_si256(low, moved<2 - kS>(load(p + 128), 1 << 2));
    } else {
        const __m256i low = moved<-4 * (kS % 2)>(load(p + 64 * (kS / 2)), 0x0F);
        if constexpr (kBits == 5) {
            return _mm256_or_si256(low, moved<4 - kS>(load(p + 256), 1 << 4));
        } else if constexpr (kBits == 6) {
            const __m256i high = load(p + 256 + 64 * (kS / 4));
            return _mm256_or_si256(low, moved<4 - 2 * (kS % 4)>(high, 3 << 4));
        } else if constexpr (has_iq4_table(kType)) {
            const __m128i values =
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values.data()));
            const __m256i table =
                _mm256_xor_si256(_mm256_broadcastsi128_si256(values), _mm256_set1_epi8(-128));
            return _mm256_shuffle_epi8(table, low);
        } else {
            return low;
        }
    }
}

// ---- scales ----

/// What turns the integer sums of 8 rows into floats.
struct Scales {
    __m256 scale;     // of the group; of the block, where half groups have integer scales
    __m256 min[2];    // of the half groups; [0] alone where the group has one minimum
    __m256i half[2];  // integer scales of the half groups: twice the same int16 a row
    __m256i offsets;  // -offset * those two: a pair of int16 a row
};

UNICORN_INLINE_AVX2 __m128i load_16(const Byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
UNICORN_INLINE_AVX2 __m128i load_8(const Byte* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
UNICORN_INLINE_AVX2 __m256 load_f16(const Byte* p) { return _mm256_cvtph_ps(load_16(p)); }
UNICORN_INLINE_AVX2 __m256 load_u8(const Byte* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8(p)));
}
UNICORN_INLINE_AVX2 __m256 load_i8(const Byte* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_8(p)));
}

/// Int16 2 r + kWhich of `pairs` in both int16 of row r.
template <int kWhich>
UNICORN_INLINE_AVX2 __m256i both(__m256i pairs) {
    const __m128i low = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    const __m128i pick = _mm_add_epi8(low, _mm_set1_epi8(2 * kWhich));
    return _mm256_shuffle_epi8(pairs, _mm256_broadcastsi128_si256(pick));
}

/// Those of group `g` of the block with `header`, for rows 8 h and on.
template <tensor::DType kType>
UNICORN_INLINE_AVX2 Scales group_scales(const Byte* header, std::size_t g, std::size_t h) {
    using enum tensor::DType;
    const std::size_t row = 8 * h;
    const Byte* d = header + 2 * row;
    Scales s = {};
    if constexpr (kType == q4_1 || kType == q5_1) {
        s.scale = load_f16(d + 32 * g);
        s.min[0] = _mm256_sub_ps(_mm256_setzero_ps(), load_f16(d + 64 + 32 * g));
    } else if constexpr (panel_format(kType).groups == 2) {
        s.scale = load_f16(d + 32 * g);
    } else if constexpr (kType == q4_k || kType == q5_k) {
        s.scale = _mm256_mul_ps(load_f16(d), load_u8(header + 64 + 16 * g + row));
        s.min[0] = _mm256_mul_ps(load_f16(d + 32), load_u8(header + 192 + 16 * g + row));
    } else if constexpr (kType == iq4_xs) {
        s.scale = _mm256_mul_ps(load_f16(d), load_i8(header + 32 + 16 * g + row));
    } else if constexpr (kType == q2_k) {
        const __m256i pairs = _mm256_cvtepu8_epi16(load_16(d + 64 + 32 * g));
        const __m256i scales = _mm256_and_si256(pairs, _mm256_set1_epi16(0x0F));
        const __m256i min0 = _mm256_and_si256(_mm256_srli_epi32(pairs, 4), _mm256_set1_epi32(0x0F));
        const __m256 dmin = load_f16(d + 32);
        s.scale = load_f16(d);
        s.half[0] = both<0>(scales);
        s.half[1] = both<1>(scales);
        s.min[0] = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(min0));
        s.min[1] = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_srli_epi32(pairs, 20)));
    } else {
        const __m256i pairs = _mm256_cvtepi8_epi16(load_16(d + 32 + 32 * g));
        const auto offset = static_cast<short>(panel_format(kType).offset);
        s.scale = load_f16(d);
        s.half[0] = both<0>(pairs);
        s.half[1] = both<1>(pairs);
        s.offsets = _mm256_mullo_epi16(pairs, _mm256_set1_epi16(static_cast<short>(-offset)));
    }
    return s;
}

}  // namespace unicorn::kernels::avx2
