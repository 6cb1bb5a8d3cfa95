#pragma once
// The CPU as a device: a thread that takes programs from a queue and leads a pool through them.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "base/thread_pool.h"
#include "device/device.h"
#include "kernels/isa.h"
#include "memory/host_allocator.h"

namespace unicorn::backends::cpu {

class CpuDevice final : public device::Device {
public:
    /// `n_threads` >= 1 threads compute; the caller's is not one of them.
    /// `host_budget_bytes` bounds what its allocator hands out.
    /// Errors: unsupported, when UNICORN_ISA asks for something this CPU cannot do; out_of_memory,
    /// when the system starts no more threads.
    static Result<std::unique_ptr<CpuDevice>> open(std::size_t n_threads,
                                                   std::size_t host_budget_bytes);
    ~CpuDevice() override;

    const device::DeviceInfo& info() const override { return info_; }
    memory::Tier main_tier() const override { return memory::Tier::host; }
    memory::TierAllocator* allocator(memory::Tier tier) override;
    memory::TierAllocator& results() override { return host_; }
    bool supports(const device::Step& step) const override;
    device::Placement place(const device::TensorRef& matrix) const override;
    void pack(const device::TensorRef& to, std::size_t first, std::size_t last,
              const std::byte* rows) const override;
    Result<std::unique_ptr<device::Program>> prepare(std::span<const device::Step> steps,
                                                     std::size_t max_rows) override;
    Result<device::Ticket> submit(device::Program& program, const device::Batch& batch,
                                  std::span<const device::Ticket> after) override;
    Status wait(device::Ticket ticket) override;
    /// Waits for what is queued and copies at once.
    Status copy(std::span<const device::Copy> copies) override;
    device::StepSeconds step_seconds() const override { return step_seconds_; }

private:
    struct Item {
        device::Program* program = nullptr;
        device::Batch batch;
        std::array<device::Ticket, 4> after{};
        std::size_t n_after = 0;
    };
    static constexpr std::size_t kQueueSize = 64;

    CpuDevice(kernels::Isa isa, std::size_t n_threads, std::size_t host_budget_bytes);
    std::uint64_t push(const Item& item);
    void lead();

    kernels::Isa isa_;
    ThreadPool pool_;  // led by leader_
    device::DeviceInfo info_;
    memory::HostAllocator host_;
    device::StepSeconds step_seconds_{};  // written by the leader
    std::array<Item, kQueueSize> queue_;
    std::mutex submit_mutex_;
    alignas(64) std::atomic<std::uint64_t> submitted_{0};
    alignas(64) std::atomic<std::uint64_t> completed_{0};
    std::atomic<bool> stop_{false};
    std::thread leader_;
};

}  // namespace unicorn::backends::cpu
