#pragma once
// Matrix times rows of activations, for every weight type.
//
// Quantised weights are multiplied as integers: activations are quantised to int8 in groups of 32
// (quantize_rows), weights are repacked once at load into panels of 16 rows (pack_panels), at the
// file's bits a weight, so that one vector holds the same columns of 16 rows. F32, F16 and BF16
// weights are multiplied as they lie in the file, in f32.
//
// Every output is computed by the same sequence of operations whatever T, the range of rows and
// the number of threads are: results do not depend on how tokens are batched.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "tensor/dtype.h"

namespace unicorn::kernels {

inline constexpr std::size_t kPanelRows = 16;  // f32 lanes of a 512-bit vector
inline constexpr std::size_t kGroup = 32;      // activations that share a scale
inline constexpr std::size_t kWideScaleColumns = 256;
inline constexpr std::size_t kMaxCols = 1 << 18;  // of a packed matrix; Gemma 3 27B has 21,504

/// Columns of activations that share a scale where they meet weights of `type`: 256 for q2_k and
/// q3_k, whose sums then stay integers over a super-block, else 32. A code's step is then 1/127 of
/// the largest |x| of 256 columns and not of 32.
constexpr std::size_t scale_columns(tensor::DType type) {
    return type == tensor::DType::q2_k || type == tensor::DType::q3_k ? kWideScaleColumns : kGroup;
}

/// T rows of D activations as int8: x[t,d] ~ scales[t, d/32] * codes[t,d], codes in [-127, 127].
/// `sums` holds the sum of the codes of each half group (16), for types whose groups have a
/// minimum or an offset. Shapes: codes [T, D], scales [T, D/32], sums [T, D/16]; row-major.
struct QuantizedRows {
    std::size_t n_rows = 0;
    std::size_t cols = 0;
    std::int8_t* codes = nullptr;  // 64-byte aligned
    float* scales = nullptr;
    std::int32_t* sums = nullptr;
    std::size_t scale_columns = kGroup;  // that share a scale, which is written for each 32 of them
};

/// Quantises rows [first, last) of x ([T, D] f32, `x_stride` floats apart) into `out`:
/// scale = max|x| / 127 over a group of out.scale_columns, codes round(x * (127 / max|x|)) to
/// nearest even. A group with max|x| < 2^-119 has scale 0 and codes 0; a group with a NaN or an
/// infinity has scale NaN and codes 0, which makes its own row's products NaN and leaves every
/// other row alone. Requires D % 32 == 0 and scale_columns % 32 == 0. All forms give identical
/// results.
void quantize_rows(Isa isa, const float* x, std::size_t x_stride, std::size_t first,
                   std::size_t last, const QuantizedRows& out);

/// The same for one row `x` ([D] f32) to the place of row `t`.
void quantize_row(Isa isa, const float* x, std::size_t t, const QuantizedRows& out);

/// A quantised matrix repacked in panels of 16 rows; the last panel is padded with zero rows.
struct PackedMatrix {
    tensor::DType type = tensor::DType::q8_0;
    std::size_t rows = 0;
    std::size_t cols = 0;
    const std::byte* data = nullptr;  // 64-byte aligned

    std::size_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

/// Bytes of one panel of 16 rows of `cols` weights of a quantised `type`; a multiple of 64.
std::size_t panel_bytes(tensor::DType type, std::size_t cols);

/// Repacks panels [first, last) of `weights` (quantised) to `out`, the place of panel `first`
/// (64-byte aligned, (last - first) * panel_bytes). Works on untrusted weights: any bits do.
/// All forms give identical bytes.
void pack_panels(Isa isa, const tensor::MatrixView& weights, std::size_t first, std::size_t last,
                 std::byte* out);

/// out[t, r] = sum_d w[r, d] * x[t, d], for the rows r of panels [first, last) and every t.
/// Shapes    w: [R, D] packed, D <= kMaxCols; x: [T, D] int8, its scale_columns those of w's
///           type or a multiple of them; out: [T, R] f32, `out_stride` >= R
///           floats from row to row. Only columns r < w.rows are written.
/// Accuracy  integer sums are exact within a group of 32 (16 for types with half-group scales, 256
///           for q2_k and q3_k); groups are accumulated in f32 in ascending order.
/// Cost      reads the panels once for each 64 rows of x or fewer (scalar: 16). More than 8 rows
/// are
///           laid out anew in each call: give it 16 panels or more, 128 if there are as many.
///           Up to 160 KiB of stack; allocates nothing.
void matmul_packed(Isa isa, const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                   std::size_t last, float* out, std::size_t out_stride);

/// The same for f32, f16 and bf16 weights as they lie, rows [first, last) of `w`:
/// out[t, r] = sum_d w[r, d] * x[t, d]; x: [T, D] f32, `x_stride` floats apart.
/// Accuracy  f32 products and sums in a fixed order; within D * 2^-24 * sum|w x| of the exact sum.
///           Where use_bf16_dot(), the avx512 form of bf16 is matmul_bf16_dot with its bound.
void matmul_float(Isa isa, const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                  std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                  std::size_t out_stride);

/// Whether this CPU has AVX512-BF16.
bool has_bf16_dot();

/// Whether matmul_float takes it: only when the environment variable UNICORN_BF16_DOT is 1. Here,
/// on a Sapphire Rapids, it does 0.49 times the multiply-adds of f32 (limits_bench); on Zen 4, for
/// which it should pay, it has not run yet.
bool use_bf16_dot();

inline constexpr std::size_t kMaxBf16DotCols = 32768;

/// matmul_float for bf16 weights with x rounded to bf16, to nearest even. Requires has_bf16_dot()
/// and w.cols <= kMaxBf16DotCols.
/// Accuracy  within (2^-8 + (D + 2) * 2^-24) * sum|w x| of the exact sum, and 2^-120 * D for what
/// is
///           subnormal, which counts as zero.
/// Cost      64 KiB of stack.
void matmul_bf16_dot(const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                     std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                     std::size_t out_stride);

}  // namespace unicorn::kernels
