// The matrix shaders compiled for the Radeon 780M (RADV without a GPU): nothing spills, and they
// use the instructions that they are made for.
#include <gtest/gtest.h>

#include <cstdio>

#include "backends/vulkan/matmul.h"
#include "backends/vulkan/testing.h"

namespace unicorn::backends::vulkan {
namespace {

class MatmulRadvTest : public testing::Test {
protected:
    void SetUp() override {
        if (environment("RADV_FORCE_FAMILY", "").empty()) GTEST_SKIP() << "compiles for no GPU";
        auto instance = VulkanInstance::open({.validation = false});
        if (!instance) return skip_or_fail(instance.error());
        instance_ = std::move(*instance);
        auto device = VulkanDevice::open(*instance_, "vulkan:radv", {.cache_folder = ""});
        if (!device) return skip_or_fail(device.error());
        device_ = std::move(*device);
    }

    /// Compiles what `path` takes for products of `type` with `n_rows` rows; a row of a table for
    /// each shader.
    void compile(MatmulPath path, tensor::DType type, std::uint32_t n_rows, Epilogue epilogue) {
        auto made = Matmul::create(*device_, path);
        ASSERT_TRUE(made) << made.error().message;
        Matmul& matmul = **made;
        matmul.keep_statistics = true;
        MatmulCall call = {.epilogue = epilogue, .n_rows = n_rows, .cols = 5376};
        call.count = epilogue == Epilogue::none ? 1 : 2;
        for (std::uint32_t i = 0; i < call.count; ++i) call.weights[i] = {type, 5376, 0};
        const Status compiled = matmul.record(VK_NULL_HANDLE, call);
        ASSERT_TRUE(compiled) << compiled.error().message;
        matmul.each_pipeline([&](std::string_view name, auto, const Pipeline& pipeline) {
            const auto statistics = pipeline.statistics();
            ASSERT_TRUE(statistics) << statistics.error().message;
            const auto value = [&](std::string_view wanted) {
                for (const PipelineStatistic& s : *statistics)
                    if (s.name == wanted) return s.value;
                ADD_FAILURE() << "RADV tells no " << wanted;
                return 0.0;
            };
            const auto assembly = pipeline.assembly();
            ASSERT_TRUE(assembly) << assembly.error().message;
            const auto count = [&](std::string_view instruction) {
                std::size_t n = 0;
                for (std::size_t at = assembly->find(instruction); at != std::string::npos;
                     at = assembly->find(instruction, at + 1))
                    ++n;
                return n;
            };
            const std::size_t dots = count("v_dot4_i32_iu8");
            const std::size_t matrices = count("v_wmma_f32_16x16x16_f16");
            std::printf(
                "%-14s %-6s T %3u %s: %3g VGPRs, %2g a SIMD, %5g bytes of LDS, %5g "
                "instructions, %zu dot4, %zu wmma, %zu wide loads\n",
                std::string(name).c_str(), std::string(tensor::name(type)).c_str(), n_rows,
                epilogue == Epilogue::none ? "     " : "gated", value("VGPRs"),
                value("Subgroups per SIMD"), value("LDS size"), value("Instructions"), dots,
                matrices, count("global_load_b128"));
            EXPECT_EQ(value("Spilled VGPRs"), 0) << name << " " << tensor::name(type);
            EXPECT_EQ(value("Spilled SGPRs"), 0) << name << " " << tensor::name(type);
            EXPECT_EQ(value("Scratch size"), 0) << name << " " << tensor::name(type);
            EXPECT_EQ(dots > 0, name == "matvec_dot4");
            EXPECT_EQ(matrices > 0, name == "matmul_coopmat");
        });
    }

    std::unique_ptr<VulkanInstance> instance_;
    std::unique_ptr<VulkanDevice> device_;
};

TEST_F(MatmulRadvTest, NothingSpills) {
    for (const tensor::DTypeInfo& info : tensor::all_dtypes()) {
        for (const std::uint32_t n_rows : {1U, 4U, 8U}) {
            compile(MatmulPath::dot4, info.type, n_rows, Epilogue::none);
            compile(MatmulPath::dot4, info.type, n_rows, Epilogue::gelu);
        }
        for (const std::uint32_t n_rows : {16U, 32U, 64U, 512U}) {
            compile(MatmulPath::coopmat, info.type, n_rows, Epilogue::none);
            compile(MatmulPath::coopmat, info.type, n_rows, Epilogue::gelu);
        }
        compile(MatmulPath::plain, info.type, 8, Epilogue::none);
    }
}

}  // namespace
}  // namespace unicorn::backends::vulkan
