#include "engine/piece_reader.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/matmul.h"

namespace unicorn::engine {
namespace {

// Large enough for full speed of a disk with a few in flight, small enough to stay in a core's
// second cache between reading and packing where that is a copy.
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

double thread_cpu_s() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

constexpr std::array<std::string_view, 4> kWayNames = {"auto", "uring", "threads", "cache"};

}  // namespace

Result<LoadWay> load_way_from_name(std::string_view name) {
    const auto found = std::ranges::find(kWayNames, name);
    if (found == kWayNames.end()) {
        return fail(ErrorCode::invalid_argument,
                    "no way of loading is called '{}'; there are auto, uring, threads, cache",
                    name);
    }
    return static_cast<LoadWay>(found - kWayNames.begin());
}

PieceSize piece_size(tensor::DType type, std::size_t rows, std::size_t cols) {
    const std::size_t row_bytes = tensor::row_bytes(type, cols);
    const std::size_t unit = kernels::kPanelRows;
    const std::size_t each = std::min(rows, std::max(unit, kPieceBytes / row_bytes / unit * unit));
    return {each, each * row_bytes};
}

void cut_pieces(const formats::Gguf& file, const device::TensorRef& source,
                const device::TensorRef& to, std::vector<Piece>& pieces) {
    const auto files = file.files();
    const auto holder = std::ranges::find_if(files, [&](const MappedFile& f) {
        return source.host >= f.bytes().data() && source.host < f.bytes().data() + f.bytes().size();
    });
    UNICORN_CHECK(holder != files.end());
    const std::size_t row_bytes = tensor::row_bytes(source.type, source.cols);
    const std::size_t rows = piece_size(source.type, source.rows, source.cols).rows;
    const auto begin = static_cast<std::uint64_t>(source.host - holder->bytes().data());
    for (std::size_t first = 0; first < source.rows; first += rows) {
        const std::size_t last = std::min(source.rows, first + rows);
        pieces.push_back({to, first, last, static_cast<std::size_t>(holder - files.begin()),
                          begin + first * row_bytes, (last - first) * row_bytes});
    }
}

std::size_t largest_piece(std::span<const Piece> pieces) {
    std::size_t most = 0;
    for (const Piece& piece : pieces) most = std::max(most, piece.bytes);
    return most;
}

Result<PieceReader> PieceReader::open(const DirectFiles& files, LoadWay way,
                                      const device::Device& device, std::byte* staging,
                                      std::size_t depth, std::size_t piece_bytes, SlowDisk* disk) {
    PieceReader reader(files, device);
    reader.way_ = way;
    reader.staging_ = staging;
    reader.room_ = read_room(piece_bytes);
    reader.jobs_.resize(depth);
    for (std::size_t i = depth; i-- > 0;) reader.free_.push_back(i);
    if (way == LoadWay::automatic && !files.all_direct()) reader.way_ = way = LoadWay::cache;
    if (way == LoadWay::automatic || way == LoadWay::uring) {
        auto queue = open_uring_queue(files, depth);
        if (!queue && way == LoadWay::uring) return forward(queue);
        if (queue) {
            reader.queue_ = std::move(*queue);
            reader.stats_.uring = true;
        }
    }
    if (way != LoadWay::cache && reader.queue_ == nullptr) {
        auto queue = open_thread_queue(files, depth);
        if (!queue) return forward(queue);
        reader.queue_ = std::move(*queue);
    }
    if (disk != nullptr && reader.queue_ != nullptr)
        reader.queue_ = slow_down(std::move(reader.queue_), *disk);
    return reader;
}

Status PieceReader::start(PieceFeed& feed) {
    while (!free_.empty()) {
        const auto job = feed.take();
        if (!job) break;
        idle_ = false;
        const Piece& piece = *job->piece;
        const MappedFile& file = files_->file(piece.file);
        if (way_ == LoadWay::cache ||
            (way_ == LoadWay::automatic &&
             in_page_cache(file, file.bytes().subspan(piece.offset, piece.bytes)))) {
            if (auto status = read_cached(*job); !status) return status;
            feed.done(*job);
            return {};
        }
        const std::size_t buffer = free_.back();
        free_.pop_back();
        jobs_[buffer] = *job;
        if (auto status = queue_->start(
                {piece.file, piece.offset, piece.bytes, staging_ + buffer * room_, buffer});
            !status) {
            return status;
        }
    }
    idle_ = free_.size() == jobs_.size();
    return {};
}

Status PieceReader::finish(PieceFeed& feed) {
    if (queue_ == nullptr || queue_->in_flight() == 0) return {};  // all came from the page cache
    const auto done = queue_->finish();
    if (!done) return tl::unexpected(done.error());
    const PieceFeed::Job job = jobs_[done->id];
    pack(*job.piece, done->bytes.data());
    stats_.direct_bytes += job.piece->bytes - done->cached_bytes;
    stats_.cached_bytes += done->cached_bytes;
    free_.push_back(done->id);
    feed.done(job);
    return {};
}

Status PieceReader::read_cached(const PieceFeed::Job& job) {
    const Piece& piece = *job.piece;
    std::byte* const buffer = staging_ + free_.back() * room_;
    if (auto status =
            read_through_cache(files_->file(piece.file), piece.offset, {buffer, piece.bytes});
        !status) {
        return status;
    }
    pack(piece, buffer);
    stats_.cached_bytes += piece.bytes;
    return {};
}

/// Has the system give the pages that rows [first, last) of `to` lie on, all in one call: taken one
/// by one while packing they cost more than the packing (3 us each on a virtual machine).
static void take_pages(const device::TensorRef& to, std::size_t first, std::size_t last) {
    device::TensorRef part = to;
    part.rows = first;
    const auto begin = reinterpret_cast<std::uintptr_t>(to.host) + device::stored_bytes(part);
    part.rows = last;
    const auto end = reinterpret_cast<std::uintptr_t>(to.host) + device::stored_bytes(part);
    const std::uintptr_t page = begin / kReadAlignment * kReadAlignment;
    madvise(reinterpret_cast<void*>(page), end - page, MADV_POPULATE_WRITE);
}

void PieceReader::pack(const Piece& piece, const std::byte* rows) {
    if (fresh_target_ && piece.to.tier == memory::Tier::host)
        take_pages(piece.to, piece.first_row, piece.last_row);
    const double start = thread_cpu_s();
    device_->pack(piece.to, piece.first_row, piece.last_row, rows);
    stats_.pack_cpu_s += thread_cpu_s() - start;
    stats_.packed_bytes += piece.bytes;
}

}  // namespace unicorn::engine
