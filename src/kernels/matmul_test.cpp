// matmul_packed, pack_panels and quantize_rows: every weight type, every form that runs here.

#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/dequantize.h"
#include "kernels/panel_formats.h"
#include "tensor/block_scales.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

struct Free {
    void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

template <typename T>
Buffer<T> make_buffer(std::size_t n) {
    const std::size_t bytes = (n * sizeof(T) + 64) / 64 * 64;
    void* p = std::aligned_alloc(64, bytes);
    std::memset(p, 0xA5, bytes);  // whatever is read before it is written should show
    return Buffer<T>(static_cast<T*>(p));
}

/// Random codes and sub-scales; the f16 scales are numbers of either sign around 0.01.
std::vector<std::byte> random_weights(DType type, std::size_t rows, std::size_t cols,
                                      unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> bytes(rows * tensor::row_bytes(type, cols));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    std::normal_distribution<float> scale(0, 0.01f);
    for (std::size_t block = 0; block < bytes.size(); block += tensor::info(type).block_bytes) {
        for (const std::size_t place : tensor::scale_offsets(type)) {
            const std::uint16_t h = tensor::f32_to_f16(scale(random));
            std::memcpy(&bytes[block + place], &h, 2);
        }
    }
    return bytes;
}

/// Activations as Gemma has them: mostly small, a few columns hundreds of times larger.
std::vector<float> random_activations(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& v : x) v = normal(random) * (random() % 97 == 0 ? 300.0f : 1.0f);
    return x;
}

struct Quantized {
    Quantized(const std::vector<float>& x, std::size_t n_rows, std::size_t cols,
              std::size_t columns = kGroup, Isa isa = Isa::scalar)
        : codes(make_buffer<std::int8_t>(n_rows * cols)),
          scales(make_buffer<float>(n_rows * cols / 32)),
          sums(make_buffer<std::int32_t>(n_rows * cols / 16)),
          rows{n_rows, cols, codes.get(), scales.get(), sums.get(), columns} {
        quantize_rows(isa, x.data(), cols, 0, n_rows, rows);
    }
    /// Rows [first, last).
    QuantizedRows part(std::size_t first, std::size_t last) {
        return {last - first,
                rows.cols,
                rows.codes + first * rows.cols,
                rows.scales + first * rows.cols / 32,
                rows.sums + first * rows.cols / 16,
                rows.scale_columns};
    }
    Buffer<std::int8_t> codes;
    Buffer<float> scales;
    Buffer<std::int32_t> sums;
    QuantizedRows rows;
};

struct Packed {
    Packed(DType type, std::size_t rows, std::size_t cols, const std::vector<std::byte>& weights)
        : matrix{type, rows, cols, nullptr} {
        data = make_buffer<std::byte>(matrix.n_panels() * panel_bytes(type, cols));
        pack_panels(Isa::scalar, {type, rows, cols, weights.data()}, 0, matrix.n_panels(),
                    data.get());
        matrix.data = data.get();
    }
    PackedMatrix matrix;
    Buffer<std::byte> data;
};

std::vector<float> multiply(Isa isa, const PackedMatrix& w, const QuantizedRows& x) {
    std::vector<float> out(x.n_rows * w.rows);
    matmul_packed(isa, w, x, 0, w.n_panels(), out.data(), w.rows);
    return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Size {
    std::size_t rows;
    std::size_t cols;
    std::size_t n_rows;  // of activations
};

std::vector<Size> sizes_of(DType type) {
    std::vector<Size> sizes;
    const std::size_t block = tensor::info(type).block_size;
    for (const std::size_t cols : {32, 64, 96, 256, 512, 768, 1152, 1280}) {
        if (cols % block != 0) continue;
        for (const std::size_t rows : {1, 7, 15, 16, 17, 33}) sizes.push_back({rows, cols, 3});
        for (std::size_t t = 1; t <= 17; ++t) sizes.push_back({17, cols, t});
        sizes.push_back({33, cols, 33});
    }
    sizes.push_back({16, 2560, 70});
    sizes.push_back({16, block == 256 ? 21504u : 6912u, 2});
    return sizes;
}

/// The dot product in double, and the bound of matmul.h: a few roundings a group, relative to the
/// sum of magnitudes that enter (scale * code and minimum separately, as they may cancel).
struct Expected {
    double value = 0;
    double bound = 0;
};

std::vector<Expected> expected_products(const PackedMatrix& w,
                                        const std::vector<std::byte>& weights,
                                        const QuantizedRows& x) {
    const std::size_t n_groups = w.cols / 32;
    const std::size_t row_bytes = tensor::row_bytes(w.type, w.cols);
    std::vector<Expected> expected(x.n_rows * w.rows);
    std::vector<float> row(w.cols);
    PanelGroup group;
    for (std::size_t r = 0; r < w.rows; ++r) {
        dequantize_row(w.type, weights.data() + r * row_bytes, row);
        for (std::size_t g = 0; g < n_groups; ++g) {
            read_group(w.type, w.data + r / 16 * panel_bytes(w.type, w.cols), g, group);
            for (std::size_t t = 0; t < x.n_rows; ++t) {
                Expected& e = expected[t * w.rows + r];
                const auto scale = static_cast<double>(x.scales[t * n_groups + g]);
                for (std::size_t k = 0; k < 32; ++k) {
                    const double xk = scale * x.codes[t * w.cols + 32 * g + k];
                    e.value += static_cast<double>(row[32 * g + k]) * xk;
                    e.bound += (std::abs(group.scale[k / 16][r % 16] * group.code[r % 16][k]) +
                                std::abs(group.min[k / 16][r % 16])) *
                               std::abs(xk);
                }
            }
        }
    }
    for (Expected& e : expected) {
        e.bound *= (3 * static_cast<double>(n_groups) + 8) * 0x1p-24;
        e.bound += 1e-30;
    }
    return expected;
}

std::string label(Isa isa, DType type, const Size& size) {
    return std::string(name(isa)) + " " + std::string(tensor::name(type)) + " [" +
           std::to_string(size.rows) + ", " + std::to_string(size.cols) + "] T " +
           std::to_string(size.n_rows);
}

class MatmulPacked : public testing::TestWithParam<DType> {};

// Any bits at all, as a damaged file has them: every form of packing writes the same bytes, and
// nothing past its panels.
TEST(PackPanels, EveryFormWritesTheSameBytes) {
    std::uint32_t random = 7;
    for (const auto& info : tensor::all_dtypes()) {
        if (!info.quantized) continue;
        for (const std::size_t cols : {std::size_t{256}, std::size_t{768}, std::size_t{1280}}) {
            for (const std::size_t rows : {1u, 15u, 16u, 33u}) {
                std::vector<std::byte> weights(rows * tensor::row_bytes(info.type, cols));
                for (std::byte& b : weights) {
                    random = random * 1664525u + 1013904223u;
                    b = static_cast<std::byte>(random >> 24);
                }
                const tensor::MatrixView view{info.type, rows, cols, weights.data()};
                const std::size_t panels = (rows + kPanelRows - 1) / kPanelRows;
                const std::size_t bytes = panels * panel_bytes(info.type, cols);
                std::vector<std::byte> expected(bytes + 64, std::byte{0xA5});
                pack_panels(Isa::scalar, view, 0, panels, expected.data());
                EXPECT_TRUE(std::all_of(expected.begin() + static_cast<std::ptrdiff_t>(bytes),
                                        expected.end(),
                                        [](std::byte b) { return b == std::byte{0xA5}; }));
                for (const Isa isa : runnable_isas()) {
                    std::vector<std::byte> packed(bytes + 64, std::byte{0xA5});
                    pack_panels(isa, view, 0, panels, packed.data());
                    EXPECT_EQ(packed, expected) << info.name << " " << name(isa) << " " << rows;
                }
            }
        }
    }
}

TEST_P(MatmulPacked, IsWithinItsBoundInEveryForm) {
    const DType type = GetParam();
    for (const Size& size : sizes_of(type)) {
        const auto weights = random_weights(type, size.rows, size.cols, 1);
        const Packed w(type, size.rows, size.cols, weights);
        const Quantized x(random_activations(size.n_rows * size.cols, 2), size.n_rows, size.cols,
                          scale_columns(type));
        const auto expected = expected_products(w.matrix, weights, x.rows);
        for (const Isa isa : runnable_isas()) {
            const auto out = multiply(isa, w.matrix, x.rows);
            for (std::size_t i = 0; i < out.size(); ++i) {
                ASSERT_NEAR(static_cast<double>(out[i]), expected[i].value, expected[i].bound)
                    << label(isa, type, size) << " t " << i / size.rows << " r " << i % size.rows;
            }
        }
    }
}

TEST_P(MatmulPacked, GivesTheSameBitsForEveryBatchAndRange) {
    const DType type = GetParam();
    constexpr std::size_t kRows = 83;
    constexpr std::size_t kTokens = 101;
    for (const std::size_t cols : {768u, 1280u}) {
        const auto weights = random_weights(type, kRows, cols, 3);
        const Packed w(type, kRows, cols, weights);
        Quantized x(random_activations(kTokens * cols, 4), kTokens, cols, scale_columns(type));
        for (const Isa isa : runnable_isas()) {
            const auto whole = multiply(isa, w.matrix, x.rows);
            for (const std::size_t batch :
                 {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 31, 64, 100}) {
                std::vector<float> out(whole.size());
                for (std::size_t t = 0; t < kTokens; t += batch) {
                    const auto part = x.part(t, std::min(kTokens, t + batch));
                    // Panels in ranges of different sizes, last first.
                    for (const auto& [first, last] :
                         {std::pair{5, 6}, std::pair{2, 5}, std::pair{0, 2}}) {
                        matmul_packed(isa, w.matrix, part, first, last, out.data() + t * kRows,
                                      kRows);
                    }
                }
                ASSERT_TRUE(same_bits(out, whole))
                    << name(isa) << " batches of " << batch << ", cols " << cols;
            }
        }
    }
}

TEST_P(MatmulPacked, WritesItsColumnsOnly) {
    const DType type = GetParam();
    constexpr std::size_t kCols = 256;
    constexpr float kGuard = 12345.0f;
    for (const std::size_t rows : {1, 15, 17, 40}) {
        const auto weights = random_weights(type, rows, kCols, 5);
        const Packed w(type, rows, kCols, weights);
        const std::size_t stride = rows + 5;
        for (const std::size_t n_rows : {1, 3, 6, 9, 40}) {
            const Quantized x(random_activations(n_rows * kCols, 6), n_rows, kCols,
                              scale_columns(type));
            for (const Isa isa : runnable_isas()) {
                const auto whole = multiply(isa, w.matrix, x.rows);
                std::vector<float> out(n_rows * stride + 16, kGuard);
                const std::size_t last = w.matrix.n_panels();
                matmul_packed(isa, w.matrix, x.rows, last - 1, last, out.data() + 8, stride);
                for (std::size_t i = 0; i < out.size(); ++i) {
                    const std::size_t t = (i - 8) / stride;
                    const std::size_t r = (i - 8) % stride;
                    const bool written = i >= 8 && t < n_rows && r < rows && r >= (last - 1) * 16;
                    ASSERT_EQ(out[i], written ? whole[t * rows + r] : kGuard)
                        << name(isa) << " " << i;
                }
            }
        }
    }
}

TEST_P(MatmulPacked, SurvivesAnyBits) {
    const DType type = GetParam();
    constexpr std::size_t kRows = 21;
    constexpr std::size_t kCols = 512;
    std::mt19937 random(7);
    std::vector<std::byte> weights(kRows * tensor::row_bytes(type, kCols));
    for (std::byte& b : weights) b = static_cast<std::byte>(random());
    const Packed w(type, kRows, kCols, weights);
    for (const std::size_t n_rows : {1, 6, 20}) {
        const Quantized x(random_activations(n_rows * kCols, 8), n_rows, kCols,
                          scale_columns(type));
        const auto expected = expected_products(w.matrix, weights, x.rows);
        for (const Isa isa : runnable_isas()) {
            const auto out = multiply(isa, w.matrix, x.rows);
            for (std::size_t i = 0; i < out.size(); ++i) {
                if (!std::isfinite(expected[i].bound)) {  // an infinite or NaN scale in the row
                    EXPECT_FALSE(std::isfinite(out[i])) << name(isa) << " " << i;
                } else {
                    EXPECT_NEAR(static_cast<double>(out[i]), expected[i].value, expected[i].bound)
                        << name(isa);
                }
            }
        }
    }
}

// The largest sums there can be: codes and activations at the ends of their ranges.
TEST_P(MatmulPacked, IsExactAtTheEndsOfTheRange) {
    const DType type = GetParam();
    constexpr std::size_t kCols = 512;
    for (const int fill : {0x00, 0xFF, 0x80, 0x7F}) {
        std::vector<std::byte> weights(16 * tensor::row_bytes(type, kCols),
                                       static_cast<std::byte>(fill));
        for (std::size_t block = 0; block < weights.size();
             block += tensor::info(type).block_bytes) {
            for (const std::size_t place : tensor::scale_offsets(type)) {
                const std::uint16_t one = tensor::f32_to_f16(1.0f);
                std::memcpy(&weights[block + place], &one, 2);
            }
        }
        const Packed w(type, 16, kCols, weights);
        std::vector<float> values(20 * kCols, 1e5f);
        for (std::size_t i = 0; i < 10 * kCols; ++i) values[i] = i % 3 == 0 ? -1e5f : 1e5f;
        for (std::size_t i = 5 * kCols; i < 6 * kCols; ++i) values[i] = -1e5f;
        for (std::size_t i = 6 * kCols; i < 7 * kCols; ++i) values[i] = 0;
        const Quantized x(values, 20, kCols, scale_columns(type));
        const auto expected = expected_products(w.matrix, weights, x.rows);
        for (const Isa isa : runnable_isas()) {
            for (const std::size_t n_rows : {1u, 6u, 20u}) {
                QuantizedRows rows = x.rows;
                rows.n_rows = n_rows;
                const auto out = multiply(isa, w.matrix, rows);
                for (std::size_t i = 0; i < out.size(); ++i) {
                    ASSERT_NEAR(static_cast<double>(out[i]), expected[i].value, expected[i].bound)
                        << name(isa) << " fill " << fill << " t " << i / 16;
                }
            }
        }
    }
}

// Packed and read back, every weight is what dequantize_row says, to a rounding of each product.
TEST_P(MatmulPacked, PanelsHoldEveryWeight) {
    const DType type = GetParam();
    constexpr std::size_t kRows = 19;
    for (const std::size_t cols : {32u, 96u, 768u}) {
        if (cols % tensor::info(type).block_size != 0) continue;
        const auto weights = random_weights(type, kRows, cols, 9);
        const Packed w(type, kRows, cols, weights);
        EXPECT_EQ(panel_bytes(type, cols) % 64, 0u);
        PanelGroup group;
        std::vector<float> row(cols);
        for (std::size_t r = 0; r < 32; ++r) {
            if (r < kRows)
                dequantize_row(type, weights.data() + r * tensor::row_bytes(type, cols), row);
            for (std::size_t c = 0; c < cols; ++c) {
                read_group(type, w.matrix.data + r / 16 * panel_bytes(type, cols), c / 32, group);
                const double product =
                    group.scale[c % 32 / 16][r % 16] * group.code[r % 16][c % 32];
                const double min = group.min[c % 32 / 16][r % 16];
                const double weight = r < kRows ? static_cast<double>(row[c]) : 0;
                ASSERT_NEAR(product - min, weight, (std::abs(product) + std::abs(min)) * 0x1p-22)
                    << r << " " << c;
            }
        }
    }
}

std::vector<DType> quantized_types() {
    std::vector<DType> types;
    for (const auto& info : tensor::all_dtypes()) {
        if (info.quantized) types.push_back(info.type);
    }
    return types;
}

INSTANTIATE_TEST_SUITE_P(Types, MatmulPacked, testing::ValuesIn(quantized_types()),
                         [](const auto& param) { return std::string(tensor::name(param.param)); });

TEST(MatmulPackedTest, ANanStaysInItsRow) {
    constexpr std::size_t kCols = 256;
    constexpr std::size_t kTokens = 20;
    const auto weights = random_weights(DType::q4_k, 16, kCols, 10);
    const Packed w(DType::q4_k, 16, kCols, weights);
    auto values = random_activations(kTokens * kCols, 11);
    const Quantized clean(values, kTokens, kCols);
    values[3 * kCols + 77] = std::numeric_limits<float>::quiet_NaN();
    values[12 * kCols + 5] = -std::numeric_limits<float>::infinity();
    const Quantized dirty(values, kTokens, kCols);
    for (const Isa isa : runnable_isas()) {
        const auto expected = multiply(isa, w.matrix, clean.rows);
        const auto out = multiply(isa, w.matrix, dirty.rows);
        for (std::size_t i = 0; i < out.size(); ++i) {
            if (i / 16 == 3 || i / 16 == 12)
                EXPECT_TRUE(std::isnan(out[i])) << name(isa) << " " << i;
            else
                EXPECT_EQ(out[i], expected[i]) << name(isa) << " " << i;
        }
    }
}

TEST(QuantizeRows, RoundsToNearestEvenWithTheLargestAt127) {
    std::vector<float> x(64, 0.0f);
    x[0] = -127.0f;
    x[1] = 2.5f;
    x[2] = 3.5f;
    x[17] = -0.5f;
    x[18] = -1.5f;
    x[32] = 0.25f;
    for (const Isa isa : runnable_isas()) {
        const Quantized q(x, 1, 64, kGroup, isa);
        EXPECT_EQ(q.scales[0], 1.0f);
        EXPECT_EQ(q.codes[0], -127);
        EXPECT_EQ(q.codes[1], 2);
        EXPECT_EQ(q.codes[2], 4);
        EXPECT_EQ(q.codes[17], 0);
        EXPECT_EQ(q.codes[18], -2);
        EXPECT_EQ(q.codes[32], 127);
        EXPECT_EQ(q.sums[0], -121);
        EXPECT_EQ(q.sums[1], -2);
        EXPECT_EQ(q.sums[2], 127);
        EXPECT_EQ(q.sums[3], 0);
    }
}

TEST(QuantizeRows, EveryFormGivesTheSameBits) {
    constexpr std::size_t kCols = 32 * 40;
    constexpr std::size_t kTokens = 5;
    constexpr float kInf = std::numeric_limits<float>::infinity();
    auto x = random_activations(kTokens * kCols, 12);
    std::mt19937 random(13);
    for (std::size_t g = 0; g < 40; ++g) {  // row 1: any bits at all; row 2: every magnitude
        for (std::size_t i = 0; i < 32; ++i) {
            x[kCols + 32 * g + i] = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
            x[2 * kCols + 32 * g + i] *= std::ldexp(1.0f, static_cast<int>(6 * g) - 145);
        }
    }
    const float specials[] = {0.0f,   -0.0f,  kInf, -kInf, std::numeric_limits<float>::quiet_NaN(),
                              1e-45f, 3.4e38f};
    for (std::size_t i = 0; i < std::size(specials);
         ++i) {  // row 3: one special in zeros, each group
        for (std::size_t k = 0; k < 32; ++k)
            x[3 * kCols + 32 * i + k] = k == i ? specials[i] : 0.0f;
    }
    const Quantized expected(x, kTokens, kCols);
    for (const Isa isa : runnable_isas()) {
        const Quantized q(x, kTokens, kCols, kGroup, isa);
        EXPECT_EQ(std::memcmp(q.codes.get(), expected.codes.get(), kTokens * kCols), 0)
            << name(isa);
        EXPECT_EQ(std::memcmp(q.scales.get(), expected.scales.get(), kTokens * kCols / 32 * 4), 0)
            << name(isa);
        EXPECT_EQ(std::memcmp(q.sums.get(), expected.sums.get(), kTokens * kCols / 16 * 4), 0)
            << name(isa);
    }
    for (std::size_t i = 0; i < kTokens * kCols; ++i) {
        ASSERT_GE(expected.codes[i], -127);
        const float scale = expected.scales[i / 32];
        if (std::isnan(scale) || scale == 0)
            ASSERT_EQ(expected.codes[i], 0);
        else
            ASSERT_NEAR(scale * expected.codes[i], x[i], 0.5001f * scale);
    }
    EXPECT_TRUE(std::isnan(expected.scales[3 * 40 + 2]));
    EXPECT_EQ(expected.scales[3 * 40 + 5], 0.0f);
}

TEST(MatmulPackedDeathTest, RefusesScalesThatTheTypeCannotUse) {
    const auto weights = random_weights(DType::q2_k, 16, 256, 16);
    const Packed w(DType::q2_k, 16, 256, weights);
    const Quantized x(random_activations(256, 17), 1, 256);
    EXPECT_DEATH(multiply(Isa::scalar, w.matrix, x.rows), "scale_columns");
}

TEST(QuantizeRows, AScaleMayBeSharedByTheGroupsOfASuperBlock) {
    constexpr std::size_t kCols = 256 + 64;  // the last super-block is not whole
    auto x = random_activations(2 * kCols, 15);
    x[100] = -1000.0f;
    x[300] = 500.0f;
    x[kCols + 7] = std::numeric_limits<float>::infinity();  // spoils its super-block only
    for (const Isa isa : runnable_isas()) {
        const Quantized q(x, 2, kCols, 256, isa);
        for (std::size_t g = 0; g < kCols / 32; ++g) {
            EXPECT_EQ(q.scales[g], g < 8 ? 1000.0f / 127.0f : 500.0f / 127.0f) << name(isa);
            EXPECT_EQ(std::isnan(q.scales[kCols / 32 + g]), g < 8) << name(isa);
        }
        EXPECT_EQ(q.codes[100], -127);
        for (std::size_t c = 0; c < kCols; ++c)
            EXPECT_NEAR(q.codes[c] * q.scales[c / 32], x[c], 0.5001f * q.scales[c / 32]);
        for (std::size_t h = 0; h < kCols / 16; ++h) {
            int sum = 0;
            for (std::size_t c = 16 * h; c < 16 * h + 16; ++c) sum += q.codes[c];
            EXPECT_EQ(q.sums[h], sum) << name(isa);
        }
        const Quantized scalar(x, 2, kCols, 256);
        EXPECT_EQ(std::memcmp(q.codes.get(), scalar.codes.get(), 2 * kCols), 0) << name(isa);
    }
}

TEST(QuantizeRows, TouchesOnlyTheRowsItIsGiven) {
    constexpr std::size_t kCols = 64;
    constexpr std::size_t kStride = 70;
    const auto x = random_activations(4 * kStride, 14);
    for (const Isa isa : runnable_isas()) {
        const std::vector<float> zeros(4 * kCols);
        Quantized q(zeros, 4, kCols);
        quantize_rows(isa, x.data(), kStride, 1, 3, q.rows);
        for (std::size_t t = 0; t < 4; ++t) {
            EXPECT_EQ(q.scales[2 * t] != 0, t == 1 || t == 2);
            const std::vector<float> row(
                x.begin() + static_cast<std::ptrdiff_t>(t * kStride),
                x.begin() + static_cast<std::ptrdiff_t>(t * kStride + kCols));
            const Quantized alone(t == 1 || t == 2 ? row : std::vector<float>(kCols), 1, kCols);
            EXPECT_EQ(std::memcmp(q.codes.get() + t * kCols, alone.codes.get(), kCols), 0);
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
