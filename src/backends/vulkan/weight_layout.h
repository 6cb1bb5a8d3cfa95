#pragma once
// Weights as the matrix shaders want them (kernels/gpu_tiles.h says how they lie).

#include <cstddef>

#include "tensor/dtype.h"

namespace unicorn::backends::vulkan {

/// Bytes of a matrix [rows, cols] as the shaders read it; a multiple of 16.
/// Requires cols to be a multiple of 32 and of the type's block.
std::size_t stored_bytes(tensor::DType type, std::size_t rows, std::size_t cols);

/// Writes rows [first_row, last_row) of a matrix [rows_total, cols] to their place in `to`, the
/// whole matrix's stored_bytes(). `file_rows`: those rows as they lie in a GGUF file, any
/// alignment. `first_row` is a multiple of 16, `last_row` too or rows_total. Calls for disjoint
/// rows may run at once. Writes each byte once and reads none of `to`, which may be the GPU's.
void pack_rows(tensor::DType type, std::size_t cols, std::size_t rows_total, std::size_t first_row,
               std::size_t last_row, const std::byte* file_rows, std::byte* to);

}  // namespace unicorn::backends::vulkan
