// matmul_float: f32, f16 and bf16 weights in every form, any number of columns.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/dequantize.h"
#include "kernels/matmul.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

std::vector<float> random_floats(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& v : x) v = normal(random);
    return x;
}

std::vector<std::byte> random_weights(DType type, std::size_t n, unsigned seed) {
    const auto values = random_floats(n, seed);
    std::vector<std::byte> bytes(tensor::row_bytes(type, n));
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint16_t half =
            type == DType::f16 ? tensor::f32_to_f16(values[i]) : tensor::f32_to_bf16(values[i]);
        if (type == DType::f32)
            std::memcpy(&bytes[4 * i], &values[i], 4);
        else
            std::memcpy(&bytes[2 * i], &half, 2);
    }
    return bytes;
}

/// The exact product of a row of weights and one of activations, and what bounds are relative to.
struct Product {
    double value = 0;
    double magnitude = 0;  // sum |w x|

    Product(const float* weights, const float* x, std::size_t cols) {
        for (std::size_t c = 0; c < cols; ++c) {
            const double term = static_cast<double>(weights[c]) * static_cast<double>(x[c]);
            value += term;
            magnitude += std::abs(term);
        }
    }
};

class MatmulFloat : public testing::TestWithParam<DType> {};

TEST_P(MatmulFloat, IsWithinItsBoundInEveryForm) {
    const DType type = GetParam();
    constexpr float kGuard = 4321.0f;
    for (const std::size_t cols : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 96, 1152, 2561}) {
        for (const std::size_t rows : {1, 2, 3, 4, 5, 7, 17}) {
            const auto bytes = random_weights(type, rows * cols, 1);
            const tensor::MatrixView w = {type, rows, cols, bytes.data()};
            std::vector<float> weights(rows * cols);
            dequantize_row(type, bytes.data(), weights);
            for (const std::size_t n_rows : {1, 2, 3, 4, 5, 9}) {
                const std::size_t x_stride = cols + 3;
                const auto x =
                    random_floats(n_rows * x_stride - 3, 2);  // ends with the last column
                const std::size_t out_stride = rows + 2;
                for (const Isa isa : runnable_isas()) {
                    std::vector<float> out(n_rows * out_stride, kGuard);
                    matmul_float(isa, w, x.data(), x_stride, n_rows, 0, rows, out.data(),
                                 out_stride);
                    for (std::size_t t = 0; t < n_rows; ++t) {
                        for (std::size_t r = 0; r < rows; ++r) {
                            const Product exact(&weights[r * cols], &x[t * x_stride], cols);
                            const bool rounds_x =
                                type == DType::bf16 && isa == Isa::avx512 && use_bf16_dot();
                            const double bound = (rounds_x ? 0x1p-8 : 0.0) * exact.magnitude +
                                                 static_cast<double>(cols + 2 * rounds_x) *
                                                     0x1p-24 * exact.magnitude;
                            ASSERT_NEAR(static_cast<double>(out[t * out_stride + r]), exact.value,
                                        bound)
                                << name(isa) << " [" << rows << ", " << cols << "] t " << t << " r "
                                << r;
                        }
                        for (std::size_t r = rows; r < out_stride; ++r)
                            ASSERT_EQ(out[t * out_stride + r], kGuard);
                    }
                }
            }
        }
    }
}

TEST_P(MatmulFloat, GivesTheSameBitsForEveryBatchAndRange) {
    const DType type = GetParam();
    constexpr std::size_t kRows = 23;
    constexpr std::size_t kCols = 5000;  // few enough tokens fit the L2 block that it is crossed
    constexpr std::size_t kTokens = 61;
    const auto bytes = random_weights(type, kRows * kCols, 3);
    const tensor::MatrixView w = {type, kRows, kCols, bytes.data()};
    const auto x = random_floats(kTokens * kCols, 4);
    for (const Isa isa : runnable_isas()) {
        std::vector<float> whole(kTokens * kRows);
        matmul_float(isa, w, x.data(), kCols, kTokens, 0, kRows, whole.data(), kRows);
        for (const std::size_t batch : {1, 2, 3, 5, 7, 16, 30}) {
            std::vector<float> out(whole.size());
            for (std::size_t t = 0; t < kTokens; t += batch) {
                const std::size_t n = std::min(batch, kTokens - t);
                for (const auto& [first, last] :
                     {std::pair{10, 23}, std::pair{3, 10}, std::pair{0, 3}}) {
                    matmul_float(isa, w, x.data() + t * kCols, kCols, n, first, last,
                                 out.data() + t * kRows, kRows);
                }
            }
            EXPECT_EQ(std::memcmp(out.data(), whole.data(), whole.size() * sizeof(float)), 0)
                << name(isa) << " batches of " << batch;
        }
    }
}

TEST_P(MatmulFloat, ANanStaysInItsRow) {
    const DType type = GetParam();
    constexpr std::size_t kRows = 6;
    constexpr std::size_t kCols = 40;
    constexpr std::size_t kTokens = 7;
    const auto bytes = random_weights(type, kRows * kCols, 5);
    const tensor::MatrixView w = {type, kRows, kCols, bytes.data()};
    auto x = random_floats(kTokens * kCols, 6);
    for (const Isa isa : runnable_isas()) {
        std::vector<float> clean(kTokens * kRows);
        x[2 * kCols + 39] = 1;
        matmul_float(isa, w, x.data(), kCols, kTokens, 0, kRows, clean.data(), kRows);
        std::vector<float> out(kTokens * kRows);
        x[2 * kCols + 39] = std::numeric_limits<float>::quiet_NaN();
        matmul_float(isa, w, x.data(), kCols, kTokens, 0, kRows, out.data(), kRows);
        for (std::size_t i = 0; i < out.size(); ++i) {
            if (i / kRows == 2)
                EXPECT_TRUE(std::isnan(out[i])) << name(isa);
            else
                EXPECT_EQ(out[i], clean[i]) << name(isa);
        }
    }
}

TEST(MatmulBf16Dot, IsWithinItsBoundAndTheSameForEveryBatchAndRange) {
    if (!has_bf16_dot()) GTEST_SKIP() << "this CPU has no AVX512-BF16";
    for (const std::size_t cols : {1, 2, 31, 32, 33, 63, 1152, 5000, 20000}) {
        constexpr std::size_t kRows = 11;
        constexpr std::size_t kTokens = 13;
        const auto bytes = random_weights(DType::bf16, kRows * cols, 7);
        const tensor::MatrixView w = {DType::bf16, kRows, cols, bytes.data()};
        std::vector<float> weights(kRows * cols);
        dequantize_row(DType::bf16, bytes.data(), weights);
        const std::size_t x_stride = cols + 1;
        const auto x = random_floats(kTokens * x_stride - 1, 8);
        std::vector<float> whole(kTokens * kRows);
        matmul_bf16_dot(w, x.data(), x_stride, kTokens, 0, kRows, whole.data(), kRows);
        for (std::size_t t = 0; t < kTokens; ++t) {
            for (std::size_t r = 0; r < kRows; ++r) {
                const Product exact(&weights[r * cols], &x[t * x_stride], cols);
                const auto n = static_cast<double>(cols);
                const double bound = (0x1p-8 + (n + 2) * 0x1p-24) * exact.magnitude + n * 0x1p-120;
                ASSERT_NEAR(static_cast<double>(whole[t * kRows + r]), exact.value, bound)
                    << "[" << kRows << ", " << cols << "] t " << t << " r " << r;
            }
        }
        for (const std::size_t batch : {1, 3, 4, 5}) {
            std::vector<float> out(whole.size());
            for (std::size_t t = 0; t < kTokens; t += batch) {
                for (const auto& [first, last] :
                     {std::pair{9, 11}, std::pair{2, 9}, std::pair{0, 2}}) {
                    matmul_bf16_dot(w, x.data() + t * x_stride, x_stride,
                                    std::min(batch, kTokens - t), first, last,
                                    out.data() + t * kRows, kRows);
                }
            }
            EXPECT_EQ(std::memcmp(out.data(), whole.data(), whole.size() * sizeof(float)), 0)
                << cols << " columns, batches of " << batch;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Types, MatmulFloat, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& param) { return std::string(tensor::name(param.param)); });

}  // namespace
}  // namespace unicorn::kernels
