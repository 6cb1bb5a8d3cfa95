#pragma once
// What the forms of matmul_packed share; matmul.h has the contract.

#include <algorithm>
#include <bit>
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
    const std::uint32_t* side = nullptr;  // see SideWords
    std::size_t cols = 0;                 // codes from row to row
    std::size_t side_stride = 0;          // words from row to row
};

/// Per row and group, the activations' scale and what repays an offset or a minimum; computed once
/// a call from QuantizedRows, so that the inner loop only broadcasts from one place a row.
///   [0]                f32: the scale
///   offset       [1]   int32: -offset * sum of the group's codes; the integer sum starts there
///   minimum      [1]   f32: scale * sum of the group's codes
///   half_offset  [1,2] int32, half_min [1,2] f32: the same for half groups
///   half_pair    [1]   2 int16: the sums of the half groups' codes
class SideWords {
public:
    static constexpr std::size_t kCapacity = 32768;  // 128 KiB of stack

    static constexpr std::size_t words(GroupSum sum) {
        return sum == GroupSum::half_min || sum == GroupSum::half_offset ? 3 : 2;
    }
    /// How many rows of `cols` <= kMaxCols columns fit.
    static constexpr std::size_t most_rows(std::size_t cols, GroupSum sum) {
        return kCapacity / (std::max<std::size_t>(cols, kGroup) / kGroup * words(sum));
    }
    /// The words of one group; `sums` are those of its two halves.
    static void put(float scale, const std::int32_t* sums, GroupSum sum, int offset,
                    std::uint32_t* out);

    /// The words of rows [first, first + n) of `x`, n <= most_rows.
    void prepare(const QuantizedRows& x, std::size_t first, std::size_t n, GroupSum sum,
                 int offset);

    /// Rows `first` (as given to prepare) and on.
    RowTile tile(const QuantizedRows& x, std::size_t first, GroupSum sum) const {
        return {x.codes + first * x.cols, words_, x.cols, x.cols / kGroup * words(sum)};
    }

private:
    alignas(64) std::uint32_t words_[kCapacity];  // not initialised: only what is used is touched
};

inline void SideWords::put(float scale, const std::int32_t* sums, GroupSum sum, int offset,
                           std::uint32_t* out) {
    const auto integer = [](int value) { return static_cast<std::uint32_t>(value); };
    const auto real = [](float value) { return std::bit_cast<std::uint32_t>(value); };
    out[0] = real(scale);
    switch (sum) {
        case GroupSum::offset: out[1] = integer(-offset * (sums[0] + sums[1])); break;
        case GroupSum::minimum: out[1] = real(scale * static_cast<float>(sums[0] + sums[1])); break;
        case GroupSum::half_offset:
            out[1] = integer(-offset * sums[0]);
            out[2] = integer(-offset * sums[1]);
            break;
        case GroupSum::half_min:
            out[1] = real(scale * static_cast<float>(sums[0]));
            out[2] = real(scale * static_cast<float>(sums[1]));
            break;
        case GroupSum::half_pair:
            out[1] = (integer(sums[0]) & 0xFFFFu) | integer(sums[1]) << 16;
            break;
    }
}

}  // namespace unicorn::kernels
