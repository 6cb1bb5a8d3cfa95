// Compares our copy of Vulkan's binary interface with vulkan_core.h; built only where that is.

#include "machine/vulkan_abi.h"

#include <gtest/gtest.h>
#include <vulkan/vulkan_core.h>

#include <cstddef>

namespace unicorn::machine::vk {
namespace {

TEST(VulkanAbi, StructuresLieAsInVulkanCore) {
    static_assert(sizeof(ApplicationInfo) == sizeof(VkApplicationInfo));
    static_assert(sizeof(InstanceCreateInfo) == sizeof(VkInstanceCreateInfo));
    static_assert(sizeof(PhysicalDeviceProperties2) == sizeof(VkPhysicalDeviceProperties2));
    static_assert(sizeof(PhysicalDeviceDriverProperties) ==
                  sizeof(VkPhysicalDeviceDriverProperties));
    static_assert(sizeof(PhysicalDevicePciBusInfo) ==
                  sizeof(VkPhysicalDevicePCIBusInfoPropertiesEXT));
    static_assert(sizeof(PhysicalDeviceMemoryProperties2) ==
                  sizeof(VkPhysicalDeviceMemoryProperties2));
    static_assert(sizeof(PhysicalDeviceMemoryBudget) ==
                  sizeof(VkPhysicalDeviceMemoryBudgetPropertiesEXT));
    static_assert(sizeof(ExtensionProperties) == sizeof(VkExtensionProperties));
    EXPECT_EQ(offsetof(PhysicalDeviceProperties, device_name),
              offsetof(VkPhysicalDeviceProperties, deviceName));
    EXPECT_EQ(offsetof(PhysicalDeviceProperties, limits),
              offsetof(VkPhysicalDeviceProperties, limits));
    EXPECT_EQ(offsetof(PhysicalDeviceProperties, sparse_properties),
              offsetof(VkPhysicalDeviceProperties, sparseProperties));
    EXPECT_EQ(offsetof(PhysicalDeviceDriverProperties, driver_info),
              offsetof(VkPhysicalDeviceDriverProperties, driverInfo));
    EXPECT_EQ(offsetof(PhysicalDevicePciBusInfo, function),
              offsetof(VkPhysicalDevicePCIBusInfoPropertiesEXT, pciFunction));
    EXPECT_EQ(offsetof(PhysicalDeviceMemoryProperties, heaps),
              offsetof(VkPhysicalDeviceMemoryProperties, memoryHeaps));
    EXPECT_EQ(offsetof(PhysicalDeviceMemoryBudget, used_bytes),
              offsetof(VkPhysicalDeviceMemoryBudgetPropertiesEXT, heapUsage));
    EXPECT_EQ(offsetof(InstanceCreateInfo, extensions),
              offsetof(VkInstanceCreateInfo, ppEnabledExtensionNames));
}

TEST(VulkanAbi, NumbersAreVulkanCores) {
    EXPECT_EQ(int{kPhysicalDeviceProperties2}, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
    EXPECT_EQ(int{kPhysicalDeviceMemoryProperties2},
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2);
    EXPECT_EQ(int{kPhysicalDeviceDriverProperties},
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    EXPECT_EQ(int{kPhysicalDevicePciBusInfo},
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT);
    EXPECT_EQ(int{kPhysicalDeviceMemoryBudget},
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
    EXPECT_EQ(kVersion11, VK_API_VERSION_1_1);
    EXPECT_EQ(kHeapDeviceLocal, static_cast<std::uint32_t>(VK_MEMORY_HEAP_DEVICE_LOCAL_BIT));
    EXPECT_EQ(int{kErrorIncompatibleDriver}, VK_ERROR_INCOMPATIBLE_DRIVER);
    EXPECT_EQ(int{kIncomplete}, VK_INCOMPLETE);
}

}  // namespace
}  // namespace unicorn::machine::vk
