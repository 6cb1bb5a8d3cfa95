// Reading by io_uring: the kernel takes reads from one ring and puts results on another.

#include <liburing.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/read_range.h"

namespace unicorn {
namespace {

class UringQueue final : public ReadQueue {
public:
    UringQueue(const DirectFiles& files, io_uring ring, std::size_t depth)
        : files_(files), ring_(ring), requests_(depth) {}
    ~UringQueue() override {
        while (in_flight_ > 0) {  // the kernel still writes to their buffers
            io_uring_cqe* cqe = nullptr;
            if (io_uring_wait_cqe(&ring_, &cqe) < 0) continue;
            io_uring_cqe_seen(&ring_, cqe);
            --in_flight_;
        }
        io_uring_queue_exit(&ring_);
    }

    Status start(const ReadRequest& request) override {
        UNICORN_CHECK(request.id < requests_.size());
        requests_[request.id] = request;
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
        UNICORN_CHECK(sqe != nullptr);
        const AlignedRange range = aligned(request);
        const int fd = files_.direct_fd(request.file);
        io_uring_prep_read(sqe, fd >= 0 ? fd : files_.file(request.file).fd(), request.buffer,
                           static_cast<unsigned>(range.bytes), range.offset);
        io_uring_sqe_set_data64(sqe, request.id);
        // EAGAIN: the kernel is short of memory for requests right now.
        int submitted = 0;
        for (int attempts = 0; attempts < 1000; ++attempts) {
            submitted = io_uring_submit(&ring_);
            if (submitted != -EINTR && submitted != -EAGAIN) break;
            std::this_thread::yield();
        }
        if (submitted < 0) {
            return fail(ErrorCode::io, "{}: io_uring cannot start a read: {}",
                        files_.file(request.file).path(), std::strerror(-submitted));
        }
        ++in_flight_;
        return {};
    }

    Result<ReadDone> finish() override {
        UNICORN_CHECK(in_flight_ > 0);
        io_uring_cqe* cqe = nullptr;
        int status = 0;
        do {
            status = io_uring_wait_cqe(&ring_, &cqe);
        } while (status == -EINTR);
        if (status < 0) {
            --in_flight_;
            return fail(ErrorCode::io, "io_uring: {}", std::strerror(-status));
        }
        const ReadRequest& request = requests_[io_uring_cqe_get_data64(cqe)];
        const int got = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        --in_flight_;
        return complete_read(files_, request, got);
    }

    std::size_t in_flight() const override { return in_flight_; }

private:
    const DirectFiles& files_;
    io_uring ring_;
    std::vector<ReadRequest> requests_;  // by id
    std::size_t in_flight_ = 0;
};

}  // namespace

Result<std::unique_ptr<ReadQueue>> open_uring_queue(const DirectFiles& files, std::size_t depth) {
    io_uring ring{};
    if (const int status = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0);
        status < 0) {
        return fail(ErrorCode::unsupported, "io_uring is not available here: {}",
                    std::strerror(-status));
    }
    return std::unique_ptr<ReadQueue>(std::make_unique<UringQueue>(files, ring, depth));
}

}  // namespace unicorn
