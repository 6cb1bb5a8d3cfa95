#pragma once
// What the forms of matmul_packed share; matmul.h has the contract.

#include <cstddef>
#include <cstdint>

#include "kernels/matmul.h"
#include "kernels/panel_formats.h"

namespace unicorn::kernels {

/// One form of matmul_packed; the arguments are checked.
void matmul_packed_scalar(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                          std::size_t last, float* out, std::size_t out_stride);
void matmul_packed_avx2(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                        std::size_t last, float* out, std::size_t out_stride);
void matmul_packed_avx512(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                          std::size_t last, float* out, std::size_t out_stride);

/// Rows of activations as a kernel reads them, from some row and group on.
struct RowTile {
    const std::int8_t* codes = nullptr;
    const float* scales = nullptr;
    const std::uint32_t* side = nullptr;  // see SideWords
    std::size_t cols = 0;                 // from row to row of codes; scales are cols / 32 apart
    std::size_t side_stride = 0;

    RowTile at(std::size_t row, std::size_t group, std::size_t side_words) const {
        return {codes + row * cols + group * kGroup, scales + row * (cols / kGroup) + group,
                side + row * side_stride + group * side_words, cols, side_stride};
    }
};

/// Per row and group, what repays an offset or a minimum; computed once a call from
/// QuantizedRows::sums, so that the inner loop only broadcasts it.
///   offset       1 int32: -offset * sum of the group's codes; the integer sum starts there
///   minimum      1 f32: scale * sum of the group's codes
///   half_offset  2 int32, half_min 2 f32: the same for half groups
class SideWords {
public:
    static constexpr std::size_t kCapacity = 65536;  // 256 KiB of stack

    static constexpr std::size_t words(GroupSum sum) {
        return sum == GroupSum::half_min || sum == GroupSum::half_offset ? 2 : 1;
    }
    /// The words of rows [first, first + n) of `x`, n * cols / 32 * words(sum) <= kCapacity.
    void prepare(const QuantizedRows& x, std::size_t first, std::size_t n, GroupSum sum, int offset);

    /// Rows `first` (as given to prepare) and on.
    RowTile tile(const QuantizedRows& x, std::size_t first, GroupSum sum) const {
        return {x.codes + first * x.cols, x.scales + first * (x.cols / kGroup), words_, x.cols,
                x.cols / kGroup * words(sum)};
    }

private:
    alignas(64) std::uint32_t words_[kCapacity];  // not initialised: only what is used is touched
};

/// The rows of a block of activations: at most `wanted`, few enough for SideWords and for half an
/// L2 cache, of about equal blocks and whole tiles of 16 where possible.
std::size_t block_rows(std::size_t n_rows, std::size_t cols, GroupSum sum);

}  // namespace unicorn::kernels
