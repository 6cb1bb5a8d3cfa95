#include "backends/vulkan/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unicorn::backends::vulkan {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
constexpr VkMemoryPropertyFlags kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;

VkPhysicalDeviceMemoryProperties memory(std::vector<std::uint64_t> heaps,
                                        std::vector<VkMemoryType> types) {
    VkPhysicalDeviceMemoryProperties out = {};
    out.memoryHeapCount = static_cast<std::uint32_t>(heaps.size());
    for (std::size_t i = 0; i < heaps.size(); ++i) out.memoryHeaps[i].size = heaps[i];
    out.memoryTypeCount = static_cast<std::uint32_t>(types.size());
    std::copy(types.begin(), types.end(), out.memoryTypes);
    return out;
}

std::vector<std::uint32_t> types_of(const std::vector<TierMemory>& tiers) {
    std::vector<std::uint32_t> out;
    for (const TierMemory& t : tiers) out.push_back(t.type_index);
    return out;
}

TEST(FindTiers, IntegratedGpuMapsAllAndKeepsTheTiersApart) {
    const auto apu = memory({30 * kGiB, 60 * kGiB}, {{kLocal, 1},
                                                     {kMapped, 0},
                                                     {kLocal | kMapped, 1},
                                                     {kMapped | kCached, 0},
                                                     {kLocal | kMapped | 0x40, 1}});
    const auto tiers = find_tiers(apu, true);
    ASSERT_EQ(types_of(tiers), (std::vector<std::uint32_t>{2, 1}));
    EXPECT_EQ(tiers[0].tier, memory::Tier::vram);
    EXPECT_EQ(tiers[0].heap_bytes, 60 * kGiB);
    EXPECT_TRUE(tiers[0].host_visible);
    EXPECT_EQ(tiers[1].tier, memory::Tier::gtt);
    EXPECT_EQ(tiers[1].heap_bytes, 30 * kGiB);
    EXPECT_TRUE(tiers[1].host_visible);
}

TEST(FindTiers, DiscreteGpuDoesNotTakeItsWindowForItsMemory) {
    const auto discrete =
        memory({140 * kGiB, 120 * kGiB, kGiB / 4},
               {{0, 1}, {kLocal, 0}, {kMapped, 1}, {kMapped | kCached, 1}, {kLocal | kMapped, 2}});
    const auto tiers = find_tiers(discrete, false);
    ASSERT_EQ(types_of(tiers), (std::vector<std::uint32_t>{1, 2}));
    EXPECT_FALSE(tiers[0].host_visible);
}

TEST(FindTiers, OneHeapIsBothTiers) {
    const auto software = memory({24 * kGiB}, {{kLocal | kMapped | kCached, 0}});
    EXPECT_EQ(types_of(find_tiers(software, true)), (std::vector<std::uint32_t>{0, 0}));
}

TEST(FindTiers, NoneWithoutMemoryOfTheKind) {
    EXPECT_EQ(find_tiers(memory({kGiB}, {{kLocal, 0}}), true).size(), 1U);
    EXPECT_TRUE(find_tiers(memory({kGiB}, {{0, 0}}), true).empty());
}

TEST(Features, NamesAllThatIsMissing) {
    EXPECT_EQ(missing_features(Features()).size(), 10U);
    Features all = features_to_enable(Features());
    EXPECT_TRUE(missing_features(all).empty());
    all.v12.shaderInt8 = VK_FALSE;
    all.v13.maintenance4 = VK_FALSE;
    EXPECT_THAT(missing_features(all), testing::ElementsAre("shaderInt8", "maintenance4"));
}

TEST(Features, OptionalOnesAreSwitchedOnOnlyWhereOffered) {
    Features offered = features_to_enable(Features());
    EXPECT_EQ(features_to_enable(offered).matrix.cooperativeMatrix, VK_FALSE);
    offered.matrix.cooperativeMatrix = VK_TRUE;
    offered.core.features.geometryShader = VK_TRUE;  // of no use to us
    EXPECT_EQ(features_to_enable(offered).matrix.cooperativeMatrix, VK_TRUE);
    EXPECT_EQ(features_to_enable(offered).core.features.geometryShader, VK_FALSE);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
