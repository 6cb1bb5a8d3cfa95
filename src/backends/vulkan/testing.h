#pragma once
// The device of the tests: Mesa's software driver, or what UNICORN_TEST_VULKAN names
// ("vulkan:radeon"), with the validation layer where it is installed. What the layer calls an error
// fails the test. Without a device tests are skipped, or fail when UNICORN_REQUIRE_VULKAN is 1.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "backends/vulkan/vulkan_device.h"

namespace unicorn::backends::vulkan {

/// The value of an environment variable, or `otherwise` when it is not set.
inline std::string environment(const char* variable, const char* otherwise) {
    const char* value = std::getenv(variable);
    return value == nullptr ? otherwise : value;
}

/// Why there is no device, as a skipped test or a failed one.
inline void skip_or_fail(const Error& error) {
    if (environment("UNICORN_REQUIRE_VULKAN", "0") == "1") {
        FAIL() << "UNICORN_REQUIRE_VULKAN=1, but: " << error.message;
    }
    GTEST_SKIP() << error.message;
}

class VulkanTest : public testing::Test {
protected:
    void SetUp() override {
        const InstanceOptions options{.validation = has_validation_layer()};
        auto instance = VulkanInstance::open(options);
        if (!instance) return skip_or_fail(instance.error());
        instance_ = std::move(*instance);
        open_device({.cache_folder = ""});
    }
    void TearDown() override {
        device_.reset();
        if (instance_ != nullptr) {
            EXPECT_EQ(instance_->validation_errors(), std::vector<std::string>());
        }
    }

    void open_device(const DeviceOptions& options) {
        device_.reset();
        auto device = VulkanDevice::open(*instance_, wanted(), options);
        if (!device) return skip_or_fail(device.error());
        device_ = std::move(*device);
    }
    static std::string wanted() { return environment("UNICORN_TEST_VULKAN", "vulkan:lavapipe"); }

    std::unique_ptr<VulkanInstance> instance_;
    std::unique_ptr<VulkanDevice> device_;
};

}  // namespace unicorn::backends::vulkan
