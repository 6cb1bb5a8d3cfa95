// RADV without a GPU (RADV_FORCE_FAMILY=phoenix): compiles for the Radeon 780M and runs nothing.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdio>

#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/testing.h"
#include "backends/vulkan/tier_bandwidth.params.h"
#include "backends/vulkan/tier_read.comp.h"

namespace unicorn::backends::vulkan {
namespace {

class RadvNullTest : public testing::Test {
protected:
    void SetUp() override {
        // Without the validation layer, which hides cooperative matrices when it is older than they
        // are (Debian 12's); spirv-val has looked at the shaders.
        auto instance = VulkanInstance::open({.validation = false});
        if (!instance) return skip_or_fail(instance.error());
        instance_ = std::move(*instance);
        auto device = VulkanDevice::open(*instance_, "vulkan:radv", {.cache_folder = ""});
        if (!device) return skip_or_fail(device.error());
        device_ = std::move(*device);
        if (environment("RADV_FORCE_FAMILY", "").empty()) GTEST_SKIP() << "this is a real GPU";
    }

    std::unique_ptr<VulkanInstance> instance_;
    std::unique_ptr<VulkanDevice> device_;
};

TEST_F(RadvNullTest, HasWhatA780mHas) {
    const Capabilities& c = device_->capabilities();
    EXPECT_EQ(c.min_subgroup_size, 32U);
    EXPECT_EQ(c.max_subgroup_size, 64U);
    EXPECT_TRUE(c.dot4_accelerated);
    EXPECT_TRUE(c.executable_properties);
    EXPECT_TRUE(c.compiles_only);
    EXPECT_TRUE(c.tiers.empty());
    EXPECT_THAT(device_->warnings(), testing::ElementsAre(testing::HasSubstr("runs nothing")));
    std::printf("%s, %s, %zu matrix shapes\n", device_->name().c_str(),
                c.description.driver_info.c_str(), c.matrix_shapes.size());
    EXPECT_TRUE(std::any_of(c.matrix_shapes.begin(), c.matrix_shapes.end(), [](const auto& s) {
        return s.m == 16 && s.n == 16 && s.k == 16 && s.a == VK_COMPONENT_TYPE_FLOAT16_KHR &&
               s.result == VK_COMPONENT_TYPE_FLOAT32_KHR;
    }));
}

// The RDNA3 registers of the bandwidth probe: none spilled, and few enough for 16 waves on a SIMD.
TEST_F(RadvNullTest, TellsRegistersAndSpillsOfAShader) {
    for (const std::uint32_t subgroup : {32U, 64U}) {
        const std::uint32_t constants[] = {256};
        auto pipeline = Pipeline::create(*device_, {.name = "tier_read",
                                                    .spirv = shaders::kTierRead,
                                                    .push_constant_bytes = sizeof(TierParams),
                                                    .constants = constants,
                                                    .subgroup_size = subgroup,
                                                    .keep_statistics = true});
        ASSERT_TRUE(pipeline) << pipeline.error().message;
        const auto statistics = pipeline->statistics();
        ASSERT_TRUE(statistics) << statistics.error().message;
        const auto value = [&](std::string_view name) {
            const auto found =
                std::find_if(statistics->begin(), statistics->end(),
                             [&](const PipelineStatistic& s) { return s.name == name; });
            EXPECT_NE(found, statistics->end()) << name;
            return found == statistics->end() ? -1 : found->value;
        };
        for (const auto& s : *statistics) std::printf("  %s: %g\n", s.name.c_str(), s.value);
        EXPECT_GT(value("VGPRs"), 0);
        EXPECT_LE(value("VGPRs"), 96);
        EXPECT_EQ(value("Spilled VGPRs"), 0);
        EXPECT_EQ(value("Spilled SGPRs"), 0);
        EXPECT_GT(value("Code size"), 0);
    }
}

}  // namespace
}  // namespace unicorn::backends::vulkan
