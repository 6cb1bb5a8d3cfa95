#pragma once
// Attributes of the matmul kernels' forms, beside those of simd.h. Helpers are inlined always: what
// they pass are register files, and gcc only inlines across equal or smaller targets.

#include "kernels/simd.h"

#define UNICORN_TARGET_VNNI \
    [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]]
#define UNICORN_INLINE_AVX2 [[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline
#define UNICORN_INLINE_AVX512 \
    [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"), gnu::always_inline]] inline
#define UNICORN_INLINE_VNNI                                                       \
    [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"), \
      gnu::always_inline]] inline

/// Before a loop over registers: none of the arrays it indexes may end up in memory.
#define UNICORN_UNROLL _Pragma("GCC unroll 16")
