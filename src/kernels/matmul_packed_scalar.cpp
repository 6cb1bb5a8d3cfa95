// The definition of matmul_packed: integer sums of a group exactly, everything else in double.

#include <algorithm>

#include "kernels/matmul_packed.h"

namespace unicorn::kernels {
namespace {

constexpr std::size_t kTile = 16;  // activation rows a pass over a panel

/// What a group contributes to one output: scale and minimum apply to half groups of 16.
double group_sum(const PanelGroup& group, std::size_t r, const std::int8_t* x) {
    double sum = 0;
    for (std::size_t h = 0; h < 2; ++h) {
        int product = 0;
        int total = 0;
        for (std::size_t k = 16 * h; k < 16 * h + 16; ++k) {
            product += group.code[r][k] * x[k];
            total += x[k];
        }
        sum += group.scale[h][r] * product - group.min[h][r] * total;
    }
    return sum;
}

}  // namespace

void matmul_packed_scalar(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                          std::size_t last, float* out, std::size_t out_stride) {
    const std::size_t n_groups = w.cols / kGroup;
    const std::size_t bytes = panel_bytes(w.type, w.cols);
    PanelGroup group;
    for (std::size_t p = first; p < last; ++p) {
        const std::size_t n_rows = std::min(kPanelRows, w.rows - p * kPanelRows);
        for (std::size_t t0 = 0; t0 < x.n_rows; t0 += kTile) {
            const std::size_t n = std::min(kTile, x.n_rows - t0);
            double sums[kTile][kPanelRows] = {};
            for (std::size_t g = 0; g < n_groups; ++g) {
                read_group(w.type, w.data + p * bytes, g, group);
                for (std::size_t t = 0; t < n; ++t) {
                    const std::int8_t* codes = x.codes + (t0 + t) * x.cols + g * kGroup;
                    const auto scale = static_cast<double>(x.scales[(t0 + t) * n_groups + g]);
                    for (std::size_t r = 0; r < n_rows; ++r)
                        sums[t][r] += scale * group_sum(group, r, codes);
                }
            }
            for (std::size_t t = 0; t < n; ++t) {
                float* row = out + (t0 + t) * out_stride + p * kPanelRows;
                for (std::size_t r = 0; r < n_rows; ++r) row[r] = static_cast<float>(sums[t][r]);
            }
        }
    }
}

}  // namespace unicorn::kernels
