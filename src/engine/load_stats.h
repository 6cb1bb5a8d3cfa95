#pragma once
// What loading and streaming did, in numbers for people.

#include <cstddef>
#include <cstdint>

namespace unicorn::engine {

/// What reading weights did.
struct ReadStats {
    std::uint64_t direct_bytes = 0;  // past the page cache
    std::uint64_t cached_bytes = 0;  // through it
    std::uint64_t packed_bytes = 0;  // of the file
    double pack_cpu_s = 0;           // CPU time of packing those, over all threads
    bool uring = false;              // whether io_uring read

    void add(const ReadStats& other) {
        direct_bytes += other.direct_bytes;
        cached_bytes += other.cached_bytes;
        packed_bytes += other.packed_bytes;
        pack_cpu_s += other.pack_cpu_s;
        uring = uring || other.uring;
    }
};

/// How weights got to where they are.
struct LoadReport {
    double seconds = 0;  // reading and packing
    ReadStats reads;
    std::uint64_t mapped_bytes = 0;  // used as they lie in the file
    std::size_t peak_bytes = 0;      // of weights, mapped ones too, and buffers for reading
};

/// What streaming cost.
struct StreamStats {
    std::uint64_t hits = 0;        // uses of a layer that was kept
    std::uint64_t misses = 0;      // uses of a layer that had to be read again
    std::uint64_t stalls = 0;      // misses whose layer was not there yet when it was wanted
    double stall_s = 0;            // waited for those
    std::uint64_t read_bytes = 0;  // from the disk
};

/// Layers that do not stay in memory.
struct StreamReport {
    std::size_t layers = 0;  // streamed ones
    std::size_t pinned = 0;
    std::size_t buffers = 0;
    std::uint64_t bytes_per_pass = 0;  // read from the disk
    StreamStats stats;                 // so far
};

}  // namespace unicorn::engine
