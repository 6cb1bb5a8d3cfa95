// The choice among the forms of matmul_packed, and what they share.

#include "kernels/matmul_packed.h"

#include "base/check.h"

namespace unicorn::kernels {

void SideWords::prepare(const QuantizedRows& x, std::size_t first, std::size_t n, GroupSum sum,
                        int offset) {
    const std::size_t n_groups = x.cols / kGroup;
    UNICORN_DCHECK(n <= most_rows(x.cols, sum));
    for (std::size_t i = 0; i < n * n_groups; ++i) {
        const std::size_t group = first * n_groups + i;
        put(x.scales[group], x.sums + 2 * group, sum, offset, words_ + i * words(sum));
    }
}

void matmul_packed(Isa isa, const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                   std::size_t last, float* out, std::size_t out_stride) {
    UNICORN_CHECK(w.cols == x.cols && first <= last && last <= w.n_panels());
    UNICORN_CHECK(w.cols <= kMaxCols && out_stride >= w.rows);
    UNICORN_CHECK(x.scale_columns % scale_columns(w.type) == 0);
    if (x.n_rows == 0 || first == last) return;
    if (isa == Isa::avx512 && !has_avx512_vnni()) isa = Isa::avx2;
    switch (isa) {
        case Isa::scalar: return matmul_packed_scalar(w, x, first, last, out, out_stride);
        case Isa::avx2: return matmul_packed_avx2(w, x, first, last, out, out_stride);
        case Isa::avx512: return matmul_packed_avx512(w, x, first, last, out, out_stride);
    }
}

}  // namespace unicorn::kernels
