#pragma once
// Where bytes live, and who pays for them: every large allocation draws on one tier's budget.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace unicorn::memory {

/// Kinds of memory a machine has. On an APU, vram and gtt are the same DIMMs.
enum class Tier {
    vram,  // device-local memory of the GPU
    gtt,   // host memory mapped by the GPU
    npu,   // buffers registered with the NPU; DRAM
    host,  // memory that only the CPU uses
    disk,  // a file, mapped or streamed
};

std::string_view name(Tier tier);

/// Bytes. `used` never exceeds `budget`.
struct Usage {
    std::size_t used = 0;
    std::size_t peak = 0;
    std::size_t budget = 0;
};

class TierAllocator;

/// A piece of one tier. Gives its bytes back when destroyed; the allocator must outlive it.
class Allocation {
public:
    Allocation() = default;
    Allocation(TierAllocator& owner, std::byte* host, std::uint64_t device_address,
               std::size_t bytes)
        : owner_(&owner), host_(host), device_address_(device_address), bytes_(bytes) {}
    Allocation(Allocation&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)),
          host_(std::exchange(other.host_, nullptr)),
          device_address_(std::exchange(other.device_address_, 0)),
          bytes_(std::exchange(other.bytes_, 0)) {}
    Allocation& operator=(Allocation&& other) noexcept {
        std::swap(owner_, other.owner_);
        std::swap(host_, other.host_);
        std::swap(device_address_, other.device_address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Allocation();

    std::byte* host() const { return host_; }  // nullptr when the CPU cannot address it
    std::uint64_t device_address() const { return device_address_; }  // 0 when no device can
    std::size_t bytes() const { return bytes_; }

private:
    TierAllocator* owner_ = nullptr;
    std::byte* host_ = nullptr;
    std::uint64_t device_address_ = 0;
    std::size_t bytes_ = 0;
};

/// Hands out one tier's memory and never exceeds its budget.
/// Thread-safe. Called when a plan is applied, never once per token.
class TierAllocator {
public:
    virtual ~TierAllocator() = default;
    virtual Tier tier() const = 0;
    virtual Usage usage() const = 0;
    /// The largest piece that allocate() can give.
    virtual std::size_t max_piece_bytes() const { return SIZE_MAX; }
    /// Takes `bytes` (> 0) aligned to `alignment` bytes (a power of two, at most a page). Fresh
    /// memory reads as zero.
    /// Errors: out_of_memory when used + bytes > budget, or when the system refuses. Nothing is
    /// evicted to make room: moving weights between tiers is the planner's decision.
    virtual Result<Allocation> allocate(std::size_t bytes, std::size_t alignment) = 0;

private:
    friend class Allocation;
    virtual void release(std::byte* host, std::uint64_t device_address, std::size_t bytes) = 0;
};

}  // namespace unicorn::memory
