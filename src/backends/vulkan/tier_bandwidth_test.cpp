#include "backends/vulkan/tier_bandwidth.h"

#include <cmath>
#include <cstdio>

#include "backends/vulkan/testing.h"

namespace unicorn::backends::vulkan {
namespace {

class TierBandwidthTest : public VulkanTest {};

// The probe itself fails when the GPU did not read every word. Sizes: one invocation's share, a
// tail, and enough for all workgroups.
TEST_F(TierBandwidthTest, ReadsEveryTierWhole) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{100'003}, std::size_t{64} << 20}) {
        const auto tiers = measure_tiers(*device_, {.bytes = bytes, .repeats = 3});
        ASSERT_TRUE(tiers) << tiers.error().message;
        ASSERT_EQ(tiers->size(), device_->capabilities().tiers.size());
        for (std::size_t i = 0; i < tiers->size(); ++i) {
            const TierBandwidth& t = (*tiers)[i];
            EXPECT_EQ(t.tier, device_->capabilities().tiers[i].tier);
            EXPECT_EQ(t.heap_index, device_->capabilities().tiers[i].heap_index);
            EXPECT_EQ(t.bytes, std::max(bytes, std::size_t{64}) / 64 * 64);
            EXPECT_TRUE(std::isfinite(t.max_bytes_per_s));
            EXPECT_GT(t.min_bytes_per_s, 0);
            EXPECT_LE(t.min_bytes_per_s, t.bytes_per_s);
            EXPECT_LE(t.bytes_per_s, t.max_bytes_per_s);
            std::printf("%s: %zu bytes at %.2f GB/s (%.2f to %.2f)\n",
                        std::string(memory::name(t.tier)).c_str(), t.bytes, t.bytes_per_s / 1e9,
                        t.min_bytes_per_s / 1e9, t.max_bytes_per_s / 1e9);
        }
    }
}

TEST_F(TierBandwidthTest, CopiesInTheTierAskedForAlone) {
    const auto tiers = measure_tiers(
        *device_, {.bytes = 100'000, .repeats = 2, .only = memory::Tier::gtt, .copies = true});
    ASSERT_TRUE(tiers) << tiers.error().message;
    ASSERT_EQ(tiers->size(), 1u);
    EXPECT_EQ(tiers->front().tier, memory::Tier::gtt);
    EXPECT_GT(tiers->front().bytes_per_s, 0);
    EXPECT_GT(tiers->front().copy_bytes_per_s, 0);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
