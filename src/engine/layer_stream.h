#pragma once
// Layers that do not fit in memory pass through a ring of buffers.
//
// A pass reads the layers in a cycle, so the layer used last is the one needed latest: a cache that
// throws out what was used least recently (LRU) hits nothing. What fits is therefore pinned, and
// the rest goes through the ring: while early layers compute, threads read and pack later ones,
// into the layout that the kernels want. Layer i of the streamed ones always has buffer i modulo
// their number, so that steps keep their addresses.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device/weight_gate.h"
#include "engine/load_stats.h"
#include "engine/piece_reader.h"
#include "memory/allocator.h"

namespace unicorn::engine {

struct StreamOptions {
    LoadWay way = LoadWay::automatic;
    std::size_t threads = 2;   // that read and pack
    std::size_t depth = 4;     // reads in flight for each of them
    std::size_t n_pinned = 0;  // layers, for counting hits
    SlowDisk* disk = nullptr;  // slows reads down; must outlive the stream
    Clock* clock = nullptr;    // measures stalls; nullptr: the steady clock
    /// No threads: acquire() and release() read. One reader, so that a test on a manual clock knows
    /// what happens when.
    bool single_threaded = false;
};

/// The streamed layers of one model. acquire() and release() are called by one thread at a time.
class LayerStream final : public device::WeightGate {
public:
    /// Bytes of buffers for reads on their way, beside the ring.
    static std::size_t staging_bytes(const StreamOptions& options, std::size_t piece_bytes);

    /// `layers`: the matrices of each streamed layer, lying as in `file`; they are rewritten to
    /// their places in the ring. Reading ahead begins at once.
    /// Errors: out_of_memory; io; unsupported, for a forced way that this machine lacks.
    static Result<std::unique_ptr<LayerStream>> create(
        const formats::Gguf& file, const device::Device& device, memory::TierAllocator& allocator,
        std::span<const std::vector<device::TensorRef*>> layers, std::size_t n_buffers,
        std::size_t buffer_bytes, const StreamOptions& options);
    ~LayerStream() override;

    void acquire(std::size_t layer) override;
    void release(std::size_t layer) override;

    /// What went wrong with reading; nothing computed since can be trusted, and nothing is read any
    /// more. Errors: io.
    Status status() const;
    StreamStats stats() const;
    std::size_t bytes() const { return ring_.bytes() + staging_.bytes(); }
    std::size_t n_buffers() const { return n_buffers_; }

private:
    class Feed;
    struct Layer {
        std::vector<Piece> pieces;
        std::size_t left = 0;      // pieces not yet packed in the pass under way
        std::uint64_t n_read = 0;  // passes for which the layer was read whole
    };

    explicit LayerStream(const formats::Gguf& file);
    bool may_take() const;  // with mutex_ held, as the next two
    bool is_there(std::uint64_t use) const;
    bool stopped() const { return stop_ || !status_; }
    void read_inline();
    void work(PieceReader& reader);
    void fail_with(Status status);

    const formats::Gguf& file_;
    std::vector<Layer> layers_;
    std::size_t n_buffers_ = 0;
    memory::Allocation ring_, staging_;
    std::unique_ptr<DirectFiles> direct_;
    std::unique_ptr<Feed> feed_;
    std::vector<PieceReader> readers_;
    Clock* clock_ = nullptr;
    std::size_t n_pinned_ = 0;
    bool single_threaded_ = false;

    // Uses are counted over all passes: use u is that of layer u modulo their number.
    mutable std::mutex mutex_;
    std::condition_variable may_read_, has_read_;
    std::uint64_t next_use_ = 0;  // whose pieces are handed out now
    std::size_t next_piece_ = 0;  // of it
    std::uint64_t acquired_ = 0;  // uses begun
    std::uint64_t released_ = 0;  // uses over
    bool stop_ = false;
    Status status_;
    StreamStats stats_;
    std::vector<std::jthread> threads_;
};

}  // namespace unicorn::engine
