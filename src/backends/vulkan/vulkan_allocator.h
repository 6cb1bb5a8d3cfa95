#pragma once
// A tier of a Vulkan device as an allocator: a handful of big buffers, cut into pieces.

#include <map>
#include <mutex>

#include "backends/vulkan/vulkan_buffer.h"
#include "memory/allocator.h"

namespace unicorn::backends::vulkan {

/// Where an address lies, for copies and fills.
struct BufferPlace {
    VkBuffer buffer = VK_NULL_HANDLE;
    std::size_t offset = 0;
};

/// Takes memory from the device in arenas of 256 MiB, or of one piece where that is larger, and
/// gives an arena back when its last piece is. `used` counts pieces, not arenas. One piece is at
/// most as large as the device's largest buffer.
class VulkanAllocator final : public memory::TierAllocator {
public:
    /// `tier` is one of the device's (Capabilities::tier); the device must outlive this.
    VulkanAllocator(VulkanDevice& device, const TierMemory& tier, std::size_t budget_bytes);
    ~VulkanAllocator() override;

    memory::Tier tier() const override { return tier_.tier; }
    memory::Usage usage() const override;
    std::size_t max_piece_bytes() const override;
    /// A piece has a device address, and a host address where the CPU maps the tier.
    Result<memory::Allocation> allocate(std::size_t bytes, std::size_t alignment) override;

    /// The buffer behind `device_address`, which lies in a piece handed out here.
    BufferPlace place(std::uint64_t device_address) const;
    std::size_t n_arenas() const;

private:
    struct Arena {
        VulkanBuffer buffer;
        VmaVirtualBlock pieces = VK_NULL_HANDLE;
        std::map<std::uint64_t, VmaVirtualAllocation> by_offset = {};
    };
    using Arenas = std::map<std::uint64_t, Arena>;  // by device address

    void release(std::byte* host, std::uint64_t device_address, std::size_t bytes) override;
    Result<memory::Allocation> place_piece(std::size_t bytes, std::size_t alignment);
    Result<Arenas::iterator> add_arena(std::size_t bytes);
    void drop_if_empty(Arenas::iterator arena);
    Arenas::const_iterator find(std::uint64_t device_address) const;

    VulkanDevice& device_;
    TierMemory tier_;
    mutable std::mutex mutex_;  // all below
    memory::Usage usage_;
    Arenas arenas_;
};

}  // namespace unicorn::backends::vulkan
