#pragma once
// How a matrix of weights lies in a GPU's memory: in tiles of 16 rows, each tile with planes of
// codes, high bits and scales, sorted so that neighbouring invocations read neighbouring words. The
// file's bits, at most 4 % more of them (6-bit scales become bytes).
//
// A tile covers all columns of 16 rows, cut into units of 32 columns (64 for q2_k and q3_k):
//   codes  [unit][piece][row] 16 bytes   the low (or only) bits of the unit's codes
//   high   [unit][row] high_bytes        the fifth and sixth bits, or the third
//   sub    [unit][row] sub_bytes         a byte for each scale (and minimum) within a super-block
//   scale  [block][row] scale_bytes      f16 d, or f16 d and dmin (m), for each scale_cols columns
// The last tile is padded with rows of zeros.
//
// Codes are stored by quads of four consecutive columns: byte b of a quad belongs to column
// kQuadOrder[b] of it, so that bytes 0, 2 and 1, 3 (which one mask each picks as 16-bit halves) are
// neighbours. Quad j of a unit lies
//   in 8 bits: in word j;  in 4 bits: in word j / 2, in the low nibbles where j is even;
//   in 2 bits: in word j / 4, at bit 2 (j % 4) of each byte.
// Its high bits lie, for one bit, at bit j % 8 of each byte of word j / 8, for two bits at bit
// 2 (j % 4) of each byte of word j / 4. Floats lie in order, 16 bytes of them a piece.
// backends/vulkan/matmul_weights.glsl reads it.

#include <array>
#include <cstddef>

#include "tensor/dtype.h"

namespace unicorn::kernels {

inline constexpr std::size_t kTileRows = 16;
inline constexpr std::array<std::size_t, 4> kQuadOrder = {0, 2, 1, 3};

/// One type's planes; sizes in bytes are for one row.
struct GpuTile {
    std::size_t unit_cols = 32;
    std::size_t pieces = 1;  // of 16 bytes
    std::size_t high_bytes = 0;
    std::size_t sub_bytes = 0;
    std::size_t scale_bytes = 0;
    std::size_t scale_cols = 32;

    /// Offsets within a tile of `cols` columns, and its size: all multiples of 16.
    std::size_t high_offset(std::size_t cols) const { return cols / unit_cols * pieces * 256; }
    std::size_t sub_offset(std::size_t cols) const {
        return high_offset(cols) + cols / unit_cols * high_bytes * kTileRows;
    }
    std::size_t scale_offset(std::size_t cols) const {
        return sub_offset(cols) + cols / unit_cols * sub_bytes * kTileRows;
    }
    std::size_t bytes(std::size_t cols) const {
        return scale_offset(cols) + cols / scale_cols * scale_bytes * kTileRows;
    }
};

GpuTile gpu_tile(tensor::DType type);

/// Columns must be a multiple of this: of the type's block, and of 32.
std::size_t gpu_tile_columns(tensor::DType type);

/// Bytes of a matrix in tiles. Requires cols % gpu_tile_columns(type) == 0.
std::size_t gpu_tile_bytes(tensor::DType type, std::size_t rows, std::size_t cols);

}  // namespace unicorn::kernels
