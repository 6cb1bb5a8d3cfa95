#pragma once
// The threads that kernels run on. A region lasts microseconds, so workers spin briefly before
// they park, and steps inside a region meet at a spinning barrier.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace unicorn {

/// What a thread knows inside a region: who it is, and how to meet the others.
class Team;

/// Half-open range of items for one thread.
struct Range {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t size() const { return end - begin; }
};

/// The part of `n` items that thread `index` of `count` works on: sizes differ by at most one
/// `grain`, and every boundary but the last is a multiple of `grain`.
Range split(std::size_t n, std::size_t index, std::size_t count, std::size_t grain = 1);

/// A fixed team of threads that all run the same function. The caller is thread 0.
class ThreadPool {
public:
    /// `n_threads` >= 1, the caller included; workers are pinned to distinct allowed CPUs when
    /// there are at least as many of those as threads. Throws std::system_error when the system
    /// starts no more threads.
    explicit ThreadPool(std::size_t n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    std::size_t size() const { return workers_.size() + 1; }

    /// Runs `job(team)` on every thread and returns when all have returned. Allocates nothing.
    /// One region at a time: not to be called from two threads or from inside a region.
    template <typename Job>
    void run(Job&& job) {
        run_erased([](void* context,
                      Team& team) { (*static_cast<std::remove_reference_t<Job>*>(context))(team); },
                   const_cast<void*>(static_cast<const void*>(&job)));
    }

private:
    friend class Team;
    using Function = void (*)(void*, Team&);

    void run_erased(Function function, void* context);
    void work(std::size_t index);
    void stop();

    Function function_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<std::uint32_t> epoch_{0};       // one step for each region
    alignas(64) std::atomic<std::uint32_t> running_{0};     // workers still inside the region
    alignas(64) std::atomic<std::uint32_t> arrived_{0};     // threads waiting at the barrier
    alignas(64) std::atomic<std::uint32_t> generation_{0};  // barriers passed
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

class Team {
public:
    Team(ThreadPool& pool, std::size_t index) : pool_(pool), index_(index) {}

    std::size_t index() const { return index_; }
    std::size_t size() const { return pool_.size(); }
    Range split(std::size_t n, std::size_t grain = 1) const {
        return unicorn::split(n, index_, size(), grain);
    }
    /// Waits until every thread of the team has arrived; what they wrote before is visible after.
    void barrier();

private:
    ThreadPool& pool_;
    std::size_t index_;
};

/// The CPUs this process may run on, capped by cpu_quota() rounded down; at least 1.
std::size_t available_cpus();

}  // namespace unicorn
