#pragma once
// Reading pieces of files past the page cache, many at once.
//
// O_DIRECT moves bytes from the disk into our memory without a copy and without pushing other data
// out of the page cache. It wants file offsets, lengths and addresses in whole blocks; a queue
// rounds the range outwards and says where in the buffer the bytes asked for begin.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

namespace unicorn {

inline constexpr std::size_t kReadAlignment = 4096;  // no disk's blocks are larger

/// Bytes a buffer needs for a read of `bytes` at any offset.
constexpr std::size_t read_room(std::size_t bytes) {
    return (bytes + kReadAlignment - 1) / kReadAlignment * kReadAlignment + kReadAlignment;
}

/// Descriptors of mapped files for O_DIRECT.
class DirectFiles {
public:
    /// The files must outlive this. Where a file system has no O_DIRECT, that file's reads go
    /// through the page cache. Errors: io, when a path now names another file than the mapped one.
    static Result<DirectFiles> open(std::span<const MappedFile> files);
    DirectFiles(DirectFiles&& other) noexcept = default;
    DirectFiles& operator=(DirectFiles&&) = delete;
    ~DirectFiles();

    const MappedFile& file(std::size_t index) const { return files_[index]; }
    /// -1 where there is no O_DIRECT.
    int direct_fd(std::size_t index) const { return fds_[index]; }
    /// Whether every file has O_DIRECT.
    bool all_direct() const;

private:
    DirectFiles() = default;
    std::span<const MappedFile> files_;
    std::vector<int> fds_;
};

struct ReadRequest {
    std::size_t file = 0;  // index in the DirectFiles
    std::uint64_t offset = 0;
    std::size_t bytes = 0;        // > 0, inside the file
    std::byte* buffer = nullptr;  // kReadAlignment-aligned, read_room(bytes) long
    std::size_t id = 0;           // below the queue's depth; given back when done
};

struct ReadDone {
    std::size_t id = 0;
    std::span<const std::byte> bytes;  // what was asked for, inside the buffer
    std::size_t cached_bytes = 0;      // of these, read through the page cache after all
};

/// Reads on their way to memory. Used by one thread. Buffers belong to the queue until their read
/// is finished; the destructor waits for those that are not.
class ReadQueue {
public:
    virtual ~ReadQueue() = default;
    /// Returns at once; at most `depth` reads may be on their way. Errors: io.
    virtual Status start(const ReadRequest& request) = 0;
    /// Blocks until one of the started reads is done. Errors: io, naming the file; also when it
    /// ends before the range does. The read that failed counts as finished.
    virtual Result<ReadDone> finish() = 0;
    virtual std::size_t in_flight() const = 0;
};

/// io_uring with up to `depth` reads in flight. `files` must outlive the queue. Errors:
/// unsupported, where the kernel or a container forbids io_uring.
Result<std::unique_ptr<ReadQueue>> open_uring_queue(const DirectFiles& files, std::size_t depth);

/// `depth` threads that each wait for one read. Errors: out_of_memory, when they cannot be started.
Result<std::unique_ptr<ReadQueue>> open_thread_queue(const DirectFiles& files, std::size_t depth);

/// Reads `out.size()` bytes from `offset` on through the page cache. Errors: io, as
/// ReadQueue::finish().
Status read_through_cache(const MappedFile& file, std::uint64_t offset, std::span<std::byte> out);

/// Whether every page of `range`, a part of the file's bytes(), is in the page cache. Asks
/// mincore() where the file is ours; the kernel gives others no answer to that, so there it tries
/// to read single bytes without waiting (RWF_NOWAIT) at both ends and in the middle.
bool in_page_cache(const MappedFile& file, std::span<const std::byte> range);

/// Asks the kernel to forget the file's clean pages; returns the share that it kept.
double drop_from_page_cache(const MappedFile& file);

/// A disk of a given speed: reads take their turn at `bytes_per_s`, and each arrives `latency_s`
/// after its turn. Shared by the queues that read from it. Thread-safe.
class SlowDisk {
public:
    /// `clock` must outlive this.
    SlowDisk(double bytes_per_s, double latency_s, WaitableClock& clock)
        : bytes_per_s_(bytes_per_s), latency_s_(latency_s), clock_(clock) {}

    /// Takes a read of `bytes` in and says when it is done.
    double arrival_s(std::size_t bytes);
    WaitableClock& clock() { return clock_; }

private:
    double bytes_per_s_, latency_s_;
    WaitableClock& clock_;
    std::mutex mutex_;
    double free_at_s_ = 0;
};

/// Hands on what `inner` reads, in the order and at the times of `disk`, which must outlive it.
std::unique_ptr<ReadQueue> slow_down(std::unique_ptr<ReadQueue> inner, SlowDisk& disk);

}  // namespace unicorn
