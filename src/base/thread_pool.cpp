#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/check.h"
#include "base/cpu_quota.h"
#include "base/spin_wait.h"

namespace unicorn {
namespace {

std::vector<int> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cpus;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
    return cpus;
}

}  // namespace

Range split(std::size_t n, std::size_t index, std::size_t count, std::size_t grain) {
    const std::size_t grains = (n + grain - 1) / grain;
    const auto bound = [&](std::size_t i) { return std::min(n, grains * i / count * grain); };
    return {bound(index), bound(index + 1)};
}

std::size_t available_cpus() {
    std::size_t n = std::max<std::size_t>(1, allowed_cpus().size());
    if (const auto quota = cpu_quota(); quota && *quota < static_cast<double>(n)) {
        n = std::max<std::size_t>(1, static_cast<std::size_t>(*quota));
    }
    return n;
}

ThreadPool::ThreadPool(std::size_t n_threads) {
    UNICORN_CHECK(n_threads >= 1);
    const std::vector<int> cpus = allowed_cpus();
    workers_.reserve(n_threads - 1);
    for (std::size_t index = 1; index < n_threads; ++index) {
        try {
            workers_.emplace_back([this, index] { work(index); });
        } catch (...) {
            stop();
            throw;
        }
        // Worker i on the i-th allowed CPU. The caller stays free to move: it also does other work.
        if (n_threads <= cpus.size()) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpus[index], &set);
            pthread_setaffinity_np(workers_.back().native_handle(), sizeof set, &set);
        }
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
    stop_.store(true, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_erased(Function function, void* context) {
    function_ = function;
    context_ = context;
    running_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    if (!workers_.empty()) epoch_.notify_all();
    Team team(*this, 0);
    function(context, team);
    for (;;) {
        const std::uint32_t left = running_.load(std::memory_order_acquire);
        if (left == 0) return;
        wait_for_change(running_, left);
    }
}

void ThreadPool::work(std::size_t index) {
    Team team(*this, index);
    std::uint32_t seen = 0;
    for (;;) {
        wait_for_change(epoch_, seen);
        ++seen;  // regions never overlap, so epochs are seen one by one
        if (stop_.load(std::memory_order_relaxed)) return;
        function_(context_, team);
        if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
}

void Team::barrier() {
    const std::size_t n = size();
    if (n == 1) return;
    const std::uint32_t generation = pool_.generation_.load(std::memory_order_acquire);
    if (pool_.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n) {
        pool_.arrived_.store(0, std::memory_order_relaxed);
        pool_.generation_.fetch_add(1, std::memory_order_release);
        pool_.generation_.notify_all();
    } else {
        wait_for_change(pool_.generation_, generation);
    }
}

}  // namespace unicorn
