#include "machine/profile.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "machine/testing.h"

namespace unicorn::machine {
namespace {

using memory::Tier;
using ::testing::ElementsAre;
using testing::fixture_machine;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20, kGiB = std::uint64_t{1} << 30;

const plan::TierProfile* tier(const plan::HardwareProfile& profile, Tier which) {
    for (const auto& candidate : profile.tiers)
        if (candidate.tier == which) return &candidate;
    return nullptr;
}

std::vector<std::string> pool_names(const plan::HardwareProfile& profile) {
    std::vector<std::string> names;
    for (const auto& pool : profile.pools) names.push_back(pool.name);
    return names;
}

TEST(ToProfile, OnAnApuHostGttAndNpuShareThePoolAndTheCarveOutHasItsOwn) {
    const auto p = to_profile(fixture_machine("ryzen-8945hs-96gb"));
    EXPECT_EQ(p.name, "ryzen-9-8945hs-96gb");
    ASSERT_THAT(pool_names(p), ElementsAre("system", "carveout"));
    EXPECT_EQ(p.pools[0].capacity_bytes, std::uint64_t{80140580} << 10);
    EXPECT_EQ(p.pools[0].available_bytes, std::uint64_t{76021760} << 10);
    EXPECT_EQ(p.pools[1].capacity_bytes, 16 * kGiB);
    EXPECT_EQ(p.pools[1].available_bytes, 16 * kGiB - 220 * kMiB);
    ASSERT_EQ(p.tiers.size(), 5u);
    EXPECT_EQ(tier(p, Tier::vram)->pool, "carveout");
    EXPECT_EQ(tier(p, Tier::gtt)->pool, "system");
    EXPECT_EQ(tier(p, Tier::gtt)->capacity_bytes, 40 * kGiB - 150 * kMiB);
    EXPECT_EQ(tier(p, Tier::npu)->pool, "system");
    EXPECT_EQ(tier(p, Tier::npu)->capacity_bytes, p.pools[0].capacity_bytes);
    EXPECT_EQ(tier(p, Tier::host)->pool, "system");
    EXPECT_EQ(tier(p, Tier::disk)->pool, "");
    // 80 % of 89.6 GB/s, and said to be an estimate.
    EXPECT_NEAR(tier(p, Tier::gtt)->read_gb_s, 71.7, 0.1);
    EXPECT_FALSE(tier(p, Tier::gtt)->measured);
    EXPECT_EQ(tier(p, Tier::disk)->read_gb_s, 0);
    ASSERT_EQ(p.devices.size(), 3u);
    EXPECT_EQ(p.devices[1].name, "AMD Radeon 780M");
    EXPECT_TRUE(p.devices[1].integrated);
    EXPECT_THAT(p.devices[1].tiers, ElementsAre(Tier::vram, Tier::gtt));
    EXPECT_EQ(p.devices[2].kind, plan::DeviceKind::npu);
}

TEST(ToProfile, WhatWasMeasuredIsSaidToBe) {
    Machine m = fixture_machine("ryzen-8945hs-96gb");
    m.measured = {.host_gb_s = 61.5, .disk_gb_s = 6.8, .disk_device = "nvme0n1p2"};
    const auto p = to_profile(m);
    EXPECT_EQ(tier(p, Tier::host)->read_gb_s, 61.5);
    EXPECT_TRUE(tier(p, Tier::host)->measured);
    EXPECT_EQ(tier(p, Tier::disk)->read_gb_s, 6.8);
    EXPECT_TRUE(tier(p, Tier::disk)->measured);
    EXPECT_FALSE(tier(p, Tier::vram)->measured);
}

TEST(ToProfile, DevicesThatCannotBeOpenedAreNotThere) {
    const auto p = to_profile(fixture_machine("ryzen-8945hs-32gb"));
    EXPECT_THAT(pool_names(p), ElementsAre("system"));
    EXPECT_EQ(p.devices.size(), 1u);
    EXPECT_EQ(tier(p, Tier::gtt), nullptr);
    EXPECT_EQ(tier(p, Tier::npu), nullptr);
}

TEST(ToProfile, ADiscreteGpusMemoryIsItsOwnPool) {
    const auto p = to_profile(fixture_machine("desktop-7900xtx"));
    ASSERT_THAT(pool_names(p), ElementsAre("system", "gpu0"));
    EXPECT_EQ(p.pools[1].capacity_bytes, 24560 * kMiB);
    EXPECT_EQ(p.pools[1].available_bytes, (24560 - 1200) * kMiB);
    EXPECT_EQ(tier(p, Tier::vram)->pool, "gpu0");
    EXPECT_EQ(tier(p, Tier::vram)->read_gb_s, 0);  // nothing to estimate it from
    EXPECT_EQ(tier(p, Tier::gtt)->pool, "system");
    EXPECT_NEAR(tier(p, Tier::gtt)->read_gb_s, 25.2, 0.1);  // through PCIe
    ASSERT_EQ(p.devices.size(), 2u);
    EXPECT_FALSE(p.devices[1].integrated);
}

TEST(ToProfile, StrixHalo) {
    const auto p = to_profile(fixture_machine("strix-halo-128gb"));
    EXPECT_EQ(p.name, "ryzen-ai-max-395-128gb");
    EXPECT_EQ(tier(p, Tier::vram)->capacity_bytes, 4 * kGiB);
    EXPECT_EQ(tier(p, Tier::gtt)->capacity_bytes, 96 * kGiB - 90 * kMiB);
    EXPECT_NEAR(tier(p, Tier::vram)->read_gb_s, 204.8, 0.1);
}

TEST(ToProfile, AControlGroupsLimitIsTheHostsAndNothingElseIsThere) {
    const auto p = to_profile(fixture_machine("vm-4cpu"));
    ASSERT_THAT(pool_names(p), ElementsAre("system"));
    EXPECT_EQ(p.pools[0].available_bytes, 8 * kGiB - 1536 * kMiB);
    EXPECT_EQ(tier(p, Tier::host)->capacity_bytes, 8 * kGiB);
    ASSERT_EQ(p.devices.size(), 1u);
    EXPECT_EQ(p.devices[0].kind, plan::DeviceKind::cpu);
}

TEST(ToProfile, LimitsOfTheKernelAndOfTheProcessBoundTheirTiers) {
    Machine m = fixture_machine("ryzen-8945hs-96gb");
    m.memory.ttm_pages_limit = 8 * kGiB / 4096;
    m.user.memlock_bytes = kGiB;
    const auto p = to_profile(m);
    EXPECT_EQ(tier(p, Tier::gtt)->capacity_bytes, 8 * kGiB - 150 * kMiB);
    EXPECT_EQ(tier(p, Tier::npu)->capacity_bytes, kGiB);
}

TEST(ToProfile, ASoftwareDriverIsMarkedAsOne) {
    Machine m = fixture_machine("vm-4cpu");
    m.vulkan.devices.push_back(
        {.name = "llvmpipe (LLVM 15.0.6, 256 bits)", .type = VulkanType::cpu});
    const auto p = to_profile(m);
    ASSERT_EQ(p.devices.size(), 2u);
    EXPECT_TRUE(p.devices[1].software);
    EXPECT_THAT(p.devices[1].tiers, ElementsAre(Tier::host));
}

// Whatever a kernel says: nothing is available beyond its capacity, every tier has its pool.
TEST(ToProfile, OddNumbersMakeAProfileThatStillAddsUp) {
    for (const std::uint64_t odd : {std::uint64_t{0}, std::uint64_t{1}, kUnlimited}) {
        Machine m = fixture_machine("ryzen-8945hs-96gb");
        m.gpus[0].vram_total_bytes = kGiB;
        m.gpus[0].vram_used_bytes = odd;
        m.gpus[0].gtt_total_bytes = odd;
        m.gpus[0].gtt_used_bytes = kUnlimited - odd;
        m.memory.cgroup_available_bytes = odd;
        m.memory.ttm_pages_limit = odd;
        m.user.memlock_bytes = odd;
        const auto p = to_profile(m);
        for (const auto& pool : p.pools) EXPECT_LE(pool.available_bytes, pool.capacity_bytes);
        for (const auto& t : p.tiers) {
            const auto pool = std::find_if(p.pools.begin(), p.pools.end(),
                                           [&](const auto& c) { return c.name == t.pool; });
            if (t.tier == Tier::disk) continue;
            ASSERT_NE(pool, p.pools.end());
            EXPECT_LE(t.capacity_bytes, pool->capacity_bytes);
        }
    }
}

}  // namespace
}  // namespace unicorn::machine
