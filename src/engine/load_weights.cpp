#include "engine/load_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/progress.h"
#include "memory/host_allocator.h"

namespace unicorn::engine {
namespace {

// Reads in flight over all threads: the depth at which raw reads are measured.
constexpr std::size_t kReadsInFlight = 32;
// Buffers for reading take at most this share of what is loaded. Peak memory may exceed the model
// by 5 %, of which the panels of q3_k take 3.6 (their sub-scales are widened to bytes).
constexpr std::size_t kStagingShare = 100;
constexpr std::size_t kLeastDepth = 2;
// Of a GPU's memory, taken at once: what is left of a larger one may lie in pieces.
constexpr std::size_t kLargestPiece = std::size_t{1} << 30;
constexpr std::size_t kMapStep = std::size_t{8} << 20;

/// All pieces once, in order, and the first error of any thread.
class LoadFeed final : public PieceFeed {
public:
    LoadFeed(std::span<const Piece> pieces, std::uint64_t total_bytes,
             const std::function<bool()>& cancel)
        : pieces_(pieces), cancel_(cancel), progress_("load", total_bytes, ProgressUnit::bytes) {}

    std::optional<Job> take() override {
        if (stopped_.load(std::memory_order_relaxed)) return {};
        const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
        if (index >= pieces_.size()) return {};
        return Job{&pieces_[index], index};
    }
    void done(const Job& job) override { advance(job.piece->bytes); }

    /// Counts bytes that lie where they belong; asks whether to go on.
    void advance(std::size_t bytes) {
        const std::scoped_lock lock(mutex_);
        progress_.update(done_bytes_ += bytes);
        if (!stopped_ && cancel_ && cancel_()) stop_locked(fail(ErrorCode::cancelled, "cancelled"));
    }
    void stop(Status status) {
        const std::scoped_lock lock(mutex_);
        stop_locked(std::move(status));
    }
    bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
    Status status() {
        const std::scoped_lock lock(mutex_);
        return status_;
    }

private:
    void stop_locked(Status status) {
        if (status_) status_ = std::move(status);
        stopped_ = true;
    }

    std::span<const Piece> pieces_;
    const std::function<bool()>& cancel_;
    std::atomic<std::size_t> next_{0};
    std::atomic<bool> stopped_{false};
    std::mutex mutex_;
    Progress progress_;
    std::uint64_t done_bytes_ = 0;
    Status status_;
};

/// Ranges of the file that stay mapped, brought into the page cache.
class MapFeed {
public:
    void add(const MappedFile& file, std::span<const std::byte> range) {
        for (std::size_t at = 0; at < range.size(); at += kMapStep)
            parts_.push_back({&file, range.subspan(at, std::min(kMapStep, range.size() - at))});
    }
    void work(LoadFeed& feed) {
        for (;;) {
            const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= parts_.size() || feed.stopped()) return;
            const auto& [file, range] = parts_[index];
            // The next parts are on their way while this one is waited for.
            if (!in_page_cache(*file, range)) {
                for (std::size_t ahead = 1; ahead <= 2 && index + ahead < parts_.size(); ++ahead)
                    parts_[index + ahead].file->will_need(parts_[index + ahead].range);
                file->populate(range);
            }
            feed.advance(range.size());
        }
    }

private:
    struct Part {
        const MappedFile* file;
        std::span<const std::byte> range;
    };
    std::vector<Part> parts_;
    std::atomic<std::size_t> next_{0};
};

const MappedFile& file_of(const formats::Gguf& file, const device::TensorRef& w) {
    return *std::ranges::find_if(file.files(), [&](const MappedFile& f) {
        return w.host >= f.bytes().data() && w.host < f.bytes().data() + f.bytes().size();
    });
}

}  // namespace

std::size_t load_staging_bytes(std::size_t threads, std::size_t piece_bytes) {
    return threads * PieceReader::staging_bytes(kLeastDepth, piece_bytes);
}

Result<LoadedWeights> load_weights(const formats::Gguf& file,
                                   std::span<device::TensorRef* const> matrices,
                                   device::Device& device, const LoadOptions& options) {
    const auto start = std::chrono::steady_clock::now();
    LoadedWeights loaded;
    const bool may_map = options.keep_mapped && options.way == LoadWay::automatic;
    std::vector<device::TensorRef*> moved;
    std::size_t bytes = 0;
    std::uint64_t source_bytes = 0;
    MapFeed mapped;
    for (device::TensorRef* const w : matrices) {
        const device::Placement place = device.place(*w);
        const std::size_t in_file = device::stored_bytes(*w);
        source_bytes += in_file;
        if (may_map && place.as_mapped) {
            loaded.mapped_bytes += in_file;
            mapped.add(file_of(file, *w), {w->host, in_file});
        } else {
            bytes += padded(place.bytes);
            moved.push_back(w);
        }
    }
    const auto out_of_memory = [&](const Error& error) {
        return fail(error.code, "{}: the weights do not fit: {}", file.path(), error.message);
    };
    memory::HostAllocator beside(memory::available_memory_bytes());
    memory::TierAllocator* host = device.allocator(memory::Tier::host);
    if (host == nullptr) host = &beside;  // for buffers
    std::vector<device::TensorRef> targets;
    std::vector<Piece> pieces;
    if (bytes > 0) {
        const auto tier_of = [&](const device::TensorRef* w) {
            return options.tier_of ? options.tier_of(*w) : device.main_tier();
        };
        std::ranges::stable_sort(moved, {}, tier_of);
        for (std::size_t first = 0, last = 0; first < moved.size(); first = last) {
            const memory::Tier tier = tier_of(moved[first]);
            auto& target = *device.allocator(tier);
            const std::size_t limit = target.max_piece_bytes();
            const std::size_t most = limit == SIZE_MAX ? limit : std::min(limit, kLargestPiece);
            std::size_t piece_bytes = 0;
            for (; last < moved.size() && tier_of(moved[last]) == tier; ++last) {
                const std::size_t more = padded(device.place(*moved[last]).bytes);
                if (last > first && more > most - std::min(most, piece_bytes)) break;
                piece_bytes += more;
            }
            auto memory = target.allocate(piece_bytes, kMatrixAlignment);
            if (!memory) return out_of_memory(memory.error());
            std::size_t offset = 0;
            for (std::size_t i = first; i < last; ++i) {
                const device::Placement place = device.place(*moved[i]);
                device::TensorRef& to = targets.emplace_back(*moved[i]);
                to.layout = place.layout;
                to.tier = tier;
                to.host = memory->host() == nullptr ? nullptr : memory->host() + offset;
                to.device_address =
                    memory->device_address() == 0 ? 0 : memory->device_address() + offset;
                offset += padded(place.bytes);
            }
            if (tier != device.main_tier()) loaded.bytes_elsewhere += memory->bytes();
            loaded.memory.push_back(std::move(*memory));
        }
        for (std::size_t i = 0; i < moved.size(); ++i)
            cut_pieces(file, *moved[i], targets[i], pieces);
        // In the disk's order, whatever order the tensors are used in.
        std::ranges::stable_sort(pieces, [](const Piece& a, const Piece& b) {
            return std::pair(a.file, a.offset) < std::pair(b.file, b.offset);
        });
    }

    const std::size_t piece_bytes = largest_piece(pieces);
    const std::size_t n_threads = std::max<std::size_t>(1, options.threads);
    const std::size_t most_buffers =
        piece_bytes == 0 ? 0 : bytes / kStagingShare / n_threads / read_room(piece_bytes);
    std::size_t depth = std::clamp<std::size_t>(
        most_buffers, kLeastDepth, std::max<std::size_t>(kLeastDepth, kReadsInFlight / n_threads));
    auto direct = DirectFiles::open(file.files());
    if (!direct) return forward(direct);
    memory::Allocation staging;
    std::vector<PieceReader> readers;
    if (!pieces.empty()) {
        // Where memory is short, with fewer reads on their way.
        const memory::Usage usage = host->usage();
        if (n_threads * PieceReader::staging_bytes(depth, piece_bytes) > usage.budget - usage.used)
            depth = kLeastDepth;
        const std::size_t each = PieceReader::staging_bytes(depth, piece_bytes);
        auto memory = host->allocate(n_threads * each, kReadAlignment);
        if (!memory) return out_of_memory(memory.error());
        staging = std::move(*memory);
        for (std::size_t t = 0; t < n_threads; ++t) {
            auto reader = PieceReader::open(*direct, options.way, device, staging.host() + t * each,
                                            depth, piece_bytes);
            if (!reader) return forward(reader);
            readers.push_back(std::move(*reader));
        }
    }

    LoadFeed feed(pieces, source_bytes, options.cancel);
    const auto work = [&](std::size_t t) {
        mapped.work(feed);
        if (readers.empty()) return;
        PieceReader& reader = readers[t];
        for (;;) {
            Status status = reader.start(feed);
            if (status && reader.idle()) return;
            if (status) status = reader.finish(feed);
            if (status) continue;
            return feed.stop(std::move(status));
        }
    };
    {
        std::vector<std::jthread> threads;
        try {
            for (std::size_t t = 1; t < n_threads; ++t) threads.emplace_back(work, t);
        } catch (const std::system_error& error) {
            feed.stop(fail(ErrorCode::out_of_memory, "cannot start {} threads: {}", n_threads,
                           error.what()));
        }
        work(0);
    }
    for (const PieceReader& reader : readers) loaded.stats.add(reader.stats());
    if (auto status = feed.status(); !status) return forward(status);
    if (auto status = device.check_packed(); !status) {
        if (status.error().code == ErrorCode::out_of_memory) return out_of_memory(status.error());
        return forward(status);
    }
    if (auto status = file.unchanged(); !status) return forward(status);
    for (std::size_t i = 0; i < moved.size(); ++i) {
        // What was read through the map or the cache is not needed there any more.
        file_of(file, *moved[i]).drop({moved[i]->host, device::stored_bytes(*moved[i])});
        *moved[i] = targets[i];
    }
    loaded.peak_bytes = loaded.bytes() + loaded.mapped_bytes + staging.bytes();
    loaded.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return loaded;
}

}  // namespace unicorn::engine
