#pragma once
// Encoding of f32 weights as every weight type: the choice of scales and codes.

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace unicorn::quant {

/// Encodes one row (or any whole number of blocks) of weights as `type`.
/// Shapes    x.size() is a multiple of the block size; out holds row_bytes(type, x.size()) bytes,
///           any alignment. Every weight counts the same: no importance matrix.
/// Method    f16 and bf16 round to nearest even. Block types minimise the squared error of the
///           block: candidate scales (and minima), each refined by least squares, then codes chosen
///           for the scales as stored. Q8_0 codes lie in [-127, 127]. The bytes depend on `x`
///           alone, not on the CPU.
/// Errors    none. In block types a NaN counts as 0 and |x| > 65504, infinities included, as
///           65504 (the largest f16); f32, f16 and bf16 keep NaN and infinity, and f16 makes
///           |x| >= 65520 infinite.
/// Accuracy  relative RMS error on normally distributed weights: q8_0 0.005, q6_k 0.018, q5_k and
///           q5_1 0.034, q5_0 0.041, q4_1, q4_k 0.070, iq4_nl and iq4_xs 0.074, q4_0 0.082, q3_k
///           0.144, q2_k 0.26.
/// Cost      MB/s of `x` on one core of a Xeon at 2.3 GHz: f16 and bf16 2500 or more, q8_0 800,
///           q4_0, q4_1, q5_0, q5_1, q3_k and q6_k 100 to 230, the others 40 to 70.
void quantize_row(tensor::DType type, std::span<const float> x, std::byte* out);

}  // namespace unicorn::quant
