#pragma once
// One VkBuffer with its own memory in one tier.

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/vulkan/vulkan_device.h"

namespace unicorn::backends::vulkan {

/// Move-only; its device must outlive it.
class VulkanBuffer {
public:
    /// `bytes` > 0 in `tier`; what they hold is undefined. `mapped`: the CPU sees them where the
    /// tier allows (host()).
    /// Errors: out_of_memory, also when the device has no such large buffers.
    static Result<VulkanBuffer> create(VulkanDevice& device, std::size_t bytes,
                                       const TierMemory& tier, bool mapped = true);
    VulkanBuffer(VulkanBuffer&& other) noexcept;
    VulkanBuffer& operator=(VulkanBuffer&& other) noexcept;
    ~VulkanBuffer();

    VkBuffer handle() const { return buffer_; }
    std::uint64_t device_address() const { return address_; }
    std::byte* host() const { return host_; }  // nullptr when not mapped
    std::size_t bytes() const { return bytes_; }

    /// Copies from and to the CPU, at once where the CPU sees the buffer, else through a staging
    /// buffer and the queue. The range lies in the buffer; nothing in flight uses it.
    /// Errors: out_of_memory, device_lost.
    Status upload(std::size_t offset, std::span<const std::byte> from);
    Status download(std::size_t offset, std::span<std::byte> to) const;
    /// Sets all bytes to zero. Errors: out_of_memory, device_lost.
    Status clear();

private:
    explicit VulkanBuffer(VulkanDevice& device) : device_(&device) {}

    VulkanDevice* device_;
    VkBuffer buffer_ = VK_NULL_HANDLE;
    VmaAllocation memory_ = VK_NULL_HANDLE;
    std::uint64_t address_ = 0;
    std::byte* host_ = nullptr;
    std::size_t bytes_ = 0;
};

/// How every buffer of ours is used: by address in shaders, and copied.
inline constexpr VkBufferUsageFlags kBufferUsage =
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
    VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
    VK_BUFFER_USAGE_TRANSFER_DST_BIT;

/// Sets `bytes` (a multiple of 4) from `offset` on to zero, in submissions that are short however
/// slow the memory. Errors: out_of_memory, device_lost.
Status clear_buffer(VulkanDevice& device, VkBuffer buffer, std::size_t offset, std::size_t bytes);

}  // namespace unicorn::backends::vulkan
