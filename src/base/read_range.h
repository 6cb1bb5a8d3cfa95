#pragma once
// For the queues of read_queue.h: ranges in whole blocks, and how a read ends.

#include "base/read_queue.h"

namespace unicorn {

/// A request rounded outwards to whole blocks. The last block of a file may reach past its end.
struct AlignedRange {
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    std::size_t skip = 0;  // from the buffer's start to the first byte asked for
};

constexpr AlignedRange aligned(const ReadRequest& request) {
    const std::uint64_t first = request.offset / kReadAlignment * kReadAlignment;
    const std::uint64_t end =
        (request.offset + request.bytes + kReadAlignment - 1) / kReadAlignment * kReadAlignment;
    return {first, static_cast<std::size_t>(end - first),
            static_cast<std::size_t>(request.offset - first)};
}

/// What a direct read that returned `got` (bytes, or negative) amounts to: what is missing is read
/// through the page cache. Errors: io.
Result<ReadDone> complete_read(const DirectFiles& files, const ReadRequest& request, ssize_t got);

}  // namespace unicorn
