#pragma once
// The bytes of one block of every quantised type, as they lie in a GGUF file (little-endian).
// Source: ggml's ggml-common.h. kernels/dequantize.cpp says what each field means.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace unicorn::tensor {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie");

/// A block's scale: IEEE binary16, convert with f16_to_f32 (half.h).
using F16 = std::uint16_t;

inline constexpr std::size_t kSmallBlock = 32;   // weights of a q4_0 ... q8_0 or iq4_nl block
inline constexpr std::size_t kSuperBlock = 256;  // weights of a K-quant or iq4_xs block

// In blocks of 32, byte j of `qs` holds weight j in its low and weight j + 16 in its high nibble;
// bit j of `qh` is the fifth bit of weight j.

struct [[gnu::packed]] BlockQ4_0 {  // w = d * (q - 8)
    static constexpr DType kType = DType::q4_0;
    F16 d;
    std::uint8_t qs[16];
};

struct [[gnu::packed]] BlockQ4_1 {  // w = d * q + m
    static constexpr DType kType = DType::q4_1;
    F16 d;
    F16 m;
    std::uint8_t qs[16];
};

struct [[gnu::packed]] BlockQ5_0 {  // w = d * (q - 16)
    static constexpr DType kType = DType::q5_0;
    F16 d;
    std::uint32_t qh;
    std::uint8_t qs[16];
};

struct [[gnu::packed]] BlockQ5_1 {  // w = d * q + m
    static constexpr DType kType = DType::q5_1;
    F16 d;
    F16 m;
    std::uint32_t qh;
    std::uint8_t qs[16];
};

struct [[gnu::packed]] BlockQ8_0 {  // w = d * q
    static constexpr DType kType = DType::q8_0;
    F16 d;
    std::int8_t qs[32];
};

struct [[gnu::packed]] BlockIQ4_NL {  // w = d * kIQ4Values[q]
    static constexpr DType kType = DType::iq4_nl;
    F16 d;
    std::uint8_t qs[16];
};

// In Q2_K and Q3_K, weight 128 h + 32 s + l has its two low bits at shift 2 s of qs[32 h + l].
// Scales are those of 16 consecutive weights.

struct [[gnu::packed]] BlockQ2_K {  // w = d * (scale & 15) * q - dmin * (scale >> 4)
    static constexpr DType kType = DType::q2_k;
    std::uint8_t scales[16];
    std::uint8_t qs[64];
    F16 d;
    F16 dmin;
};

struct [[gnu::packed]] BlockQ3_K {  // w = d * (scale - 32) * (q - 4)
    static constexpr DType kType = DType::q3_k;
    std::uint8_t hmask[32];  // bit 4 h + s of hmask[l] is the third bit of the code
    std::uint8_t qs[64];
    std::uint8_t scales[12];  // see q3_k_scale
    F16 d;
};

// In Q4_K and Q5_K, byte 32 c + l of `qs` holds weight 64 c + l in its low and weight
// 64 c + 32 + l in its high nibble. Scales and minima are those of 32 consecutive weights.

struct [[gnu::packed]] BlockQ4_K {  // w = d * scale * q - dmin * min
    static constexpr DType kType = DType::q4_k;
    F16 d;
    F16 dmin;
    std::uint8_t scales[12];  // see q4_k_scale
    std::uint8_t qs[128];
};

struct [[gnu::packed]] BlockQ5_K {  // w = d * scale * q - dmin * min
    static constexpr DType kType = DType::q5_k;
    F16 d;
    F16 dmin;
    std::uint8_t scales[12];  // see q4_k_scale
    std::uint8_t qh[32];      // bits 2 c and 2 c + 1 of qh[l]: the fifth bits of the two nibbles
    std::uint8_t qs[128];
};

struct [[gnu::packed]] BlockQ6_K {  // w = d * scale * (q - 32), a scale for 16 weights
    static constexpr DType kType = DType::q6_k;
    std::uint8_t ql[128];  // weight 128 h + 32 s + l: nibble s / 2 of ql[64 h + 32 (s % 2) + l]
    std::uint8_t qh[64];   // ... and the two bits at shift 2 s of qh[32 h + l]
    std::int8_t scales[16];
    F16 d;
};

struct [[gnu::packed]] BlockIQ4_XS {  // w = d * (scale - 32) * kIQ4Values[q], a scale for 32
    static constexpr DType kType = DType::iq4_xs;
    F16 d;
    std::uint16_t scales_h;
    std::uint8_t scales_l[4];  // see iq4_xs_scale
    std::uint8_t qs[128];      // eight groups of 16 bytes, each laid out as in IQ4_NL
};

static_assert(sizeof(BlockQ4_0) == 18);
static_assert(sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_XS) == 136);

/// The sixteen levels of IQ4_NL and IQ4_XS, in units of the scale.
inline constexpr std::array<std::int8_t, 16> kIQ4Values = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Block number `index` of a row that starts at `blocks`, whatever its alignment.
template <typename Block>
Block load_block(const std::byte* blocks, std::size_t index) {
    Block block;
    std::memcpy(&block, blocks + index * sizeof(Block), sizeof(Block));
    return block;
}

struct ScaleMin {
    std::uint8_t scale;
    std::uint8_t min;
};

/// The 6-bit scale and minimum of group j (0 to 7) in the 12 bytes of Q4_K and Q5_K. Groups 0-3
/// lie in the low six bits of bytes 0-3 (scales) and 4-7 (minima); groups 4-7 have their low four
/// bits in bytes 8-11 and their high two on top of bytes 0-3 and 4-7.
inline ScaleMin q4_k_scale(const std::uint8_t* scales, std::size_t j) {
    if (j < 4) {
        return {static_cast<std::uint8_t>(scales[j] & 63),
                static_cast<std::uint8_t>(scales[j + 4] & 63)};
    }
    return {static_cast<std::uint8_t>((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4)),
            static_cast<std::uint8_t>((scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))};
}

/// The 6-bit scale of group j (0 to 15) in the 12 bytes of Q3_K; 32 stands for zero.
inline std::uint8_t q3_k_scale(const std::uint8_t* scales, std::size_t j) {
    const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
    const int high = (scales[8 + j % 4] >> (2 * (j / 4))) & 3;
    return static_cast<std::uint8_t>(low | (high << 4));
}

/// The 6-bit scale of group j (0 to 7) of an IQ4_XS block; 32 stands for zero.
inline std::uint8_t iq4_xs_scale(const BlockIQ4_XS& block, std::size_t j) {
    const int low = (block.scales_l[j / 2] >> (4 * (j % 2))) & 15;
    const int high = (block.scales_h >> (2 * j)) & 3;
    return static_cast<std::uint8_t>(low | (high << 4));
}

}  // namespace unicorn::tensor
