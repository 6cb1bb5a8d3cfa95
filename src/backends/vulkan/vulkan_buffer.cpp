#include "backends/vulkan/vulkan_buffer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"
#include "base/progress.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;
constexpr std::size_t kClearBytes = std::size_t{1} << 30;  // 0.1 s at 10 GB/s; the ring has 2 s

/// Staging: through `tier`, piece by piece, with `move` between each piece and the staging buffer.
template <typename Move>
Status through_staging(VulkanDevice& device, std::size_t n_bytes, Move&& move) {
    auto staging = VulkanBuffer::create(device, std::min(n_bytes, kStagingBytes),
                                        *device.capabilities().tier(memory::Tier::gtt));
    if (!staging) return forward(staging);
    UNICORN_CHECK(staging->host() != nullptr);
    for (std::size_t done = 0; done < n_bytes; done += kStagingBytes) {
        const std::size_t n = std::min(n_bytes - done, kStagingBytes);
        if (auto s = move(*staging, done, n); !s) return s;
    }
    return {};
}

Status copy(VulkanDevice& device, VkBuffer from, std::size_t from_offset, VkBuffer to,
            std::size_t to_offset, std::size_t n) {
    return device.run([&](VkCommandBuffer commands) {
        const VkBufferCopy region = {.srcOffset = from_offset, .dstOffset = to_offset, .size = n};
        device.vk().vkCmdCopyBuffer(commands, from, to, 1, &region);
    });
}

}  // namespace

Result<VulkanBuffer> VulkanBuffer::create(VulkanDevice& device, std::size_t bytes,
                                          const TierMemory& tier, bool mapped) {
    UNICORN_CHECK(bytes > 0);
    const Capabilities& c = device.capabilities();
    const std::uint64_t most = std::min(c.max_allocation_bytes, c.max_buffer_bytes);
    if (bytes > most) {
        return fail(ErrorCode::out_of_memory, "{}: {} of {} in one piece, at most {}",
                    device.name(), human_bytes(static_cast<double>(bytes)), memory::name(tier.tier),
                    human_bytes(static_cast<double>(most)));
    }
    VulkanBuffer self(device);
    self.bytes_ = bytes;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
    info.size = bytes;
    info.usage = kBufferUsage;
    VmaAllocationCreateInfo memory = {};
    memory.flags = VMA_ALLOCATION_CREATE_DEDICATED_MEMORY_BIT |
                   (mapped && tier.host_visible ? VMA_ALLOCATION_CREATE_MAPPED_BIT : 0);
    memory.memoryTypeBits = 1U << tier.type_index;
    VmaAllocationInfo placed = {};
    if (const VkResult r =
            vmaCreateBuffer(device.vma(), &info, &memory, &self.buffer_, &self.memory_, &placed);
        r != VK_SUCCESS) {
        self.buffer_ = VK_NULL_HANDLE;
        self.memory_ = VK_NULL_HANDLE;
        return failed(
            r, fmt::format("{}: {} of {}", device.name(), human_bytes(static_cast<double>(bytes)),
                           memory::name(tier.tier)));
    }
    if (mapped && tier.host_visible) self.host_ = static_cast<std::byte*>(placed.pMappedData);
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
    address.buffer = self.buffer_;
    self.address_ = device.vk().vkGetBufferDeviceAddress(device.handle(), &address);
    return self;
}

VulkanBuffer::VulkanBuffer(VulkanBuffer&& other) noexcept
    : device_(other.device_),
      buffer_(std::exchange(other.buffer_, VK_NULL_HANDLE)),
      memory_(std::exchange(other.memory_, VK_NULL_HANDLE)),
      address_(std::exchange(other.address_, 0)),
      host_(std::exchange(other.host_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

VulkanBuffer& VulkanBuffer::operator=(VulkanBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(buffer_, other.buffer_);
    std::swap(memory_, other.memory_);
    std::swap(address_, other.address_);
    std::swap(host_, other.host_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

VulkanBuffer::~VulkanBuffer() {
    if (buffer_ != VK_NULL_HANDLE) vmaDestroyBuffer(device_->vma(), buffer_, memory_);
}

Status VulkanBuffer::upload(std::size_t offset, std::span<const std::byte> from) {
    UNICORN_CHECK(offset <= bytes_ && from.size() <= bytes_ - offset);
    if (from.empty()) return {};
    if (host_ != nullptr) {
        std::memcpy(host_ + offset, from.data(), from.size());
        return {};
    }
    return through_staging(
        *device_, from.size(), [&](const VulkanBuffer& staging, std::size_t done, std::size_t n) {
            std::memcpy(staging.host(), from.data() + done, n);
            return copy(*device_, staging.handle(), 0, buffer_, offset + done, n);
        });
}

Status VulkanBuffer::download(std::size_t offset, std::span<std::byte> to) const {
    UNICORN_CHECK(offset <= bytes_ && to.size() <= bytes_ - offset);
    if (to.empty()) return {};
    if (host_ != nullptr) {
        std::memcpy(to.data(), host_ + offset, to.size());
        return {};
    }
    return through_staging(
        *device_, to.size(), [&](const VulkanBuffer& staging, std::size_t done, std::size_t n) {
            auto s = copy(*device_, buffer_, offset + done, staging.handle(), 0, n);
            if (s) std::memcpy(to.data() + done, staging.host(), n);
            return s;
        });
}

Status VulkanBuffer::clear() {
    const std::size_t whole = bytes_ / 4 * 4;
    if (auto s = clear_buffer(*device_, buffer_, 0, whole); !s) return s;
    const std::byte zeros[4] = {};
    return upload(whole, std::span(zeros).first(bytes_ - whole));
}

Status clear_buffer(VulkanDevice& device, VkBuffer buffer, std::size_t offset, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += kClearBytes) {
        const std::size_t n = std::min(bytes - done, kClearBytes);
        auto s = device.run([&](VkCommandBuffer commands) {
            device.vk().vkCmdFillBuffer(commands, buffer, offset + done, n, 0);
        });
        if (!s) return s;
    }
    return {};
}

}  // namespace unicorn::backends::vulkan
