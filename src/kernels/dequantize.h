#pragma once
// Decoding of every weight type to f32: the definition of what the bits of a file mean.

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace unicorn::kernels {

/// Decodes the first out.size() weights of a row. `blocks` holds at least
/// row_bytes(type, out.size()) bytes, any alignment; out.size() is a multiple of the block size.
/// Any bits decode to something: nothing is trusted.
/// Source: the block layouts of ggml's ggml-common.h; verified against shared vectors.
void dequantize_row(tensor::DType type, const std::byte* blocks, std::span<float> out);

}  // namespace unicorn::kernels
