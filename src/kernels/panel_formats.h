#pragma once
// How the panels of pack_panels lie in memory: 16 rows of a quantised matrix, at the file's bits a
// weight (K-quants' 6-bit sub-scales are widened to bytes), in the order in which they are used.
//
// Along k a panel is a sequence of blocks of `groups` groups of 32 weights; the last block may
// hold fewer. A block is a header (scales), then the codes of its groups:
//
//   32-blocks     2 groups: d[2][16] f16, then m[2][16] f16 where the type has minima
//   q4_k, q5_k    8 groups: d[16] f16, dmin[16] f16, scale[8][16] u8, min[8][16] u8
//   q2_k          8 groups: d[16] f16, dmin[16] f16, (scale | min << 4)[8][16][2] u8
//   q3_k, q6_k    8 groups: d[16] f16, scale[8][16][2] i8
//   iq4_xs        8 groups: d[16] f16, scale[8][16] i8
//
// where [2] after the rows stands for half groups.
//
// Codes are vectors of 64 bytes; byte 4 r + j belongs to row r and to k = 4 s + j of the group,
// where s = 0..7 is called the step. With v the number of the vector:
//
//   8 bits  8 vectors: step v
//   4 bits  4 vectors: step 2v in the low nibble, step 2v + 1 in the high one
//   2 bits  2 vectors: step 4v + i in bits 2i and 2i + 1
//   5 bits  the 4 vectors of the low 4 bits, then 1 vector: bit 4 of step s in bit s
//   6 bits  the 4 vectors of the low 4 bits, then 2 vectors of bits 4 and 5 as for 2 bits
//   3 bits  the 2 vectors of the low 2 bits, then 1 vector: bit 2 of step s in bit s

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/matmul.h"
#include "tensor/dtype.h"

namespace unicorn::kernels {

/// How a group's integer sums become floats.
enum class GroupSum {
    offset,       // scale * sum (code - offset) x
    minimum,      // scale * sum code x - min * sum x
    half_min,     // the same with a scale and a minimum for each half group
    half_offset,  // scale_0 * sum_0 (code - offset) x + scale_1 * sum_1 (code - offset) x
    half_pair     // of the last two, for forms that multiply by half scales and minima as integers
};

struct PanelFormat {
    int bits = 0;  // of a code
    GroupSum sum = GroupSum::offset;
    int offset = 0;          // weight = scale * (code - offset), or scale * table[code]
    std::size_t groups = 0;  // of a block
    std::size_t header_bytes = 0;

    constexpr std::size_t group_bytes() const { return static_cast<std::size_t>(bits) * 64; }
    constexpr std::size_t block_bytes() const { return header_bytes + groups * group_bytes(); }
};

constexpr PanelFormat panel_format(tensor::DType type) {
    using enum tensor::DType;
    switch (type) {
        case q4_0: return {4, GroupSum::offset, 8, 2, 64};
        case q4_1: return {4, GroupSum::minimum, 0, 2, 128};
        case q5_0: return {5, GroupSum::offset, 16, 2, 64};
        case q5_1: return {5, GroupSum::minimum, 0, 2, 128};
        case q8_0: return {8, GroupSum::offset, 128, 2, 64};
        case q2_k: return {2, GroupSum::half_min, 0, 8, 320};
        case q3_k: return {3, GroupSum::half_offset, 4, 8, 288};
        case q4_k: return {4, GroupSum::minimum, 0, 8, 320};
        case q5_k: return {5, GroupSum::minimum, 0, 8, 320};
        case q6_k: return {6, GroupSum::half_offset, 32, 8, 288};
        case iq4_nl: return {4, GroupSum::offset, 128, 2, 64};
        case iq4_xs: return {4, GroupSum::offset, 128, 8, 160};
        case f32:
        case f16:
        case bf16: break;
    }
    return {};
}

/// The 16 values of an iq4 code (ggml-common.h, kvalues_iq4nl), plus 128.
inline constexpr std::array<std::uint8_t, 16> kIq4Values = {1,   24,  45,  63,  79,  93,  106, 118,
                                                            129, 141, 153, 166, 181, 197, 217, 241};

constexpr bool has_iq4_table(tensor::DType type) {
    return type == tensor::DType::iq4_nl || type == tensor::DType::iq4_xs;
}

/// One group of a panel, decoded plainly: weight [r, k] = scale[k / 16][r] * code[r][k] - min[k /
/// 16][r].
struct PanelGroup {
    int code[kPanelRows][kGroup];
    double scale[2][kPanelRows];
    double min[2][kPanelRows];
};

/// Decodes group `g` of a panel of `type`.
void read_group(tensor::DType type, const std::byte* panel, std::size_t g, PanelGroup& out);

}  // namespace unicorn::kernels
