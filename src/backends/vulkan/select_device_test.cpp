#include "backends/vulkan/select_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace unicorn::backends::vulkan {
namespace {

using testing::HasSubstr;

const std::vector<DeviceDescription> kDevices = {
    {.name = "llvmpipe (LLVM 15.0.6, 256 bits)",
     .driver_name = "llvmpipe",
     .type = DeviceType::cpu},
    {.name = "AMD Radeon 780M (RADV PHOENIX)",
     .driver_name = "radv",
     .type = DeviceType::integrated},
    {.name = "NVIDIA H200", .driver_name = "NVIDIA", .type = DeviceType::discrete},
};

TEST(SelectDevice, ByIndexByNameAndByItself) {
    EXPECT_EQ(select_device(kDevices, "vulkan"), 2U);
    EXPECT_EQ(select_device(std::span(kDevices).first(2), "vulkan"), 1U);
    EXPECT_EQ(select_device(kDevices, "vulkan:1"), 1U);
    EXPECT_EQ(select_device(kDevices, "vulkan:radeon"), 1U);
    EXPECT_EQ(select_device(kDevices, "vulkan:RADV"), 1U);
    EXPECT_EQ(select_device(kDevices, "vulkan:H200"), 2U);
}

TEST(SelectDevice, SoftwareOnlyByName) {
    EXPECT_EQ(select_device(kDevices, "vulkan:llvmpipe"), 0U);
    EXPECT_EQ(select_device(kDevices, "vulkan:lavapipe"), 0U);
    EXPECT_EQ(select_device(kDevices, "vulkan:v"), 1U);  // lavapipe has one too
    const auto by_index = select_device(kDevices, "vulkan:0");
    ASSERT_FALSE(by_index);
    EXPECT_EQ(
        by_index.error().message,
        "Vulkan device 0 is llvmpipe (LLVM 15.0.6, 256 bits), a software device: ask for it by "
        "name, vulkan:llvmpipe");
    const auto alone = select_device(std::span(kDevices).first(1), "vulkan");
    ASSERT_FALSE(alone);
    EXPECT_EQ(
        alone.error().message,
        "no Vulkan GPU; devices: 0: llvmpipe (LLVM 15.0.6, 256 bits) (software, by name only)");
}

TEST(SelectDevice, SaysWhatThereIs) {
    const auto missing = select_device(kDevices, "vulkan:arc");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ErrorCode::not_found);
    EXPECT_THAT(missing.error().message, HasSubstr("no Vulkan device named \"arc\"; devices: 0: "));
    EXPECT_THAT(missing.error().message, HasSubstr("2: NVIDIA H200"));
    const auto index = select_device(kDevices, "vulkan:3");
    ASSERT_FALSE(index);
    EXPECT_THAT(index.error().message, HasSubstr("no Vulkan device 3; devices: 0: "));
    EXPECT_FALSE(select_device(kDevices, "vulkan:99999999999999999999999"));
    const auto none = select_device({}, "vulkan");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().message, "no Vulkan GPU; devices: none");
    for (const char* bad : {"", "cpu", "vulkan:", "vulkan1"}) {
        const auto refused = select_device(kDevices, bad);
        ASSERT_FALSE(refused) << bad;
        EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument) << bad;
    }
}

}  // namespace
}  // namespace unicorn::backends::vulkan
