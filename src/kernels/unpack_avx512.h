#pragma once
// Groups of a panel (panel_formats.h) in AVX-512 registers: a byte a code, a float a scale.
// Included by matmul_packed_avx512.cpp only.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/matmul_simd.h"
#include "kernels/panel_formats.h"

namespace unicorn::kernels::avx512 {

using Byte = std::uint8_t;

/// A group's codes, a byte each: byte 4 r + j of step s is row r, k = 4 s + j.
struct Codes {
    __m512i step[8];
    UNICORN_INLINE_VNNI __m512i at(int s) const { return step[s]; }
};

/// What turns a group's integer sums into floats.
struct Scales {
    __m512
        scale[2];  // of the half groups; [0] alone where the group has one scale, or the block's d
    __m512 min;
    // For sums that stay integers over a super-block, two int16 a row, one for each half group: the
    // half scales, and what the sums of the activations are multiplied by: minima or offsets.
    __m512i pair;
    __m512i side_pair;
};

// ---- codes ----

UNICORN_INLINE_VNNI __m512i load(const Byte* p) { return _mm512_loadu_si512(p); }

UNICORN_INLINE_VNNI void unpack_low4(const Byte* p, Codes& w) {
    const __m512i mask = _mm512_set1_epi8(0x0F);
    UNICORN_UNROLL
    for (int v = 0; v < 4; ++v) {
        const __m512i q = load(p + 64 * v);
        w.step[2 * v] = _mm512_and_si512(q, mask);
        w.step[2 * v + 1] = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask);
    }
}

UNICORN_INLINE_VNNI void unpack_pairs(const Byte* p, Codes& w) {
    const __m512i mask = _mm512_set1_epi8(3);
    UNICORN_UNROLL
    for (int v = 0; v < 2; ++v) {
        const __m512i q = load(p + 64 * v);
        w.step[4 * v] = _mm512_and_si512(q, mask);
        w.step[4 * v + 1] = _mm512_and_si512(_mm512_srli_epi16(q, 2), mask);
        w.step[4 * v + 2] = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask);
        w.step[4 * v + 3] = _mm512_and_si512(_mm512_srli_epi16(q, 6), mask);
    }
}

/// Adds bit s of the vector at `p` to step s as bit kBit.
template <int kBit>
UNICORN_INLINE_VNNI void add_bits(const Byte* p, Codes& w) {
    const __m512i mask = _mm512_set1_epi8(1 << kBit);
    const __m512i q = load(p);
    UNICORN_UNROLL
    for (int s = 0; s < 8; ++s) {
        const __m512i moved =
            s < kBit ? _mm512_slli_epi16(q, static_cast<unsigned>(std::max(kBit - s, 0)))
                     : _mm512_srli_epi16(q, static_cast<unsigned>(std::max(s - kBit, 0)));
        w.step[s] = _mm512_ternarylogic_epi32(w.step[s], moved, mask, 0xF8);  // a | (b & c)
    }
}

/// Adds two bits for each step as bits 4 and 5.
UNICORN_INLINE_VNNI void add_high_pairs(const Byte* p, Codes& w) {
    const __m512i mask = _mm512_set1_epi8(0x30);
    UNICORN_UNROLL
    for (int v = 0; v < 2; ++v) {
        const __m512i q = load(p + 64 * v);
        w.step[4 * v] =
            _mm512_ternarylogic_epi32(w.step[4 * v], _mm512_slli_epi16(q, 4), mask, 0xF8);
        w.step[4 * v + 1] =
            _mm512_ternarylogic_epi32(w.step[4 * v + 1], _mm512_slli_epi16(q, 2), mask, 0xF8);
        w.step[4 * v + 2] = _mm512_ternarylogic_epi32(w.step[4 * v + 2], q, mask, 0xF8);
        w.step[4 * v + 3] =
            _mm512_ternarylogic_epi32(w.step[4 * v + 3], _mm512_srli_epi16(q, 2), mask, 0xF8);
    }
}

template <tensor::DType kType>
UNICORN_INLINE_VNNI void unpack(const Byte* p, Codes& w) {
    constexpr int kBits = panel_format(kType).bits;
    if constexpr (kBits == 8) {
        UNICORN_UNROLL
        for (int s = 0; s < 8; ++s) w.step[s] = load(p + 64 * s);
    } else if constexpr (kBits == 2 || kBits == 3) {
        unpack_pairs(p, w);
        if constexpr (kBits == 3) add_bits<2>(p + 128, w);
    } else {
        unpack_low4(p, w);
        if constexpr (kBits == 5) add_bits<4>(p + 256, w);
        if constexpr (kBits == 6) add_high_pairs(p + 256, w);
        if constexpr (has_iq4_table(kType)) {
            const __m512i table = _mm512_broadcast_i32x4(
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values.data())));
            UNICORN_UNROLL
            for (int s = 0; s < 8; ++s) w.step[s] = _mm512_shuffle_epi8(table, w.step[s]);
        }
    }
}

// ---- scales ----

UNICORN_INLINE_VNNI __m512 load_f16(const Byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
UNICORN_INLINE_VNNI __m512 load_u8(const Byte* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
UNICORN_INLINE_VNNI __m512 load_i8(const Byte* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
UNICORN_INLINE_VNNI __m512 low_half(__m512i pair) {
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16));
}
UNICORN_INLINE_VNNI __m512 high_half(__m512i pair) {
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(pair, 16));
}

/// The scales of a block that hold for all of its groups: d and dmin of super-blocks.
struct BlockScales {
    __m512 d;
    __m512 dmin;
};

template <tensor::DType kType>
UNICORN_INLINE_VNNI BlockScales block_scales(const Byte* header) {
    constexpr PanelFormat kFormat = panel_format(kType);
    BlockScales b = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    if constexpr (kFormat.groups == 8) {
        b.d = load_f16(header);
        if constexpr (kFormat.offset == 0) b.dmin = load_f16(header + 32);
    }
    return b;
}

template <tensor::DType kType>
UNICORN_INLINE_VNNI Scales group_scales(const Byte* header, const BlockScales& b, std::size_t g) {
    Scales s = {};
    if constexpr (kType == tensor::DType::q4_1 || kType == tensor::DType::q5_1) {
        s.scale[0] = load_f16(header + 32 * g);
        s.min = _mm512_sub_ps(_mm512_setzero_ps(), load_f16(header + 64 + 32 * g));
    } else if constexpr (panel_format(kType).groups == 2) {
        s.scale[0] = load_f16(header + 32 * g);
    } else if constexpr (kType == tensor::DType::q4_k || kType == tensor::DType::q5_k) {
        s.scale[0] = _mm512_mul_ps(b.d, load_u8(header + 64 + 16 * g));
        s.min = _mm512_mul_ps(b.dmin, load_u8(header + 192 + 16 * g));
    } else if constexpr (kType == tensor::DType::iq4_xs) {
        s.scale[0] = _mm512_mul_ps(b.d, load_i8(header + 32 + 16 * g));
    } else if constexpr (kType == tensor::DType::q2_k) {
        const __m512i both = _mm512_cvtepu8_epi16(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(header + 64 + 32 * g)));
        s.pair = _mm512_and_si512(both, _mm512_set1_epi16(0x0F));
        s.side_pair = _mm512_srli_epi16(both, 4);
        s.scale[0] = b.d;
    } else {
        s.pair = _mm512_cvtepi8_epi16(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(header + 32 + 32 * g)));
        if constexpr (kType == tensor::DType::q3_k) {
            s.side_pair = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_slli_epi16(s.pair, 2));
            s.scale[0] = b.d;
        } else {
            s.scale[0] = _mm512_mul_ps(b.d, low_half(s.pair));
            s.scale[1] = _mm512_mul_ps(b.d, high_half(s.pair));
        }
    }
    return s;
}

// ---- codes with their half scales multiplied in ----

/// The half scales of a group, each in all four bytes of its row.
UNICORN_INLINE_VNNI __m512i spread_half(const Byte* p, int half) {
    const __m512i pairs =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    const __m512i pick = _mm512_add_epi8(
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12)),
        _mm512_set1_epi8(static_cast<char>(half)));
    return _mm512_shuffle_epi8(pairs, pick);
}

/// q2_k with the half scale multiplied in: code * scale <= 3 * 15. Bits select what is added.
UNICORN_INLINE_VNNI void unpack_scaled_q2(const Byte* p, const Byte* half_scales, Codes& w) {
    UNICORN_UNROLL
    for (int h = 0; h < 2; ++h) {
        const __m512i scale = _mm512_and_si512(spread_half(half_scales, h), _mm512_set1_epi8(0x0F));
        const __m512i twice = _mm512_add_epi8(scale, scale);
        const __m512i q = load(p + 64 * h);
        UNICORN_UNROLL
        for (int i = 0; i < 4; ++i) {
            const __m512i one = _mm512_maskz_mov_epi8(
                _mm512_test_epi8_mask(q, _mm512_set1_epi8(static_cast<char>(1 << (2 * i)))), scale);
            w.step[4 * h + i] = _mm512_mask_add_epi8(
                one, _mm512_test_epi8_mask(q, _mm512_set1_epi8(static_cast<char>(2 << (2 * i)))),
                one, twice);
        }
    }
}

/// q3_k as 128 - (code - 4) * scale, which fits a byte: the product is in [-124, 128].
UNICORN_INLINE_VNNI void unpack_scaled_q3(const Byte* p, const Byte* half_scales, Codes& w) {
    const __m512i high = load(p + 128);
    UNICORN_UNROLL
    for (int h = 0; h < 2; ++h) {
        const __m512i scale = spread_half(half_scales, h);
        const __m512i twice = _mm512_add_epi8(scale, scale);
        const __m512i fourfold = _mm512_add_epi8(twice, twice);
        const __m512i base = _mm512_add_epi8(_mm512_set1_epi8(-128), fourfold);
        const __m512i q = load(p + 64 * h);
        UNICORN_UNROLL
        for (int i = 0; i < 4; ++i) {
            __m512i v = base;
            v = _mm512_mask_sub_epi8(
                v, _mm512_test_epi8_mask(q, _mm512_set1_epi8(static_cast<char>(1 << (2 * i)))), v,
                scale);
            v = _mm512_mask_sub_epi8(
                v, _mm512_test_epi8_mask(q, _mm512_set1_epi8(static_cast<char>(2 << (2 * i)))), v,
                twice);
            w.step[4 * h + i] = _mm512_mask_sub_epi8(
                v,
                _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << (4 * h + i)))),
                v, fourfold);
        }
    }
}

}  // namespace unicorn::kernels::avx512
