#pragma once
// What happens when a mapped page cannot be read: the file was cut off, or its disk failed. The
// kernel then sends SIGBUS to whoever touched the page, which would end the process in the middle
// of a kernel. The guard puts zero pages there instead and remembers the first byte that is gone;
// the file's owner asks broken() before it trusts what was computed.

#include <atomic>
#include <cstddef>
#include <limits>
#include <span>

namespace unicorn {

/// One mapping under guard. Move-only; the mapping must be unmapped after the guard is gone. The
/// first guard installs the handler of SIGBUS; faults elsewhere go on to the handler before it.
class FaultGuard {
public:
    FaultGuard() = default;
    explicit FaultGuard(std::span<const std::byte> mapping);
    FaultGuard(FaultGuard&& other) noexcept;
    FaultGuard& operator=(FaultGuard&& other) noexcept;
    ~FaultGuard();

    /// Whether some page of the mapping could not be read; from then on it and all that follow it
    /// read as zeros.
    bool broken() const { return first_lost_byte() != kNone; }
    /// Where that page begins, from the start of the mapping; kNone when none is lost.
    std::size_t first_lost_byte() const;

    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

private:
    struct Entry;
    static void handle(int signal, void* info, void* context);
    Entry* entry_ = nullptr;
};

}  // namespace unicorn
