#include "engine/layer_stream.h"

#include <sys/mman.h>

#include <algorithm>
#include <numeric>
#include <system_error>

#include "base/check.h"
#include "base/progress.h"

namespace unicorn::engine {
/// The pieces of use after use, as far as buffers are free.
class LayerStream::Feed final : public PieceFeed {
public:
    explicit Feed(LayerStream& stream) : s_(stream) {}

    std::optional<Job> take() override {
        const std::scoped_lock lock(s_.mutex_);
        if (s_.stopped() || !s_.may_take()) return {};
        const std::size_t index = s_.next_use_ % s_.layers_.size();
        Layer& layer = s_.layers_[index];
        if (s_.next_piece_ == 0) layer.left = layer.pieces.size();
        const Job job{&layer.pieces[s_.next_piece_], index};
        if (++s_.next_piece_ == layer.pieces.size()) {
            s_.next_piece_ = 0;
            ++s_.next_use_;
        }
        return job;
    }

    void done(const Job& job) override {
        const std::scoped_lock lock(s_.mutex_);
        Layer& layer = s_.layers_[job.tag];
        s_.stats_.read_bytes += job.piece->bytes;
        if (--layer.left > 0) return;
        ++layer.n_read;
        s_.has_read_.notify_all();
    }

private:
    LayerStream& s_;
};

LayerStream::LayerStream(const formats::Gguf& file) : file_(file) {}

bool LayerStream::may_take() const {
    if (next_piece_ > 0) return true;
    // The use before in the same buffer must be over.
    const std::size_t n = layers_.size();
    const std::size_t index = next_use_ % n;
    if (index >= n_buffers_) return released_ + n_buffers_ > next_use_;
    const std::uint64_t pass = next_use_ / n;
    if (pass == 0) return true;
    const std::size_t last = index + (n - 1 - index) / n_buffers_ * n_buffers_;
    return released_ > (pass - 1) * n + last;
}

bool LayerStream::is_there(std::uint64_t use) const {
    return layers_[use % layers_.size()].n_read > use / layers_.size();
}

std::size_t LayerStream::staging_bytes(const StreamOptions& options, std::size_t piece_bytes) {
    return (options.single_threaded ? 1 : options.threads) *
           PieceReader::staging_bytes(options.depth, piece_bytes);
}

Result<std::unique_ptr<LayerStream>> LayerStream::create(
    const formats::Gguf& file, const device::Device& device, memory::TierAllocator& allocator,
    std::span<const std::vector<device::TensorRef*>> layers, std::size_t n_buffers,
    std::size_t buffer_bytes, const StreamOptions& options) {
    UNICORN_CHECK(!layers.empty() && n_buffers >= 1);
    auto stream = std::unique_ptr<LayerStream>(new LayerStream(file));
    LayerStream& s = *stream;
    s.n_buffers_ = n_buffers;
    s.n_pinned_ = options.n_pinned;
    s.clock_ = options.clock == nullptr ? &steady_clock() : options.clock;
    s.single_threaded_ = options.single_threaded;
    auto ring = allocator.allocate(n_buffers * buffer_bytes, kMatrixAlignment);
    if (!ring) return forward(ring);
    s.ring_ = std::move(*ring);
    // Its pages once, all in one call: taken one by one they cost more than packing.
    madvise(s.ring_.host(), s.ring_.bytes(), MADV_POPULATE_WRITE);
    std::size_t piece_bytes = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        Layer& layer = s.layers_.emplace_back();
        std::byte* at = s.ring_.host() + i % n_buffers * buffer_bytes;
        for (device::TensorRef* const w : layers[i]) {
            const device::Placement place = device.place(*w);
            device::TensorRef to = *w;
            to.layout = place.layout;
            to.tier = allocator.tier();
            to.host = at;
            at += padded(place.bytes);
            cut_pieces(file, *w, to, layer.pieces);
            *w = to;
        }
        UNICORN_CHECK(at <= s.ring_.host() + (i % n_buffers + 1) * buffer_bytes);
        piece_bytes = std::max(piece_bytes, largest_piece(layer.pieces));
        std::ranges::stable_sort(layer.pieces, [](const Piece& a, const Piece& b) {
            return std::pair(a.file, a.offset) < std::pair(b.file, b.offset);
        });
    }
    auto direct = DirectFiles::open(file.files());
    if (!direct) return forward(direct);
    s.direct_ = std::make_unique<DirectFiles>(std::move(*direct));
    s.feed_ = std::make_unique<Feed>(s);
    auto staging = allocator.allocate(staging_bytes(options, piece_bytes), kReadAlignment);
    if (!staging) return forward(staging);
    s.staging_ = std::move(*staging);
    // Never by the page cache where it can be avoided: what it holds is memory, too.
    LoadWay way = options.way;
    if (way == LoadWay::automatic && s.direct_->all_direct()) way = LoadWay::uring;
    const std::size_t n_threads = options.single_threaded ? 1 : options.threads;
    for (std::size_t t = 0; t < n_threads; ++t) {
        std::byte* const buffers =
            s.staging_.host() + t * PieceReader::staging_bytes(options.depth, piece_bytes);
        const auto open = [&](LoadWay by) {
            return PieceReader::open(*s.direct_, by, device, buffers, options.depth, piece_bytes,
                                     options.disk);
        };
        auto reader = open(way);
        if (!reader && options.way == LoadWay::automatic) reader = open(LoadWay::threads);
        if (!reader) return forward(reader);
        reader->target_is_used();
        s.readers_.push_back(std::move(*reader));
    }
    if (s.single_threaded_) {
        if (auto status = s.readers_[0].start(*s.feed_); !status) return forward(status);
        return stream;
    }
    try {
        for (PieceReader& reader : s.readers_)
            s.threads_.emplace_back([&s, &reader] { s.work(reader); });
    } catch (const std::system_error& error) {
        return fail(ErrorCode::out_of_memory, "cannot start {} threads: {}", n_threads,
                    error.what());
    }
    return stream;
}

LayerStream::~LayerStream() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    may_read_.notify_all();
    threads_.clear();  // joins
    readers_.clear();  // waits for reads on their way to the staging buffers
}

void LayerStream::work(PieceReader& reader) {
    for (;;) {
        Status status = reader.start(*feed_);
        if (status && reader.idle()) {
            std::unique_lock lock(mutex_);
            may_read_.wait(lock, [&] { return stopped() || may_take(); });
            if (stopped()) return;
            continue;
        }
        if (status) status = reader.finish(*feed_);
        if (!status) return fail_with(std::move(status));
    }
}

void LayerStream::fail_with(Status status) {
    const std::scoped_lock lock(mutex_);
    if (status_) status_ = std::move(status);
    may_read_.notify_all();
    has_read_.notify_all();
}

void LayerStream::acquire(std::size_t layer) {
    std::unique_lock lock(mutex_);
    const std::uint64_t use = acquired_++;
    UNICORN_CHECK(use % layers_.size() == layer && released_ == use);
    if (layer == 0) stats_.hits += n_pinned_;
    ++stats_.misses;
    if (single_threaded_ && !is_there(use)) {
        // What has arrived in the meantime costs no time.
        const double now = clock_->now_s();
        while (!is_there(use) && status_) {
            lock.unlock();
            read_inline();
            lock.lock();
        }
        if (clock_->now_s() > now) ++stats_.stalls;
        stats_.stall_s += clock_->now_s() - now;
        return;
    }
    if (is_there(use) || !status_) return;
    ++stats_.stalls;
    const double now = clock_->now_s();
    has_read_.wait(lock, [&] { return is_there(use) || !status_; });
    stats_.stall_s += clock_->now_s() - now;
}

void LayerStream::read_inline() {
    PieceReader& reader = readers_[0];
    Status status = reader.start(*feed_);
    if (status && !reader.idle()) status = reader.finish(*feed_);
    if (status) status = reader.start(*feed_);
    if (!status) fail_with(std::move(status));
}

void LayerStream::release(std::size_t layer) {
    {
        const std::scoped_lock lock(mutex_);
        UNICORN_CHECK(released_ % layers_.size() == layer);
        ++released_;
    }
    may_read_.notify_all();
    if (single_threaded_) {
        if (auto status = readers_[0].start(*feed_); !status) fail_with(std::move(status));
    }
}

Status LayerStream::status() const {
    const std::scoped_lock lock(mutex_);
    return status_;
}

StreamStats LayerStream::stats() const {
    const std::scoped_lock lock(mutex_);
    return stats_;
}

}  // namespace unicorn::engine
