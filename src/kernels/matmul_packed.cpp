// The choice among the forms of matmul_packed, and what they share.

#include "kernels/matmul_packed.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace unicorn::kernels {

void SideWords::prepare(const QuantizedRows& x, std::size_t first, std::size_t n, GroupSum sum, int offset) {
    const std::size_t n_groups = x.cols / kGroup;
    UNICORN_DCHECK(n * n_groups * words(sum) <= kCapacity);
    std::uint32_t* out = words_;
    for (std::size_t t = first; t < first + n; ++t) {
        const std::int32_t* sums = x.sums + t * n_groups * 2;
        const float* scales = x.scales + t * n_groups;
        switch (sum) {
            case GroupSum::offset:
                for (std::size_t g = 0; g < n_groups; ++g) {
                    out[g] = static_cast<std::uint32_t>(-offset * (sums[2 * g] + sums[2 * g + 1]));
                }
                break;
            case GroupSum::minimum:
                for (std::size_t g = 0; g < n_groups; ++g) {
                    out[g] = std::bit_cast<std::uint32_t>(
                        scales[g] * static_cast<float>(sums[2 * g] + sums[2 * g + 1]));
                }
                break;
            case GroupSum::half_offset:
                for (std::size_t h = 0; h < 2 * n_groups; ++h) {
                    out[h] = static_cast<std::uint32_t>(-offset * sums[h]);
                }
                break;
            case GroupSum::half_min:
                for (std::size_t h = 0; h < 2 * n_groups; ++h) {
                    out[h] = std::bit_cast<std::uint32_t>(scales[h / 2] * static_cast<float>(sums[h]));
                }
                break;
        }
        out += n_groups * words(sum);
    }
}

std::size_t block_rows(std::size_t n_rows, std::size_t cols, GroupSum sum) {
    constexpr std::size_t kCodeBytes = std::size_t{1} << 20;  // half of a 2 MiB L2
    constexpr std::size_t kMost = 64;  // more gains nothing: the panel is unpacked once for 64 rows
    const std::size_t words = std::max<std::size_t>(1, cols / kGroup * SideWords::words(sum));
    std::size_t most = std::min({kMost, SideWords::kCapacity / words, kCodeBytes / std::max<std::size_t>(1, cols)});
    UNICORN_CHECK(SideWords::kCapacity >= words);  // kMaxCols
    most = std::max<std::size_t>(1, most);
    if (most > 16) most = most / 16 * 16;
    if (n_rows <= most) return n_rows;
    const std::size_t n_blocks = (n_rows + most - 1) / most;
    const std::size_t even = (n_rows + n_blocks - 1) / n_blocks;
    return std::min(most, (even + 15) / 16 * 16);
}

void matmul_packed(Isa isa, const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                   std::size_t last, float* out, std::size_t out_stride) {
    UNICORN_CHECK(w.cols == x.cols && first <= last && last <= w.n_panels());
    UNICORN_CHECK(w.cols <= kMaxCols && out_stride >= w.rows);
    if (x.n_rows == 0 || first == last) return;
    switch (isa) {
        case Isa::scalar:
            return matmul_packed_scalar(w, x, first, last, out, out_stride);
        case Isa::avx2:
            return matmul_packed_avx2(w, x, first, last, out, out_stride);
        case Isa::avx512:
            return matmul_packed_avx512(w, x, first, last, out, out_stride);
    }
}

}  // namespace unicorn::kernels
