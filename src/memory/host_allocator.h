#pragma once

#include <mutex>

#include "memory/allocator.h"

namespace unicorn::memory {

/// Anonymous pages of the host, page-aligned and zeroed; large ones ask for transparent huge pages.
class HostAllocator final : public TierAllocator {
public:
    explicit HostAllocator(std::size_t budget_bytes) { usage_.budget = budget_bytes; }

    Tier tier() const override { return Tier::host; }
    Usage usage() const override;
    Result<Allocation> allocate(std::size_t bytes, std::size_t alignment) override;

private:
    void release(std::byte* host, std::uint64_t device_address, std::size_t bytes) override;

    mutable std::mutex mutex_;
    Usage usage_;
};

/// Bytes of anonymous memory that this process has resident; what files it has mapped is not
/// counted. 0 where the kernel does not say.
std::size_t resident_anonymous_bytes();

/// Bytes that new allocations can have without swapping, as the kernel estimates (MemAvailable),
/// or all physical memory where the kernel does not say.
std::size_t available_memory_bytes();

}  // namespace unicorn::memory
