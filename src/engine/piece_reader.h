#pragma once
// From the file to the kernel's layout: a matrix is cut into pieces of whole rows, and threads read
// and pack piece after piece, so that reading and packing overlap and nothing large is held twice.

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/read_queue.h"
#include "device/device.h"
#include "engine/load_stats.h"
#include "formats/gguf.h"

namespace unicorn::engine {

/// Matrices in memory begin at multiples of this, and take as many bytes as padded() says.
inline constexpr std::size_t kMatrixAlignment = 64;
constexpr std::size_t padded(std::size_t bytes) {
    return (bytes + kMatrixAlignment - 1) / kMatrixAlignment * kMatrixAlignment;
}

/// How bytes come from the disk.
enum class LoadWay {
    automatic,  // the page cache for pieces that are in it, else io_uring, else threads
    uring,      // O_DIRECT by io_uring
    threads,    // O_DIRECT by threads that each wait for one read
    cache,      // through the page cache
};

/// "auto", "uring", "threads", "cache". Errors: invalid_argument, naming these.
Result<LoadWay> load_way_from_name(std::string_view name);

/// Rows [first_row, last_row) of a matrix, where they lie in a file and where they go.
struct Piece {
    device::TensorRef to;  // the whole matrix, as it will lie
    std::size_t first_row = 0;
    std::size_t last_row = 0;
    std::size_t file = 0;
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
};

/// Rows of a piece of a matrix, and the bytes that they take in the file; the last piece may be
/// smaller.
struct PieceSize {
    std::size_t rows = 0;
    std::size_t bytes = 0;
};
PieceSize piece_size(tensor::DType type, std::size_t rows, std::size_t cols);

/// Appends the pieces of the matrix that lies at `source` in one of `file`'s files.
void cut_pieces(const formats::Gguf& file, const device::TensorRef& source,
                const device::TensorRef& to, std::vector<Piece>& pieces);

/// The largest piece's bytes; 0 without pieces.
std::size_t largest_piece(std::span<const Piece> pieces);

/// Hands out pieces in order. Called by several threads at once.
class PieceFeed {
public:
    virtual ~PieceFeed() = default;
    struct Job {
        const Piece* piece = nullptr;
        std::size_t tag = 0;  // the feed's own
    };
    /// The next piece, when there is one that may be read now.
    virtual std::optional<Job> take() = 0;
    /// The piece lies where it belongs.
    virtual void done(const Job& job) = 0;
};

/// One thread's reads. Not thread-safe.
class PieceReader {
public:
    /// Bytes of memory that a reader with `depth` reads in flight needs for pieces of at most
    /// `piece_bytes`.
    static std::size_t staging_bytes(std::size_t depth, std::size_t piece_bytes) {
        return depth * read_room(piece_bytes);
    }

    /// `staging`: page-aligned, staging_bytes(); everything must outlive the reader. `disk`, when
    /// given, slows reads down. Errors: unsupported, when `way` is uring and the kernel forbids it;
    /// out_of_memory.
    static Result<PieceReader> open(const DirectFiles& files, LoadWay way,
                                    const device::Device& device, std::byte* staging,
                                    std::size_t depth, std::size_t piece_bytes,
                                    SlowDisk* disk = nullptr);

    /// Starts reads as long as the feed has pieces and there are buffers; a piece that comes from
    /// the page cache is packed at once, one a call. Errors: io.
    Status start(PieceFeed& feed);
    /// Waits for one started read and packs it. Requires !idle(). Errors: io.
    Status finish(PieceFeed& feed);
    /// Whether no read is on its way and the last start() found nothing to do.
    bool idle() const { return idle_; }
    /// Where pieces go has been written before, so its pages are there.
    void target_is_used() { fresh_target_ = false; }
    const ReadStats& stats() const { return stats_; }

private:
    PieceReader(const DirectFiles& files, const device::Device& device)
        : files_(&files), device_(&device) {}
    Status read_cached(const PieceFeed::Job& job);
    void pack(const Piece& piece, const std::byte* rows);

    const DirectFiles* files_;
    const device::Device* device_;
    LoadWay way_ = LoadWay::automatic;
    std::byte* staging_ = nullptr;
    std::size_t room_ = 0;              // of one buffer
    std::vector<std::size_t> free_;     // buffers
    std::vector<PieceFeed::Job> jobs_;  // by buffer
    std::unique_ptr<ReadQueue> queue_;  // nullptr when everything comes from the page cache
    bool idle_ = true;
    bool fresh_target_ = true;
    ReadStats stats_;
};

}  // namespace unicorn::engine
