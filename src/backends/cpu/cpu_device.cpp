#include "backends/cpu/cpu_device.h"

#include <fmt/format.h>

#include <cstring>
#include <system_error>

#include "backends/cpu/cpu_program.h"
#include "base/check.h"
#include "base/spin_wait.h"

namespace unicorn::backends::cpu {

Result<std::unique_ptr<CpuDevice>> CpuDevice::open(std::size_t n_threads,
                                                   std::size_t host_budget_bytes) {
    const Result<kernels::Isa> isa = kernels::choose_isa();
    if (!isa) return tl::unexpected(isa.error());
    try {
        return std::unique_ptr<CpuDevice>(new CpuDevice(*isa, n_threads, host_budget_bytes));
    } catch (const std::system_error& error) {
        return fail(ErrorCode::out_of_memory, "cannot start {} threads: {}", n_threads,
                    error.what());
    }
}

CpuDevice::CpuDevice(kernels::Isa isa, std::size_t n_threads, std::size_t host_budget_bytes)
    : isa_(isa), pool_(n_threads), host_(host_budget_bytes) {
    info_.name = fmt::format("cpu, {} thread{}, {}", n_threads, n_threads == 1 ? "" : "s",
                             kernels::name(isa));
    leader_ = std::thread([this] { lead(); });
}

CpuDevice::~CpuDevice() {
    stop_ = true;
    submitted_.fetch_add(1, std::memory_order_release);
    submitted_.notify_all();
    leader_.join();
}

memory::TierAllocator* CpuDevice::allocator(memory::Tier tier) {
    return tier == memory::Tier::host ? &host_ : nullptr;
}

bool CpuDevice::supports(const device::Step& step) const { return CpuProgram::supports(step); }

Result<std::unique_ptr<device::Program>> CpuDevice::prepare(std::span<const device::Step> steps,
                                                            std::size_t max_rows) {
    auto program = CpuProgram::create(steps, max_rows, isa_, pool_.size(), host_);
    if (!program) return forward(program);
    return std::unique_ptr<device::Program>(std::move(*program));
}

Result<device::Ticket> CpuDevice::submit(device::Program& program, const device::Batch& batch,
                                         std::span<const device::Ticket> after) {
    Item item;
    item.program = &program;
    item.batch = batch;
    for (const device::Ticket& ticket : after) {
        if (ticket.device == nullptr || ticket.device == this)
            continue;  // finished, or queued before
        UNICORN_CHECK(item.n_after < item.after.size());
        item.after[item.n_after++] = ticket;
    }
    return device::Ticket{this, push(item)};
}

Status CpuDevice::wait(device::Ticket ticket) {
    UNICORN_CHECK(ticket.device == this || ticket.device == nullptr);
    for (std::uint64_t done = completed_.load(std::memory_order_acquire); done < ticket.value;) {
        done = wait_for_change(completed_, done);
    }
    return {};
}

Status CpuDevice::copy(std::span<const device::Copy> copies) {
    if (auto status = wait({this, submitted_.load(std::memory_order_relaxed)}); !status)
        return status;
    for (const device::Copy& c : copies)
        std::memcpy(c.matrix.host + c.to, c.matrix.host + c.from, c.bytes);
    return {};
}

std::uint64_t CpuDevice::push(const Item& item) {
    const std::scoped_lock lock(submit_mutex_);
    const std::uint64_t index = submitted_.load(std::memory_order_relaxed);
    // A full queue means that the oldest of kQueueSize programs is still running: wait for it.
    for (std::uint64_t done = completed_.load(std::memory_order_acquire);
         index - done >= kQueueSize;) {
        done = wait_for_change(completed_, done);
    }
    queue_[index % kQueueSize] = item;
    submitted_.store(index + 1, std::memory_order_release);
    submitted_.notify_one();
    return index + 1;
}

void CpuDevice::lead() {
    for (std::uint64_t done = 0;; ++done) {
        while (submitted_.load(std::memory_order_acquire) == done)
            wait_for_change(submitted_, done);
        if (stop_) return;
        Item& item = queue_[done % kQueueSize];
        // A lost device leaves nothing to compute on, and its own wait() tells its user so.
        for (std::size_t i = 0; i < item.n_after; ++i) {
            static_cast<void>(item.after[i].device->wait(item.after[i]));
        }
        auto& program = static_cast<CpuProgram&>(*item.program);
        program.begin(item.batch);
        pool_.run([&](Team& team) { program.run(team, item.batch, step_seconds_); });
        completed_.store(done + 1, std::memory_order_release);
        completed_.notify_all();
    }
}

}  // namespace unicorn::backends::cpu
