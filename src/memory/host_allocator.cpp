#include "memory/host_allocator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "base/check.h"
#include "base/progress.h"

namespace unicorn::memory {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;  // x86-64

}  // namespace

Usage HostAllocator::usage() const {
    const std::scoped_lock lock(mutex_);
    return usage_;
}

Result<Allocation> HostAllocator::allocate(std::size_t bytes, std::size_t alignment) {
    UNICORN_CHECK(bytes > 0);
    UNICORN_CHECK(alignment <= static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
    {
        const std::scoped_lock lock(mutex_);
        if (bytes > usage_.budget - usage_.used) {
            return fail(ErrorCode::out_of_memory, "host memory: {} wanted, {} of {} used",
                        human_bytes(static_cast<double>(bytes)),
                        human_bytes(static_cast<double>(usage_.used)),
                        human_bytes(static_cast<double>(usage_.budget)));
        }
        usage_.used += bytes;
        usage_.peak = std::max(usage_.peak, usage_.used);
    }
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        const int code = errno;
        const std::scoped_lock lock(mutex_);
        usage_.used -= bytes;
        return fail(ErrorCode::out_of_memory, "host memory: cannot map {}: {}",
                    human_bytes(static_cast<double>(bytes)), std::strerror(code));
    }
    // Weights are read front to back for every token: 512 times fewer TLB misses with huge pages.
    if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
    return Allocation(*this, static_cast<std::byte*>(data), 0, bytes);
}

void HostAllocator::release(std::byte* host, std::uint64_t /*device_address*/, std::size_t bytes) {
    munmap(host, bytes);
    const std::scoped_lock lock(mutex_);
    usage_.used -= bytes;
}

std::size_t resident_anonymous_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) * 1024;
    }
    return 0;
}

std::size_t available_memory_bytes() {
    std::ifstream meminfo("/proc/meminfo");
    std::string key, unit;
    std::size_t kib = 0;
    while (meminfo >> key >> kib && std::getline(meminfo, unit)) {
        if (key == "MemAvailable:") return kib * 1024;
    }
    return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
           static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace unicorn::memory
