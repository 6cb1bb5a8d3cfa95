// What all ways of reading share, reading by threads, the page cache, and the slow disk.
// uring_queue.cpp has io_uring.

#include "base/read_queue.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <system_error>
#include <thread>

#include "base/check.h"
#include "base/read_range.h"

namespace unicorn {

Result<DirectFiles> DirectFiles::open(std::span<const MappedFile> files) {
    DirectFiles direct;
    direct.files_ = files;
    for (const MappedFile& file : files) {
        const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
        direct.fds_.push_back(fd);
        if (fd < 0) continue;  // tmpfs before Linux 6.6, for one
        struct stat ours {
        }, mapped{};
        if (fstat(fd, &ours) != 0 || fstat(file.fd(), &mapped) != 0 ||
            ours.st_ino != mapped.st_ino || ours.st_dev != mapped.st_dev) {
            return fail(ErrorCode::io, "{}: the file was replaced while it was being opened",
                        file.path());
        }
    }
    return direct;
}

DirectFiles::~DirectFiles() {
    for (const int fd : fds_) {
        if (fd >= 0) close(fd);
    }
}

bool DirectFiles::all_direct() const {
    return std::ranges::all_of(fds_, [](int fd) { return fd >= 0; });
}

tl::unexpected<Error> read_error(const MappedFile& file, std::uint64_t offset, int code) {
    if (auto status = file.unchanged(); !status) return forward(status);
    return fail(ErrorCode::io, "{}: cannot read from byte {} on: {}", file.path(), offset,
                std::strerror(code));
}

Status read_through_cache(const MappedFile& file, std::uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
        const ssize_t n = pread(file.fd(), out.data(), out.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return read_error(file, offset, errno);
        if (n == 0) {
            if (auto status = file.unchanged(); !status) return status;
            return fail(ErrorCode::io, "{}: the file ends at byte {}", file.path(), offset);
        }
        out = out.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

Result<ReadDone> complete_read(const DirectFiles& files, const ReadRequest& request, ssize_t got) {
    const AlignedRange range = aligned(request);
    std::byte* const wanted = request.buffer + range.skip;
    const std::size_t there =
        got > static_cast<ssize_t>(range.skip)
            ? std::min(static_cast<std::size_t>(got) - range.skip, request.bytes)
            : 0;
    // An error, a file system that takes O_DIRECT at open only, or a short read: the page cache has
    // the rest, or tells what is wrong.
    if (there < request.bytes) {
        const std::span<std::byte> rest(wanted + there, request.bytes - there);
        if (auto status =
                read_through_cache(files.file(request.file), request.offset + there, rest);
            !status) {
            return forward(status);
        }
    }
    const bool direct = files.direct_fd(request.file) >= 0;
    return ReadDone{request.id,
                    {wanted, request.bytes},
                    direct ? request.bytes - std::min(there, request.bytes) : request.bytes};
}

bool in_page_cache(const MappedFile& file, std::span<const std::byte> range) {
    if (range.empty()) return true;
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    struct stat info {};
    const bool ours = fstat(file.fd(), &info) == 0 &&
                      (info.st_uid == geteuid() ||
                       faccessat(AT_FDCWD, file.path().c_str(), W_OK, AT_EACCESS) == 0);
    if (ours) {
        const auto address = reinterpret_cast<std::uintptr_t>(range.data());
        const std::uintptr_t first = address / page * page;
        const std::size_t bytes = address + range.size() - first;
        std::vector<unsigned char> pages((bytes + page - 1) / page);
        if (mincore(reinterpret_cast<void*>(first), bytes, pages.data()) == 0) {
            return std::ranges::all_of(pages, [](unsigned char p) { return (p & 1) != 0; });
        }
    }
    const auto begin = static_cast<std::size_t>(range.data() - file.bytes().data());
    for (const std::size_t at : {begin, begin + range.size() / 2, begin + range.size() - 1}) {
        std::byte byte{};
        iovec to{&byte, 1};
        if (preadv2(file.fd(), &to, 1, static_cast<off_t>(at), RWF_NOWAIT) != 1) return false;
    }
    return true;
}

double drop_from_page_cache(const MappedFile& file) {
    const auto bytes = file.bytes();
    file.drop(bytes);  // mapped pages cannot be forgotten
    posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
    constexpr std::size_t kStep = std::size_t{1} << 20;
    std::size_t kept = 0;
    for (std::size_t at = 0; at < bytes.size(); at += kStep) {
        const auto part = bytes.subspan(at, std::min(kStep, bytes.size() - at));
        if (in_page_cache(file, part)) kept += part.size();
    }
    return bytes.empty() ? 0 : static_cast<double>(kept) / static_cast<double>(bytes.size());
}

namespace {

class ThreadQueue final : public ReadQueue {
public:
    ThreadQueue(const DirectFiles& files, std::size_t depth) : files_(files) {
        try {
            for (std::size_t i = 0; i < depth; ++i) threads_.emplace_back([this] { work(); });
        } catch (...) {
            stop();
            throw;
        }
    }
    ~ThreadQueue() override { stop(); }

    Status start(const ReadRequest& request) override {
        const std::scoped_lock lock(mutex_);
        ++in_flight_;
        waiting_.push_back(request);
        work_there_.notify_one();
        return {};
    }

    Result<ReadDone> finish() override {
        UNICORN_CHECK(in_flight_ > 0);
        std::unique_lock lock(mutex_);
        result_there_.wait(lock, [&] { return !done_.empty(); });
        const auto [request, got] = done_.front();
        done_.pop_front();
        --in_flight_;
        lock.unlock();
        return complete_read(files_, request, got);
    }

    std::size_t in_flight() const override { return in_flight_; }

private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            work_there_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
            if (waiting_.empty()) return;  // what was started is read, even when stopping
            const ReadRequest request = waiting_.front();
            waiting_.pop_front();
            lock.unlock();
            const AlignedRange range = aligned(request);
            const int fd = files_.direct_fd(request.file);
            const ssize_t got =
                fd < 0 ? -1
                       : pread(fd, request.buffer, range.bytes, static_cast<off_t>(range.offset));
            lock.lock();
            done_.emplace_back(request, got);
            result_there_.notify_one();
        }
    }

    void stop() {
        {
            const std::scoped_lock lock(mutex_);
            stop_ = true;
        }
        work_there_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    const DirectFiles& files_;
    std::mutex mutex_;
    std::condition_variable work_there_, result_there_;
    std::deque<ReadRequest> waiting_;
    std::deque<std::pair<ReadRequest, ssize_t>> done_;
    std::size_t in_flight_ = 0;  // only the owner's thread changes it
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

class SlowQueue final : public ReadQueue {
public:
    SlowQueue(std::unique_ptr<ReadQueue> inner, SlowDisk& disk)
        : inner_(std::move(inner)), disk_(disk) {}

    Status start(const ReadRequest& request) override {
        pending_.push_back({request.id, disk_.arrival_s(aligned(request).bytes), {}, false});
        return inner_->start(request);
    }

    Result<ReadDone> finish() override {
        UNICORN_CHECK(!pending_.empty());
        const auto first = std::ranges::min_element(pending_, {}, &Pending::arrival_s);
        while (!first->read) {
            auto done = inner_->finish();
            if (!done) {  // whose it was is not known, and it does not matter: nothing is used
                pending_.erase(first);
                return done;
            }
            const auto whose = std::ranges::find(pending_, done->id, &Pending::id);
            UNICORN_CHECK(whose != pending_.end());
            whose->done = *done;
            whose->read = true;
        }
        disk_.clock().wait_until_s(first->arrival_s);
        const ReadDone done = first->done;
        pending_.erase(first);
        return done;
    }

    std::size_t in_flight() const override { return pending_.size(); }

private:
    struct Pending {
        std::size_t id = 0;
        double arrival_s = 0;
        ReadDone done;
        bool read = false;
    };
    std::unique_ptr<ReadQueue> inner_;
    SlowDisk& disk_;
    std::vector<Pending> pending_;
};

}  // namespace

Result<std::unique_ptr<ReadQueue>> open_thread_queue(const DirectFiles& files, std::size_t depth) {
    try {
        return std::unique_ptr<ReadQueue>(std::make_unique<ThreadQueue>(files, depth));
    } catch (const std::system_error& error) {
        return fail(ErrorCode::out_of_memory, "cannot start {} threads to read with: {}", depth,
                    error.what());
    }
}

double SlowDisk::arrival_s(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    free_at_s_ = std::max(free_at_s_, clock_.now_s()) + static_cast<double>(bytes) / bytes_per_s_;
    return free_at_s_ + latency_s_;
}

std::unique_ptr<ReadQueue> slow_down(std::unique_ptr<ReadQueue> inner, SlowDisk& disk) {
    return std::make_unique<SlowQueue>(std::move(inner), disk);
}

}  // namespace unicorn
