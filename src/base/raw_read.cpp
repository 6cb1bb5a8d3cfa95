#include "base/raw_read.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "base/read_queue.h"
#include "base/thread_pool.h"

namespace unicorn {
namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;  // of a read
constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Buffers in pages as large as loading has: with small ones a read takes more of the CPU.
class Buffers {
public:
    explicit Buffers(std::size_t bytes) : bytes_(bytes) {
        data_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data_ != MAP_FAILED) ::madvise(data_, bytes_, MADV_HUGEPAGE);
    }
    ~Buffers() {
        if (data_ != MAP_FAILED) ::munmap(data_, bytes_);
    }
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;

    std::byte* data() const {
        return data_ == MAP_FAILED ? nullptr : static_cast<std::byte*>(data_);
    }

private:
    std::size_t bytes_;
    void* data_;
};

}  // namespace

Result<double> raw_read_gb_s(std::span<const MappedFile> files, std::size_t n_threads,
                             const std::function<bool()>& cancel, std::size_t most_bytes,
                             double most_s) {
    using Steady = std::chrono::steady_clock;
    auto direct = DirectFiles::open(files);
    if (!direct) return forward(direct);
    if (!direct->all_direct())
        return fail(ErrorCode::unsupported, "{}: its file system cannot read past the page cache",
                    files[0].path());
    std::vector<ReadRequest> reads;
    std::size_t left = most_bytes;
    for (std::size_t f = 0; f < files.size(); ++f) {
        const std::size_t size = std::min(files[f].bytes().size(), left);
        left -= size;
        for (std::size_t at = 0; at < size; at += kBytes)
            reads.push_back({f, at, std::min(kBytes, size - at), nullptr, 0});
    }
    const std::size_t depth = std::max<std::size_t>(1, kRawReads / n_threads);
    const std::size_t each = depth * read_room(kBytes);
    const Buffers buffers((n_threads * each + kHugePage - 1) / kHugePage * kHugePage);
    if (buffers.data() == nullptr)
        return fail(ErrorCode::out_of_memory, "no memory for {} reads", kRawReads);
    std::vector<std::unique_ptr<ReadQueue>> queues;
    for (std::size_t t = 0; t < n_threads; ++t) {
        auto queue = open_uring_queue(*direct, depth);
        if (!queue) queue = open_thread_queue(*direct, depth);
        if (!queue) return forward(queue);
        queues.push_back(std::move(*queue));
    }

    std::atomic<std::size_t> next{0}, done_bytes{0};
    std::atomic<bool> cancelled{false};
    std::vector<Status> status(n_threads);
    ThreadPool pool(n_threads);
    const auto start = Steady::now();
    const auto elapsed_s = [&] {
        return std::chrono::duration<double>(Steady::now() - start).count();
    };
    pool.run([&](Team& team) {
        ReadQueue& queue = *queues[team.index()];
        std::byte* const mine = buffers.data() + team.index() * each;
        std::vector<std::size_t> free;
        for (std::size_t id = 0; id < depth; ++id) free.push_back(id);
        for (;;) {
            if (cancel && cancel()) cancelled = true;
            while (!free.empty() && !cancelled && elapsed_s() < most_s) {
                const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
                if (index >= reads.size()) break;
                ReadRequest read = reads[index];
                read.id = free.back();
                read.buffer = mine + read.id * read_room(kBytes);
                free.pop_back();
                if (auto s = queue.start(read); !s) {
                    status[team.index()] = s;
                    return;
                }
            }
            if (queue.in_flight() == 0) return;
            auto done = queue.finish();
            if (!done) {
                status[team.index()] = forward(done);
                return;
            }
            done_bytes += done->bytes.size();
            free.push_back(done->id);
        }
    });
    const double seconds = elapsed_s();
    for (Status& s : status)
        if (!s) return forward(s);
    if (cancelled) return fail(ErrorCode::cancelled, "cancelled");
    return static_cast<double>(done_bytes) / seconds / 1e9;
}

}  // namespace unicorn
