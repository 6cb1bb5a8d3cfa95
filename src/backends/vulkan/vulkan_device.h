#pragma once
// One opened Vulkan device: its functions, its compute queue, its memory and its pipeline cache.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/vulkan/capabilities.h"
#include "backends/vulkan/vma.h"
#include "backends/vulkan/vulkan_instance.h"
#include "base/cache_folder.h"
#include "base/result.h"

namespace unicorn::backends::vulkan {

struct DeviceOptions {
    std::string cache_folder = unicorn::cache_folder();  // for compiled pipelines; "": none
};

class VulkanDevice {
public:
    /// Opens the device that `wanted` names (select_device.h). `instance` must outlive it.
    /// Errors: as select_device; unsupported, naming each feature that the device lacks; io, when
    /// the driver refuses.
    static Result<std::unique_ptr<VulkanDevice>> open(VulkanInstance& instance,
                                                      std::string_view wanted,
                                                      const DeviceOptions& options = {});
    /// Waits for everything submitted and saves the pipeline cache.
    ~VulkanDevice();
    VulkanDevice(const VulkanDevice&) = delete;
    VulkanDevice& operator=(const VulkanDevice&) = delete;

    const Capabilities& capabilities() const { return capabilities_; }
    const std::string& name() const { return capabilities_.description.name; }
    /// Where what is learnt of the device is kept; "": nowhere.
    const std::string& cache_folder() const { return cache_folder_; }
    /// Lines that a user should see: a software device, a cache that cannot be kept.
    const std::vector<std::string>& warnings() const { return warnings_; }

    VkDevice handle() const { return device_; }
    VkPhysicalDevice physical_device() const { return physical_device_; }
    const VolkDeviceTable& vk() const { return vk_; }
    VmaAllocator vma() const { return vma_; }
    VkPipelineCache pipeline_cache() const { return pipeline_cache_; }

    /// Queues `commands` behind everything submitted here before, and returns its place: a value
    /// of this device's timeline, one more than the last. Thread-safe. Errors: device_lost.
    Result<std::uint64_t> submit(VkCommandBuffer commands) { return submit({&commands, 1}); }
    /// The same for several, one after the other, as one submission. At most 4.
    Result<std::uint64_t> submit(std::span<const VkCommandBuffer> commands);
    /// Blocks until the timeline has reached `value`, which submit() gave. Errors: device_lost.
    Status wait(std::uint64_t value);
    /// How far the timeline has come. Errors: device_lost.
    Result<std::uint64_t> finished() const;

    /// Records commands, submits them and waits; what they wrote is then visible to the CPU.
    /// For set-up and tests: it makes a command buffer each time. Errors: device_lost,
    /// out_of_memory.
    Status run(const std::function<void(VkCommandBuffer)>& record);

    /// Writes the compiled pipelines to disk, if there are new ones. Errors: io.
    Status save_pipeline_cache();

private:
    explicit VulkanDevice(VulkanInstance& instance) : instance_(instance) {}
    Status create(const Features& offered);
    Status create_pipeline_cache(const std::string& folder);

    VulkanInstance& instance_;
    VkPhysicalDevice physical_device_ = VK_NULL_HANDLE;
    Capabilities capabilities_;
    std::vector<std::string> warnings_;
    VkDevice device_ = VK_NULL_HANDLE;
    VolkDeviceTable vk_ = {};
    VmaAllocator vma_ = VK_NULL_HANDLE;
    VkSemaphore timeline_ = VK_NULL_HANDLE;
    VkPipelineCache pipeline_cache_ = VK_NULL_HANDLE;
    std::string cache_folder_, cache_path_;
    std::size_t cached_bytes_ = 0;  // of what lies on disk

    std::mutex queue_mutex_;  // queue_ and submitted_
    VkQueue queue_ = VK_NULL_HANDLE;
    std::uint64_t submitted_ = 0;
};

/// A command pool with one command buffer: recorded once, submitted any number of times, one after
/// the other. Used by one thread at a time; its device must outlive it.
class Commands {
public:
    /// Errors: out_of_memory.
    static Result<Commands> create(VulkanDevice& device);
    Commands(Commands&& other) noexcept;
    Commands& operator=(Commands&& other) noexcept;
    ~Commands();

    VkCommandBuffer handle() const { return buffer_; }
    /// Begins anew; what was recorded before is gone. It must not be in flight. `overlapping`: it
    /// may be submitted again before it has finished.
    Status begin(bool overlapping = false);
    /// Ends the recording with a barrier that shows all that was written to the CPU and to later
    /// submissions.
    Status end();

private:
    explicit Commands(VulkanDevice& device) : device_(&device) {}
    VulkanDevice* device_;
    VkCommandPool pool_ = VK_NULL_HANDLE;
    VkCommandBuffer buffer_ = VK_NULL_HANDLE;
};

/// Between two dispatches or copies: the second sees what the first wrote.
void memory_barrier(const VulkanDevice& device, VkCommandBuffer commands);

/// The same between two dispatches only, which costs some devices less.
void shader_barrier(const VulkanDevice& device, VkCommandBuffer commands);

}  // namespace unicorn::backends::vulkan
