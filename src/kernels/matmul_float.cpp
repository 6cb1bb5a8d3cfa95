// matmul for f32, f16 and bf16 weights as they lie in the file: dot products along k.
//
// Within a form every output is added up in one order whatever the blocking: lane l of a vector
// sums the columns c with c % lanes == l in ascending order (columns past the end count as zeros),
// then the lanes are added as a fixed tree. Blocks of rows and tokens only share loads.

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/matmul_simd.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

/// The arguments of matmul_float.
struct Problem {
    const tensor::MatrixView& w;
    const float* x;
    std::size_t x_stride;
    std::size_t n_rows;
    std::size_t first;
    std::size_t last;
    float* out;
    std::size_t out_stride;
};

// ---- scalar: the definition ----

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

void matmul_float_scalar(const Problem& p) {
    for (std::size_t r = p.first; r < p.last; ++r) {
        const std::byte* row = p.w.row(r);
        for (std::size_t t = 0; t < p.n_rows; ++t) {
            double sum = 0;
            for (std::size_t c = 0; c < p.w.cols; ++c) {
                sum += weight_at(p.w.type, row, c) * static_cast<double>(p.x[t * p.x_stride + c]);
            }
            p.out[t * p.out_stride + r] = static_cast<float>(sum);
        }
    }
}

constexpr std::size_t size_of(DType type) { return type == DType::f32 ? 4 : 2; }

/// Asks for what the next block of rows has at the place of `p`, once a cache line. A row is short
/// against the distance that memory needs, and hardware prefetchers start anew in each.
[[gnu::always_inline]] inline void prefetch_next_rows(const std::byte* p, std::size_t rows_bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(p) + rows_bytes, _MM_HINT_T1);
}

// ---- AVX2: 2 rows by 4 tokens of 8 lanes ----

template <DType kType>
UNICORN_INLINE_AVX2 __m256 load_weights(const std::byte* p) {
    if constexpr (kType == DType::f32) {
        return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
    } else {
        const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        if constexpr (kType == DType::f16) return _mm256_cvtph_ps(half);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
}

/// Rows [r, r + kR) by tokens [t, t + kT); asks for what lies `ahead` bytes behind, unless 0.
template <DType kType, int kR, int kT>
UNICORN_TARGET_AVX2 void block_avx2(const Problem& p, std::size_t r, std::size_t t,
                                    std::size_t ahead) {
    __m256 acc[kR][kT];
    const std::byte* w[kR];
    const float* x[kT];
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) w[i] = p.w.row(r + static_cast<std::size_t>(i));
    UNICORN_UNROLL
    for (int j = 0; j < kT; ++j) {
        x[j] = p.x + (t + static_cast<std::size_t>(j)) * p.x_stride;
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) acc[i][j] = _mm256_setzero_ps();
    }
    const std::size_t whole = p.w.cols / 8 * 8;
    for (std::size_t c = 0; c < whole; c += 8) {
        __m256 weights[kR];
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) {
            weights[i] = load_weights<kType>(w[i] + c * size_of(kType));
            if (ahead != 0 && c * size_of(kType) % 64 == 0)
                prefetch_next_rows(w[i] + c * size_of(kType), ahead);
        }
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            const __m256 xs = _mm256_loadu_ps(x[j] + c);
            UNICORN_UNROLL
            for (int i = 0; i < kR; ++i) acc[i][j] = _mm256_fmadd_ps(weights[i], xs, acc[i][j]);
        }
    }
    if (whole < p.w.cols) {
        const std::size_t rest = p.w.cols - whole;
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) {
            alignas(32) std::byte tail[32] = {};
            std::memcpy(tail, w[i] + whole * size_of(kType), rest * size_of(kType));
            const __m256 weights = load_weights<kType>(tail);
            UNICORN_UNROLL
            for (int j = 0; j < kT; ++j) {
                const __m256 xs = _mm256_maskload_ps(x[j] + whole, simd::first_lanes_avx2(rest));
                acc[i][j] = _mm256_fmadd_ps(weights, xs, acc[i][j]);
            }
        }
    }
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) {
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            p.out[(t + static_cast<std::size_t>(j)) * p.out_stride + r +
                  static_cast<std::size_t>(i)] = simd::sum_lanes(acc[i][j]);
        }
    }
}

// ---- AVX-512: 4 rows by 4 tokens of 16 lanes ----

/// The lanes of `mask`; the others are zero and not read.
template <DType kType>
UNICORN_INLINE_AVX512 __m512 load_weights_512(const std::byte* p, __mmask16 mask) {
    if constexpr (kType == DType::f32) {
        return _mm512_maskz_loadu_ps(mask, p);
    } else {
        const __m256i half = _mm256_maskz_loadu_epi16(mask, p);
        if constexpr (kType == DType::f16) return _mm512_cvtph_ps(half);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
}

template <DType kType, int kR, int kT>
UNICORN_TARGET_AVX512 void block_avx512(const Problem& p, std::size_t r, std::size_t t,
                                        std::size_t ahead) {
    __m512 acc[kR][kT];
    const std::byte* w[kR];
    const float* x[kT];
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) w[i] = p.w.row(r + static_cast<std::size_t>(i));
    UNICORN_UNROLL
    for (int j = 0; j < kT; ++j) {
        x[j] = p.x + (t + static_cast<std::size_t>(j)) * p.x_stride;
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) acc[i][j] = _mm512_setzero_ps();
    }
    for (std::size_t c = 0; c < p.w.cols; c += 16) {
        const __mmask16 mask = simd::first_lanes(p.w.cols - c);
        __m512 weights[kR];
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) {
            weights[i] = load_weights_512<kType>(w[i] + c * size_of(kType), mask);
            if (ahead != 0 && c * size_of(kType) % 64 == 0)
                prefetch_next_rows(w[i] + c * size_of(kType), ahead);
        }
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            const __m512 xs = _mm512_maskz_loadu_ps(mask, x[j] + c);
            UNICORN_UNROLL
            for (int i = 0; i < kR; ++i) acc[i][j] = _mm512_fmadd_ps(weights[i], xs, acc[i][j]);
        }
    }
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) {
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            p.out[(t + static_cast<std::size_t>(j)) * p.out_stride + r +
                  static_cast<std::size_t>(i)] = simd::sum_lanes(acc[i][j]);
        }
    }
}

// ---- blocking ----

using BlockFn = void (*)(const Problem&, std::size_t, std::size_t, std::size_t);

template <int kMaxR, int kMaxT>
struct Blocks {
    BlockFn fn[kMaxR][kMaxT];  // by rows - 1, tokens - 1

    /// Tokens whose activations stay in L2, then rows, then those tokens.
    void run(const Problem& p) const {
        constexpr std::size_t kRows = kMaxR;
        constexpr std::size_t kTokens = kMaxT;
        constexpr std::size_t kL2Floats = std::size_t{1} << 17;  // 512 KiB
        const std::size_t together = std::max(kL2Floats / p.w.cols / kTokens * kTokens, kTokens);
        for (std::size_t first = 0; first < p.n_rows; first += together) {
            const std::size_t last = std::min(p.n_rows, first + together);
            for (std::size_t r = p.first; r < p.last; r += kRows) {
                const auto* row_fns = fn[std::min(kRows, p.last - r) - 1];
                std::size_t ahead = kRows * tensor::row_bytes(p.w.type, p.w.cols);
                for (std::size_t t = first; t < last; t += kTokens) {
                    row_fns[std::min(kTokens, last - t) - 1](p, r, t, ahead);
                    ahead = 0;  // the first tokens have asked for the next rows
                }
            }
        }
    }
};

template <DType kType>
constexpr Blocks<2, 4> kBlocksAvx2 = {{
    {block_avx2<kType, 1, 1>, block_avx2<kType, 1, 2>, block_avx2<kType, 1, 3>,
     block_avx2<kType, 1, 4>},
    {block_avx2<kType, 2, 1>, block_avx2<kType, 2, 2>, block_avx2<kType, 2, 3>,
     block_avx2<kType, 2, 4>},
}};

template <DType kType>
constexpr Blocks<4, 4> kBlocksAvx512 = {{
    {block_avx512<kType, 1, 1>, block_avx512<kType, 1, 2>, block_avx512<kType, 1, 3>,
     block_avx512<kType, 1, 4>},
    {block_avx512<kType, 2, 1>, block_avx512<kType, 2, 2>, block_avx512<kType, 2, 3>,
     block_avx512<kType, 2, 4>},
    {block_avx512<kType, 3, 1>, block_avx512<kType, 3, 2>, block_avx512<kType, 3, 3>,
     block_avx512<kType, 3, 4>},
    {block_avx512<kType, 4, 1>, block_avx512<kType, 4, 2>, block_avx512<kType, 4, 3>,
     block_avx512<kType, 4, 4>},
}};

}  // namespace

void matmul_float(Isa isa, const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                  std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                  std::size_t out_stride) {
    UNICORN_CHECK(!tensor::info(w.type).quantized && first <= last && last <= w.rows && w.cols > 0);
    const Problem p = {w, x, x_stride, n_rows, first, last, out, out_stride};
    switch (isa) {
        case Isa::scalar: return matmul_float_scalar(p);
        case Isa::avx2:
            if (w.type == DType::f32) return kBlocksAvx2<DType::f32>.run(p);
            if (w.type == DType::f16) return kBlocksAvx2<DType::f16>.run(p);
            return kBlocksAvx2<DType::bf16>.run(p);
        case Isa::avx512:
            if (w.type == DType::bf16 && use_bf16_dot() && w.cols <= kMaxBf16DotCols)
                return matmul_bf16_dot(w, x, x_stride, n_rows, first, last, out, out_stride);
            if (w.type == DType::f32) return kBlocksAvx512<DType::f32>.run(p);
            if (w.type == DType::f16) return kBlocksAvx512<DType::f16>.run(p);
            return kBlocksAvx512<DType::bf16>.run(p);
    }
}

}  // namespace unicorn::kernels
