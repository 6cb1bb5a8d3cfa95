#pragma once
// How fast this machine reads its memory: the yardstick of every decode speed.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.h"

namespace unicorn::memory {

/// A buffer to read, larger than the caches, each thread's part first touched by that thread.
class ReadBandwidth {
public:
    /// `pool` must outlive this. `bytes` 0: four times the last cache, at least 256 MiB and at
    /// most 1 GiB.
    explicit ReadBandwidth(ThreadPool& pool, std::size_t bytes = 0);

    /// GB/s (1e9 bytes) of reading the whole buffer once with every thread of the pool; the best
    /// of `passes` such reads.
    double measure_gb_per_s(int passes = 3);

    std::size_t bytes() const { return n_words_ * sizeof(std::uint64_t); }

private:
    struct Free {
        void operator()(void* p) const noexcept;
    };

    ThreadPool& pool_;
    std::size_t n_words_;
    std::unique_ptr<std::uint64_t[], Free> words_;  // left untouched until its thread comes
    std::vector<std::uint64_t> sums_;  // one a thread, so that the reads are not optimised away
};

}  // namespace unicorn::memory
