// matmul for bf16 weights by AVX512-BF16's dot products of pairs: 32 weights an instruction, and
// none of the widening that f32 needs. Activations are rounded to bf16 for it.
//
// Lane l of a vector sums the columns c with c / 2 % 16 == l in ascending order (columns past the
// end count as zeros), then the lanes are added as a fixed tree: the same for any blocking.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/matmul_simd.h"

#define UNICORN_TARGET_BF16 \
    [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]]

namespace unicorn::kernels {
namespace {

constexpr std::size_t kPairs = 32;      // columns of a vector
constexpr std::size_t kMostRows = 4;    // of weights whose sums are in registers together
constexpr std::size_t kMostTokens = 4;  // and of activations

/// Some tokens' activations as bf16, zeros up to a whole vector.
struct RoundedRows {
    alignas(64) std::uint16_t x[kMaxBf16DotCols];
    std::size_t stride = 0;
};

UNICORN_TARGET_BF16 void round_rows(const float* x, std::size_t x_stride, std::size_t n_rows,
                                    std::size_t cols, RoundedRows& out) {
    out.stride = (cols + kPairs - 1) / kPairs * kPairs;
    for (std::size_t t = 0; t < n_rows; ++t) {
        for (std::size_t c = 0; c < out.stride; c += 16) {
            const __mmask16 lanes = c < cols ? simd::first_lanes(cols - c) : __mmask16{0};
            const __m512 values = _mm512_maskz_loadu_ps(lanes, x + t * x_stride + c);
            const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
            _mm256_store_si256(reinterpret_cast<__m256i*>(out.x + t * out.stride + c), rounded);
        }
    }
}

/// Rows [r, r + kR) by kT tokens from x, stride apart; out is the place of row r of the first.
template <int kR, int kT>
UNICORN_TARGET_BF16 void block(const tensor::MatrixView& w, std::size_t r, const std::uint16_t* x,
                               std::size_t x_stride, float* out, std::size_t out_stride) {
    __m512 acc[kR][kT];
    const std::byte* rows[kR];
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) {
        rows[i] = w.row(r + static_cast<std::size_t>(i));
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) acc[i][j] = _mm512_setzero_ps();
    }
    for (std::size_t c = 0; c < w.cols; c += kPairs) {
        const std::size_t left = w.cols - c;
        const __mmask32 mask = left >= kPairs ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
        __m512i weights[kR];
        UNICORN_UNROLL
        for (int i = 0; i < kR; ++i) weights[i] = _mm512_maskz_loadu_epi16(mask, rows[i] + 2 * c);
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            const __m512i xs = _mm512_load_si512(x + static_cast<std::size_t>(j) * x_stride + c);
            UNICORN_UNROLL
            for (int i = 0; i < kR; ++i) {
                acc[i][j] = _mm512_dpbf16_ps(acc[i][j], reinterpret_cast<__m512bh>(weights[i]),
                                             reinterpret_cast<__m512bh>(xs));
            }
        }
    }
    UNICORN_UNROLL
    for (int i = 0; i < kR; ++i) {
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j)
            out[static_cast<std::size_t>(j) * out_stride + static_cast<std::size_t>(i)] =
                simd::sum_lanes(acc[i][j]);
    }
}

using BlockFn = void (*)(const tensor::MatrixView&, std::size_t, const std::uint16_t*, std::size_t,
                         float*, std::size_t);

template <std::size_t... kI>
constexpr std::array<BlockFn, sizeof...(kI)> block_table(std::index_sequence<kI...>) {
    return {block<kI / kMostTokens + 1, kI % kMostTokens + 1>...};
}
/// By (rows - 1) * kMostTokens + tokens - 1.
constexpr auto kBlocks = block_table(std::make_index_sequence<kMostRows * kMostTokens>());

}  // namespace

bool has_bf16_dot() {
    static const bool has =
        runnable_isas().back() == Isa::avx512 && __builtin_cpu_supports("avx512bf16") != 0;
    return has;
}

bool use_bf16_dot() {
    static const bool use = [] {
        const char* wanted = std::getenv("UNICORN_BF16_DOT");
        return wanted != nullptr && std::string_view(wanted) == "1" && has_bf16_dot();
    }();
    return use;
}

void matmul_bf16_dot(const tensor::MatrixView& w, const float* x, std::size_t x_stride,
                     std::size_t n_rows, std::size_t first, std::size_t last, float* out,
                     std::size_t out_stride) {
    UNICORN_CHECK(w.type == tensor::DType::bf16 && first <= last && last <= w.rows);
    UNICORN_CHECK(w.cols > 0 && w.cols <= kMaxBf16DotCols);
    RoundedRows rounded;
    const std::size_t together = kMaxBf16DotCols / ((w.cols + kPairs - 1) / kPairs * kPairs);
    for (std::size_t t0 = 0; t0 < n_rows; t0 += together) {
        const std::size_t n = std::min(together, n_rows - t0);
        round_rows(x + t0 * x_stride, x_stride, n, w.cols, rounded);
        for (std::size_t r = first; r < last; r += kMostRows) {
            const std::size_t n_weights = std::min(kMostRows, last - r);
            for (std::size_t t = 0; t < n; t += kMostTokens) {
                const std::size_t n_tokens = std::min(kMostTokens, n - t);
                kBlocks[(n_weights - 1) * kMostTokens + n_tokens - 1](
                    w, r, rounded.x + t * rounded.stride, rounded.stride,
                    out + (t0 + t) * out_stride + r, out_stride);
            }
        }
    }
}

}  // namespace unicorn::kernels
