#pragma once
// The Vulkan loader, its devices and, when asked for, the validation layer.

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backends/vulkan/select_device.h"
#include "backends/vulkan/volk.h"
#include "base/result.h"

namespace unicorn::backends::vulkan {

/// Whether UNICORN_VULKAN_VALIDATION=1 asks for the validation layer.
bool validation_wanted();

struct InstanceOptions {
    std::string library = "libvulkan.so.1";  // the loader; anything dlopen takes
    bool validation = validation_wanted();
};

/// The process's way to Vulkan. One is enough; devices opened from it must go before it.
class VulkanInstance {
public:
    /// Opens the loader and lists the devices; none is no error.
    /// Errors: not_found, when there is no loader or no driver; unsupported, when the loader is
    /// older than Vulkan 1.3 or the validation layer is asked for and not installed.
    static Result<std::unique_ptr<VulkanInstance>> open(const InstanceOptions& options = {});
    ~VulkanInstance();
    VulkanInstance(const VulkanInstance&) = delete;
    VulkanInstance& operator=(const VulkanInstance&) = delete;

    VkInstance handle() const { return instance_; }
    std::span<const DeviceDescription> devices() const { return descriptions_; }
    VkPhysicalDevice physical_device(std::size_t index) const { return physical_devices_[index]; }

    /// Version of the validation layer that is on; 0 when none is.
    std::uint32_t validation_version() const { return validation_version_; }
    /// What the layer called an error so far, oldest first; also printed to stderr as it comes.
    std::vector<std::string> validation_errors() const;

private:
    VulkanInstance() = default;
    Status list_devices();
    void add_validation_error(std::string message);
    static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(
        VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT types,
        const VkDebugUtilsMessengerCallbackDataEXT* data, void* instance);

    VkInstance instance_ = VK_NULL_HANDLE;
    VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
    std::uint32_t validation_version_ = 0;
    std::vector<VkPhysicalDevice> physical_devices_;
    std::vector<DeviceDescription> descriptions_;
    mutable std::mutex mutex_;  // validation_errors_, which any thread's call may add to
    std::vector<std::string> validation_errors_;
};

/// Whether the validation layer is installed where `library`, the loader, looks for it.
bool has_validation_layer(const std::string& library = "libvulkan.so.1");

}  // namespace unicorn::backends::vulkan
