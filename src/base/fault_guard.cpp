#include "base/fault_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <mutex>
#include <utility>

namespace unicorn {

/// Read by the signal handler at any moment: atomics only, linked once and never freed. `size` is 0
/// while the entry is not in use.
struct FaultGuard::Entry {
    std::atomic<std::uintptr_t> begin{0};
    std::atomic<std::size_t> size{0};
    std::atomic<std::size_t> lost{kNone};
    Entry* next = nullptr;
};

namespace {

struct sigaction previous_action;
std::uintptr_t page_bytes = 4096;

}  // namespace

// The list of all entries. Only grows; its entries are used again.
static std::atomic<void*> first_entry{nullptr};
static std::mutex list_mutex;

void FaultGuard::handle(int signal, void* info_pointer, void* context) {
    const int saved_errno = errno;
    auto* info = static_cast<siginfo_t*>(info_pointer);
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    for (auto* e = static_cast<Entry*>(first_entry.load(std::memory_order_acquire)); e != nullptr;
         e = e->next) {
        const std::size_t size = e->size.load(std::memory_order_acquire);
        const std::uintptr_t begin = e->begin.load(std::memory_order_relaxed);
        if (address < begin || address - begin >= size) continue;
        // To the mapping's end: a file that was cut off has nothing behind this page either, and a
        // fault for each page of gigabytes would take minutes.
        const std::uintptr_t page = address / page_bytes * page_bytes;
        if (mmap(reinterpret_cast<void*>(page), begin + size - page, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
            break;
        }
        std::size_t lost = e->lost.load(std::memory_order_relaxed);
        while (page - begin < lost &&
               !e->lost.compare_exchange_weak(lost, page - begin, std::memory_order_release)) {
        }
        errno = saved_errno;
        return;
    }
    errno = saved_errno;
    if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
        return previous_action.sa_sigaction(signal, info, context);
    }
    if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
        return previous_action.sa_handler(signal);
    }
    // Not ours: the instruction faults again on return, and the default action ends the process.
    ::signal(signal, SIG_DFL);
}

FaultGuard::FaultGuard(std::span<const std::byte> mapping) {
    if (mapping.empty()) return;
    const std::scoped_lock lock(list_mutex);
    static const bool installed = [] {
        page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
        struct sigaction action {};
        action.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
            FaultGuard::handle(signal, info, context);
        };
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigemptyset(&action.sa_mask);
        return sigaction(SIGBUS, &action, &previous_action) == 0;
    }();
    static_cast<void>(installed);
    auto* const head = static_cast<Entry*>(first_entry.load(std::memory_order_relaxed));
    for (Entry* e = head; e != nullptr; e = e->next) {
        if (e->size.load(std::memory_order_relaxed) == 0) entry_ = e;
    }
    const bool is_new = entry_ == nullptr;
    if (is_new) {
        entry_ = new Entry();
        entry_->next = head;
    }
    entry_->lost.store(kNone, std::memory_order_relaxed);
    entry_->begin.store(reinterpret_cast<std::uintptr_t>(mapping.data()),
                        std::memory_order_relaxed);
    entry_->size.store(mapping.size(), std::memory_order_release);
    if (is_new) first_entry.store(entry_, std::memory_order_release);
}

FaultGuard::FaultGuard(FaultGuard&& other) noexcept
    : entry_(std::exchange(other.entry_, nullptr)) {}

FaultGuard& FaultGuard::operator=(FaultGuard&& other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
}

FaultGuard::~FaultGuard() {
    if (entry_ == nullptr) return;
    const std::scoped_lock lock(list_mutex);
    entry_->size.store(0, std::memory_order_release);
}

std::size_t FaultGuard::first_lost_byte() const {
    return entry_ == nullptr ? kNone : entry_->lost.load(std::memory_order_acquire);
}

}  // namespace unicorn
