#include "machine/vulkan_probe.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace unicorn::machine {
namespace {

TEST(VulkanProbe, WithoutALoaderThereIsAReasonAndNoDevice) {
    const VulkanFacts facts = probe_vulkan("libno-such-vulkan.so.1");
    EXPECT_TRUE(facts.asked);
    EXPECT_FALSE(facts.loader_installed);
    EXPECT_EQ(facts.problem, "there is no libno-such-vulkan.so.1");
    EXPECT_TRUE(facts.devices.empty());
}

TEST(VulkanProbe, ALibraryThatIsNoLoaderIsNotMistakenForOne) {
    const VulkanFacts facts = probe_vulkan("libm.so.6");
    EXPECT_EQ(facts.problem, "libm.so.6 is no Vulkan loader");
    EXPECT_TRUE(facts.devices.empty());
}

TEST(VulkanProbe, EveryDeviceHereDescribesItself) {
    const VulkanFacts facts = probe_vulkan();
    if (!facts.loader_installed) GTEST_SKIP() << "no Vulkan loader on this machine";
    EXPECT_EQ(facts.devices.empty(), !facts.problem.empty()) << facts.problem;
    for (const VulkanDevice& device : facts.devices) {
        EXPECT_FALSE(device.name.empty());
        EXPECT_NE(device.vendor_id, 0u);
        EXPECT_NE(device.api_version, "0.0.0");
        ASSERT_FALSE(device.heaps.empty());
        std::uint64_t bytes = 0;
        for (const VulkanHeap& heap : device.heaps) {
            bytes += heap.bytes;
            EXPECT_LE(heap.budget_bytes.value_or(0), heap.bytes);
        }
        EXPECT_GT(bytes, std::uint64_t{1} << 20);
        std::printf("%s, Vulkan %s, %s %s, %.1f GB\n", device.name.c_str(),
                    device.api_version.c_str(), device.driver_name.c_str(),
                    device.driver_info.c_str(), static_cast<double>(bytes) / 1e9);
    }
}

}  // namespace
}  // namespace unicorn::machine
