#pragma once
// Time between two points of a command buffer, by the GPU's clock.

#include <cstdint>
#include <utility>

#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_error.h"

namespace unicorn::backends::vulkan {

/// Two timestamps. Move-only; empty where the queue has no clock.
class Stopwatch {
public:
    static Result<Stopwatch> create(VulkanDevice& device) {
        Stopwatch self(device);
        if (device.capabilities().timestamp_bits == 0) return self;
        VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
        info.queryType = VK_QUERY_TYPE_TIMESTAMP;
        info.queryCount = 2;
        if (const VkResult r =
                device.vk().vkCreateQueryPool(device.handle(), &info, nullptr, &self.pool_);
            r != VK_SUCCESS)
            return failed(r, fmt::format("{}: vkCreateQueryPool", device.name()));
        return self;
    }
    Stopwatch(Stopwatch&& other) noexcept
        : device_(other.device_), pool_(std::exchange(other.pool_, VK_NULL_HANDLE)) {}
    Stopwatch& operator=(Stopwatch&&) = delete;
    ~Stopwatch() { device_->vk().vkDestroyQueryPool(device_->handle(), pool_, nullptr); }

    bool has_clock() const { return pool_ != VK_NULL_HANDLE; }
    void start(VkCommandBuffer commands) const {
        if (!has_clock()) return;
        device_->vk().vkCmdResetQueryPool(commands, pool_, 0, 2);
        device_->vk().vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, pool_,
                                           0);
    }
    void stop(VkCommandBuffer commands) const {
        if (!has_clock()) return;
        device_->vk().vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, pool_,
                                           1);
    }
    /// Of the last submission, which has been waited for. Errors: device_lost.
    Result<double> seconds() const {
        std::uint64_t ticks[2] = {};
        if (const VkResult r = device_->vk().vkGetQueryPoolResults(
                device_->handle(), pool_, 0, 2, sizeof(ticks), ticks, sizeof(ticks[0]),
                VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
            r != VK_SUCCESS)
            return failed(r, fmt::format("{}: vkGetQueryPoolResults", device_->name()));
        const std::uint32_t bits = device_->capabilities().timestamp_bits;
        const std::uint64_t mask = bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
        return static_cast<double>((ticks[1] - ticks[0]) & mask) *
               device_->capabilities().timestamp_period_ns * 1e-9;
    }

private:
    explicit Stopwatch(VulkanDevice& device) : device_(&device) {}
    VulkanDevice* device_;
    VkQueryPool pool_ = VK_NULL_HANDLE;
};

}  // namespace unicorn::backends::vulkan
