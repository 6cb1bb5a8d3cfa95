#include "backends/vulkan/matmul.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "backends/vulkan/matmul_testing.h"
#include "backends/vulkan/matmul_tune.h"
#include "backends/vulkan/testing.h"
#include "backends/vulkan/weight_layout.h"
#include "base/check.h"

namespace unicorn::backends::vulkan {
namespace {

using matmul_testing::expected_product;
using matmul_testing::random_weights;

constexpr float kPoison = -12345.5f;

class MatmulTest : public VulkanTest {
protected:
    struct Case {
        tensor::DType type = tensor::DType::f32;
        std::vector<std::uint32_t> rows;
        std::uint32_t cols = 0;
        std::uint32_t n_rows = 0;
        Epilogue epilogue = Epilogue::none;
        float x_scale = 1;
    };

    void SetUp() override {
        VulkanTest::SetUp();
        if (device_ != nullptr && device_->capabilities().compiles_only)
            GTEST_SKIP() << "this device runs nothing";
    }

    std::unique_ptr<Matmul> matmul(MatmulPath path) {
        auto made = Matmul::create(*device_, path);
        if (!made) {
            EXPECT_EQ(made.error().code, ErrorCode::unsupported) << made.error().message;
            std::printf("not run: %s\n", made.error().message.c_str());
            return nullptr;
        }
        return std::move(*made);
    }

    VulkanBuffer buffer(std::size_t bytes) {
        auto made = VulkanBuffer::create(*device_, bytes, device_->capabilities().tiers[0]);
        UNICORN_CHECK(made.has_value());
        return std::move(*made);
    }
    template <typename T>
    VulkanBuffer buffer_of(const std::vector<T>& values) {
        VulkanBuffer b = buffer(values.size() * sizeof(T));
        EXPECT_TRUE(b.upload(0, std::as_bytes(std::span(values))));
        return b;
    }

    VulkanBuffer tiles(tensor::DType type, std::size_t rows, std::size_t cols,
                       const std::vector<std::byte>& file) {
        std::vector<std::byte> packed(stored_bytes(type, rows, cols), std::byte{0xA5});
        // In two parts, as threads would.
        const std::size_t middle = rows / 2 / 16 * 16;
        pack_rows(type, cols, rows, 0, middle, file.data(), packed.data());
        pack_rows(type, cols, rows, middle, rows,
                  file.data() + middle * tensor::row_bytes(type, cols), packed.data());
        return buffer_of(packed);
    }

    static std::vector<float> random_x(std::size_t n, unsigned seed, float scale) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        std::vector<float> values(n);
        for (float& v : values) v = scale * normal(generator);
        return values;
    }

    static double activation(Epilogue epilogue, double v) {
        if (epilogue == Epilogue::silu) return v / (1 + std::exp(-v));
        const double u = 0.7978845608028654 * (v + 0.044715 * v * v * v);
        return v / (1 + std::exp(-2 * u));
    }

    void check(Matmul& matmul, const Case& c) {
        SCOPED_TRACE(std::string(tensor::name(c.type)) + ", " + std::string(name(matmul.path())) +
                     ", T " + std::to_string(c.n_rows) + ", D " + std::to_string(c.cols));
        const std::vector<float> x = random_x(c.n_rows * c.cols, 17 + c.n_rows, c.x_scale);
        const InputForm form = matmul.input_form(c.type, c.n_rows);
        const VulkanBuffer x_f32 = buffer_of(x);
        VulkanBuffer x_form = buffer(Matmul::input_bytes(form, c.n_rows, c.cols));

        MatmulCall call = {.epilogue = c.epilogue, .n_rows = c.n_rows, .cols = c.cols};
        call.count = static_cast<std::uint32_t>(c.rows.size());
        call.x[0] = x_f32.device_address();
        if (form != InputForm::f32)
            call.x[static_cast<std::size_t>(form)] = x_form.device_address();
        std::vector<std::vector<std::byte>> files;
        std::vector<VulkanBuffer> weights, outs;
        const std::size_t guard = 64;
        for (std::size_t i = 0; i < c.rows.size(); ++i) {
            files.push_back(random_weights(c.type, c.rows[i], c.cols, static_cast<unsigned>(i)));
            weights.push_back(tiles(c.type, c.rows[i], c.cols, files.back()));
            outs.push_back(buffer_of(std::vector<float>(c.n_rows * c.rows[i] + guard, kPoison)));
            call.weights[i] = {c.type, c.rows[i], weights[i].device_address()};
            call.outs[i] = outs[i].device_address();
        }
        // Where it can be: outs[0] in int8, and what quantising outs[0] makes of it.
        const std::size_t int8_bytes = Matmul::input_bytes(InputForm::int8, c.n_rows, c.rows[0]);
        const bool in_int8 = matmul.writes_int8(call);
        const VulkanBuffer int8_out = buffer(int8_bytes), int8_expected = buffer(int8_bytes);
        if (in_int8) call.int8_out = int8_out.device_address();
        Status recorded;
        const auto ran = device_->run([&](VkCommandBuffer commands) {
            if (form != InputForm::f32) {
                recorded = matmul.record_quantize(commands, x_f32.device_address(), c.n_rows,
                                                  c.cols, form, x_form.device_address());
                memory_barrier(*device_, commands);
            }
            if (recorded) recorded = matmul.record(commands, call);
            if (!recorded || !in_int8) return;
            memory_barrier(*device_, commands);
            recorded = matmul.record_quantize(commands, call.outs[0], c.n_rows, c.rows[0],
                                              InputForm::int8, int8_expected.device_address());
        });
        ASSERT_TRUE(recorded) << recorded.error().message;
        ASSERT_TRUE(ran) << ran.error().message;

        if (in_int8) {
            std::vector<std::byte> got(c.n_rows * (c.rows[0] + c.rows[0] / 4));
            std::vector<std::byte> wanted(got.size());
            ASSERT_TRUE(int8_out.download(0, got));
            ASSERT_TRUE(int8_expected.download(0, wanted));
            EXPECT_EQ(got, wanted);
        }

        std::vector<matmul_testing::Expected> expected;
        for (std::size_t i = 0; i < c.rows.size(); ++i)
            expected.push_back(
                expected_product(c.type, files[i], c.rows[i], c.cols, x, c.n_rows, form));
        const std::size_t n_outs = c.epilogue == Epilogue::none ? c.rows.size() : 1;
        for (std::size_t i = 0; i < n_outs; ++i) {
            std::vector<float> got(c.n_rows * c.rows[i] + guard);
            ASSERT_TRUE(outs[i].download(0, std::as_writable_bytes(std::span(got))));
            double worst = 0;
            for (std::size_t j = 0; j < c.n_rows * c.rows[i]; ++j) {
                double value = expected[i].values[j];
                double bound = expected[i].bounds[j];
                if (c.epilogue != Epilogue::none) {
                    // |activation'| <= 1.13.
                    const double gate = value;
                    const double up = expected[1].values[j];
                    value = activation(c.epilogue, gate) * up;
                    bound = 1.13 * bound * (std::abs(up) + expected[1].bounds[j]) +
                            std::abs(activation(c.epilogue, gate)) * expected[1].bounds[j] +
                            1e-5 * std::abs(value) + 1e-30;
                }
                const double error = std::abs(static_cast<double>(got[j]) - value);
                ASSERT_LE(error, bound)
                    << "matrix " << i << ", row " << j / c.rows[i] << ", output " << j % c.rows[i]
                    << ": " << got[j] << " for " << value;
                worst = std::max(worst, error / bound);
            }
            for (std::size_t j = c.n_rows * c.rows[i]; j < got.size(); ++j)
                ASSERT_EQ(got[j], kPoison) << "matrix " << i << ": past its end";
            // A bound that nothing comes near tests nothing.
            EXPECT_GT(worst, c.type == tensor::DType::f32 ? 1e-6 : 1e-5);
        }
    }
};

std::vector<tensor::DType> all_types() {
    std::vector<tensor::DType> types;
    for (const tensor::DTypeInfo& info : tensor::all_dtypes()) types.push_back(info.type);
    return types;
}

class MatmulTypes : public MatmulTest, public ::testing::WithParamInterface<tensor::DType> {};

TEST_P(MatmulTypes, AgreesWithTheScalarForm) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const std::uint32_t n_rows : {1U, 2U, 5U, 8U, 9U, 17U, 32U, 33U, 100U})
            check(*m, {.type = GetParam(), .rows = {37, 16, 130}, .cols = 768, .n_rows = n_rows});
        check(*m, {.type = GetParam(), .rows = {20}, .cols = 256, .n_rows = 3});
    }
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTypes, ::testing::ValuesIn(all_types()),
                         [](const auto& type) { return std::string(tensor::name(type.param)); });

TEST_F(MatmulTest, GatesWithGeluAndSilu) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const tensor::DType type :
             {tensor::DType::q4_0, tensor::DType::q2_k, tensor::DType::bf16}) {
            for (const std::uint32_t n_rows : {1U, 4U, 9U, 20U, 70U}) {
                for (const Epilogue epilogue : {Epilogue::gelu, Epilogue::silu}) {
                    for (const std::uint32_t rows : {90U, 96U})
                        check(*m, {.type = type,
                                   .rows = {rows, rows},
                                   .cols = 256,
                                   .n_rows = n_rows,
                                   .epilogue = epilogue,
                                   .x_scale = 0.3f});
                }
            }
        }
    }
}

// Gemma's residual stream reaches 1e5, which no f16 holds.
TEST_F(MatmulTest, LargeActivationsDoNotOverflow) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const std::uint32_t n_rows : {1U, 12U, 40U}) {
            for (const float scale : {1e5f, 1e-30f, 1e30f})
                check(*m, {.type = tensor::DType::q4_0,
                           .rows = {48},
                           .cols = 512,
                           .n_rows = n_rows,
                           .x_scale = scale});
        }
    }
}

// A row with a NaN or an infinity makes its own products NaN and no others.
TEST_F(MatmulTest, BadRowsStayAlone) {
    constexpr std::uint32_t kRows = 48, kCols = 5376, kNan = 1, kInfinite = 2;
    for (const MatmulPath path : {MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const tensor::DType type : {tensor::DType::q4_0, tensor::DType::q4_k}) {
            for (const std::uint32_t n_rows : {4U, 7U, 12U, 20U, 40U}) {
                SCOPED_TRACE(std::string(tensor::name(type)) + ", " + std::string(name(path)) +
                             ", T " + std::to_string(n_rows));
                std::vector<float> x = random_x(n_rows * kCols, 5, 1);
                x[kNan * kCols + 77] = std::numeric_limits<float>::quiet_NaN();
                x[kInfinite * kCols + kCols - 1] = std::numeric_limits<float>::infinity();
                const InputForm form = m->input_form(type, n_rows);
                const VulkanBuffer x_f32 = buffer_of(x);
                const VulkanBuffer x_form = buffer(Matmul::input_bytes(form, n_rows, kCols));
                const VulkanBuffer weights =
                    tiles(type, kRows, kCols, random_weights(type, kRows, kCols, 1));
                const VulkanBuffer out = buffer_of(std::vector<float>(n_rows * kRows, kPoison));
                MatmulCall call = {.n_rows = n_rows, .cols = kCols};
                call.weights[0] = {type, kRows, weights.device_address()};
                call.x[static_cast<std::size_t>(form)] = x_form.device_address();
                call.outs[0] = out.device_address();
                Status recorded;
                ASSERT_TRUE(device_->run([&](VkCommandBuffer commands) {
                    recorded = m->record_quantize(commands, x_f32.device_address(), n_rows, kCols,
                                                  form, x_form.device_address());
                    memory_barrier(*device_, commands);
                    if (recorded) recorded = m->record(commands, call);
                }));
                ASSERT_TRUE(recorded) << recorded.error().message;
                std::vector<float> got(n_rows * kRows);
                ASSERT_TRUE(out.download(0, std::as_writable_bytes(std::span(got))));
                for (std::size_t j = 0; j < got.size(); ++j) {
                    const std::size_t t = j / kRows;
                    ASSERT_EQ(std::isnan(got[j]), t == kNan || t == kInfinite)
                        << "row " << t << ", output " << j % kRows << ": " << got[j];
                }
            }
        }
    }
}

// Gemma 3 1B's and 27B's columns, which are no multiple of what a workgroup takes at a time.
TEST_F(MatmulTest, RealShapes) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const std::uint32_t n_rows : {1U, 16U}) {
            check(*m, {.type = tensor::DType::q4_0, .rows = {80}, .cols = 5376, .n_rows = n_rows});
            check(*m,
                  {.type = tensor::DType::q8_0, .rows = {1152}, .cols = 1152, .n_rows = n_rows});
            check(*m, {.type = tensor::DType::q2_k, .rows = {80}, .cols = 5376, .n_rows = n_rows});
        }
        // Few rows of many columns: workgroups share them.
        for (const tensor::DType type : {tensor::DType::q4_0, tensor::DType::q6_k}) {
            for (const std::uint32_t n_rows : {7U, 20U, 40U})
                check(*m, {.type = type,
                           .rows = {96, 96},
                           .cols = 5376,
                           .n_rows = n_rows,
                           .epilogue = Epilogue::gelu,
                           .x_scale = 0.03f});
        }
    }
}

// What a search may try, it may keep.
TEST_F(MatmulTest, ShapesNearTheDefaultsComputeTheSame) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat}) {
        const auto m = matmul(path);
        if (m == nullptr) continue;
        for (const std::uint32_t n_rows : {3U, 20U}) {
            for (const bool gated : {false, true}) {
                Case c = {.type = tensor::DType::q4_0, .rows = {64, 64}, .cols = 320};
                c.n_rows = n_rows;
                if (gated) c.epilogue = Epilogue::gelu;
                MatmulCall call = {.epilogue = c.epilogue,
                                   .n_rows = n_rows,
                                   .cols = c.cols,
                                   .count = 2,
                                   .weights = {{{c.type, 64, 0}, {c.type, 64, 0}}}};
                m->overrides.most_int8_rows = 0;  // no shapes of theirs are searched
                call.int8_out = m->writes_int8(call) ? 1 : 0;
                m->overrides.most_int8_rows = 0;  // whose shapes are not searched
                const ProductKey key = m->key_of(call);
                const bool matvec = key.shader != ProductShader::matmul_coopmat;
                const ProductShape known = matvec ? ProductShape(m->matvec_shape(call))
                                                  : ProductShape(m->matmul_shape(call));
                for (const ProductShape& shape : shapes_near(m->shape_limits(), key, known)) {
                    SCOPED_TRACE(format_shape(shape));
                    m->overrides = overrides_for(shape);
                    m->overrides.most_int8_rows = 0;
                    check(*m, c);
                }
                m->overrides = {};
            }
        }
    }
}

TEST_F(MatmulTest, TakesAPathByName) {
    ASSERT_EQ(setenv("UNICORN_VK_MATMUL", "plain", 1), 0);
    const auto plain = Matmul::create(*device_);
    ASSERT_EQ(setenv("UNICORN_VK_MATMUL", "fast", 1), 0);
    const auto fast = Matmul::create(*device_);
    ASSERT_EQ(unsetenv("UNICORN_VK_MATMUL"), 0);
    ASSERT_TRUE(plain);
    EXPECT_EQ((*plain)->path(), MatmulPath::plain);
    ASSERT_FALSE(fast);
    EXPECT_THAT(fast.error().message, ::testing::HasSubstr("coopmat, dot4 or plain"));
}

}  // namespace
}  // namespace unicorn::backends::vulkan
