// The search on a device, with a tiny matrix, and what becomes of its file.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "backends/vulkan/matmul_testing.h"
#include "backends/vulkan/matmul_tune.h"
#include "backends/vulkan/testing.h"

namespace unicorn::backends::vulkan {
namespace {

class MatmulTuning : public VulkanTest {
protected:
    void SetUp() override {
        VulkanTest::SetUp();
        if (device_ == nullptr) return;
        if (device_->capabilities().compiles_only) GTEST_SKIP() << "this device runs nothing";
        open_device({.cache_folder = folder_});
    }
    void TearDown() override {
        VulkanTest::TearDown();
        std::filesystem::remove_all(folder_);
    }

    std::unique_ptr<Matmul> matmul() {
        auto made = Matmul::create(*device_, MatmulPath::dot4);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    std::string path() const {
        return tuned_shapes_path(folder_, device_->capabilities().device_uuid);
    }

    const std::string folder_ =
        fmt::format("{}unicorn_matmul_tuning_{}", testing::TempDir(), ::getpid());
};

TEST_F(MatmulTuning, FindsShapesThatTheNextStartUses) {
    auto first = matmul();
    const std::vector<TuneProduct> products = {
        {.product = {.type = tensor::DType::q4_0,
                     .rows = {64, 64},
                     .cols = 256,
                     .epilogue = Epilogue::gelu,
                     .writes_int8 = true,
                     .sample = matmul_testing::random_weights(tensor::DType::q4_0, 64, 256, 1)},
         .most_rows = 16},
        {.product = {.type = tensor::DType::bf16,
                     .rows = {48},
                     .cols = 256,
                     .sample = matmul_testing::random_weights(tensor::DType::bf16, 64, 256, 1)},
         .most_rows = 1}};
    auto report = tune_matmul(*device_, *first, products, {.budget_s = 600});
    ASSERT_TRUE(report) << report.error().message;
    // One, up to 4 (both also in int8) and up to 8 rows of the first, and the second.
    EXPECT_EQ(report->findings.size(), 4u);
    EXPECT_EQ(report->n_left, 0u);
    for (const TuneFinding& f : report->findings) {
        EXPECT_GE(f.shapes.size(), 2u) << format_shape(f.shapes[0]);
        EXPECT_EQ(f.seconds.size(), f.shapes.size());
        EXPECT_GT(*std::ranges::min_element(f.seconds), 0);
    }
    const MatmulCall call = {
        .epilogue = Epilogue::gelu,
        .n_rows = 1,
        .cols = 256,
        .count = 2,
        .weights = {{{tensor::DType::q4_0, 64, 0}, {tensor::DType::q4_0, 64, 0}}},
        .int8_out = 1};
    const auto found = std::ranges::find(report->findings, first->key_of(call), &TuneFinding::key);
    ASSERT_NE(found, report->findings.end());
    // Whatever was faster: another than the default, so that its use shows.
    const TunedShapes kept = {{found->key, found->shapes[1]}};
    ASSERT_TRUE(store_tuned_shapes(path(), first->tuned_for(), kept));

    const auto second = matmul();
    EXPECT_EQ(second->warning(), "");
    EXPECT_EQ(second->tuned(), kept);
    EXPECT_EQ(ProductShape(second->matvec_shape(call)), found->shapes[1]);
    EXPECT_EQ(ProductShape(first->matvec_shape(call)), found->shapes[0]);
}

TEST_F(MatmulTuning, AFileThatCannotBeUsedIsLeftOutWithALine) {
    std::filesystem::create_directories(folder_);
    std::ofstream(path()) << "nonsense\n";
    const auto made = matmul();
    EXPECT_TRUE(made->tuned().empty());
    EXPECT_THAT(made->warning(), ::testing::HasSubstr("is damaged; not used"));
}

}  // namespace
}  // namespace unicorn::backends::vulkan
