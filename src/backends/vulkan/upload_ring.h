#pragma once
// Bytes made by many threads, on their way to memory that the CPU does not see.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/vulkan/vulkan_allocator.h"
#include "backends/vulkan/vulkan_buffer.h"

namespace unicorn::backends::vulkan {

/// A few staging buffers, used in turn: while one is copied, others are filled. Thread-safe; the
/// device must outlive it.
class UploadRing {
public:
    /// `tier`: mapped memory for the buffers, which are made when first needed.
    UploadRing(VulkanDevice& device, const TierMemory& tier) : device_(device), tier_(tier) {}
    /// Waits for the copies.
    ~UploadRing();

    /// Calls fill() with `bytes` of staging memory and queues their copy to `to`; what is submitted
    /// afterwards sees them there. Errors: out_of_memory, device_lost.
    Status upload(BufferPlace to, std::size_t bytes, const std::function<void(std::byte*)>& fill);

private:
    struct Slot {
        VulkanBuffer staging;
        Commands commands;
        std::uint64_t last = 0;  // submission that copies from it
    };
    Result<std::unique_ptr<Slot>> take(std::size_t bytes);

    VulkanDevice& device_;
    TierMemory tier_;
    std::mutex mutex_;  // all below
    std::condition_variable given_back_;
    std::vector<std::unique_ptr<Slot>> free_;  // used longest ago first
    std::size_t n_slots_ = 0;
    std::uint64_t last_ = 0;
};

}  // namespace unicorn::backends::vulkan
