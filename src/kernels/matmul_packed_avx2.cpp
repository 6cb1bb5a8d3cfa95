#include "kernels/matmul_packed.h"
namespace unicorn::kernels {
void matmul_packed_avx2(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                        std::size_t last, float* out, std::size_t out_stride) { matmul_packed_scalar(w,x,first,last,out,out_stride);}
}
