#include "backends/vulkan/vulkan_allocator.h"

#include <algorithm>
#include <iterator>

#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"
#include "base/progress.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{256} << 20;
constexpr std::size_t kGrain = 256;  // pieces begin and end at cache lines of every GPU
constexpr std::size_t kPage = 4096;  // the largest alignment that a caller may ask for

std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

VulkanAllocator::VulkanAllocator(VulkanDevice& device, const TierMemory& tier,
                                 std::size_t budget_bytes)
    : device_(device), tier_(tier) {
    usage_.budget = budget_bytes;
}

VulkanAllocator::~VulkanAllocator() { UNICORN_CHECK(arenas_.empty()); }

memory::Usage VulkanAllocator::usage() const {
    const std::scoped_lock lock(mutex_);
    return usage_;
}

std::size_t VulkanAllocator::max_piece_bytes() const {
    const Capabilities& c = device_.capabilities();
    return std::min<std::uint64_t>(c.max_allocation_bytes, c.max_buffer_bytes) / kPage * kPage;
}

std::size_t VulkanAllocator::n_arenas() const {
    const std::scoped_lock lock(mutex_);
    return arenas_.size();
}

Result<memory::Allocation> VulkanAllocator::allocate(std::size_t bytes, std::size_t alignment) {
    UNICORN_CHECK(bytes > 0);
    UNICORN_CHECK(alignment <= kPage);
    const std::scoped_lock lock(mutex_);
    if (bytes > usage_.budget - usage_.used) {
        return fail(ErrorCode::out_of_memory, "{} of {}: {} wanted, {} of {} used",
                    memory::name(tier_.tier), device_.name(),
                    human_bytes(static_cast<double>(bytes)),
                    human_bytes(static_cast<double>(usage_.used)),
                    human_bytes(static_cast<double>(usage_.budget)));
    }
    auto piece = place_piece(bytes, std::max(alignment, kGrain));
    if (!piece) return piece;
    usage_.used += bytes;
    usage_.peak = std::max(usage_.peak, usage_.used);
    return piece;
}

// With mutex_ held.
Result<memory::Allocation> VulkanAllocator::place_piece(std::size_t bytes, std::size_t alignment) {
    const std::size_t rounded = round_up(bytes, kGrain);
    VmaVirtualAllocationCreateInfo info = {};
    info.size = rounded;
    info.alignment = alignment;
    VmaVirtualAllocation piece = VK_NULL_HANDLE;
    VkDeviceSize offset = 0;
    auto arena = arenas_.begin();
    for (; arena != arenas_.end(); ++arena) {
        if (vmaVirtualAllocate(arena->second.pieces, &info, &piece, &offset) == VK_SUCCESS) break;
    }
    if (arena == arenas_.end()) {
        auto added = add_arena(rounded);
        if (!added) return forward(added);
        arena = *added;
        if (const VkResult r = vmaVirtualAllocate(arena->second.pieces, &info, &piece, &offset);
            r != VK_SUCCESS) {
            drop_if_empty(arena);
            return failed(r, fmt::format("{}: a piece of a new arena", device_.name()));
        }
    }
    VulkanBuffer& buffer = arena->second.buffer;
    if (auto cleared = clear_buffer(device_, buffer.handle(), offset, rounded); !cleared) {
        vmaVirtualFree(arena->second.pieces, piece);
        drop_if_empty(arena);
        return forward(cleared);
    }
    arena->second.by_offset.emplace(offset, piece);
    return memory::Allocation(*this, buffer.host() == nullptr ? nullptr : buffer.host() + offset,
                              buffer.device_address() + offset, bytes);
}

// With mutex_ held.
Result<VulkanAllocator::Arenas::iterator> VulkanAllocator::add_arena(std::size_t bytes) {
    const Capabilities& c = device_.capabilities();
    const std::size_t most =
        std::min<std::uint64_t>(c.max_allocation_bytes, c.max_buffer_bytes) / kGrain * kGrain;
    // A budget smaller than an arena must not take more from the machine than it may use.
    const std::size_t least = round_up(bytes, kPage);
    const std::size_t wanted = std::clamp(round_up(usage_.budget - usage_.used, kPage), least,
                                          std::max(least, kArenaBytes));
    auto buffer = VulkanBuffer::create(device_, std::max(bytes, std::min(wanted, most)), tier_);
    if (!buffer) return forward(buffer);
    UNICORN_CHECK(buffer->device_address() % kGrain == 0);
    VmaVirtualBlockCreateInfo info = {};
    info.size = buffer->bytes();
    VmaVirtualBlock pieces = VK_NULL_HANDLE;
    if (const VkResult r = vmaCreateVirtualBlock(&info, &pieces); r != VK_SUCCESS)
        return failed(r, "vmaCreateVirtualBlock");
    const std::uint64_t address = buffer->device_address();
    return arenas_.emplace(address, Arena{.buffer = std::move(*buffer), .pieces = pieces}).first;
}

// With mutex_ held.
void VulkanAllocator::drop_if_empty(Arenas::iterator arena) {
    if (vmaIsVirtualBlockEmpty(arena->second.pieces) != VK_TRUE) return;
    vmaDestroyVirtualBlock(arena->second.pieces);
    arenas_.erase(arena);
}

// With mutex_ held.
VulkanAllocator::Arenas::const_iterator VulkanAllocator::find(std::uint64_t device_address) const {
    const auto after = arenas_.upper_bound(device_address);
    UNICORN_CHECK(after != arenas_.begin());
    const auto arena = std::prev(after);
    UNICORN_CHECK(device_address - arena->first < arena->second.buffer.bytes());
    return arena;
}

BufferPlace VulkanAllocator::place(std::uint64_t device_address) const {
    const std::scoped_lock lock(mutex_);
    const auto arena = find(device_address);
    return {.buffer = arena->second.buffer.handle(),
            .offset = static_cast<std::size_t>(device_address - arena->first)};
}

void VulkanAllocator::release(std::byte* /*host*/, std::uint64_t device_address,
                              std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const auto arena = arenas_.find(find(device_address)->first);
    const auto piece = arena->second.by_offset.find(device_address - arena->first);
    UNICORN_CHECK(piece != arena->second.by_offset.end());
    vmaVirtualFree(arena->second.pieces, piece->second);
    arena->second.by_offset.erase(piece);
    drop_if_empty(arena);
    usage_.used -= bytes;
}

}  // namespace unicorn::backends::vulkan
