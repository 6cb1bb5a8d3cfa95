#pragma once
// Keys and values in pages of 32 tokens, for every sequence at once.
//
// Layers form two groups with a page table each. Global layers keep every page of a sequence.
// Local layers only look a window back: pages that have left it return to the pool, so a sequence
// holds about window + chunk tokens there, however long it grows. Forks share pages, counted, and
// the first to write to a shared page gets its own copy.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/batch.h"
#include "device/device.h"
#include "memory/allocator.h"
#include "model/config.h"

namespace unicorn::engine {

class KvCache {
public:
    /// Room for `max_sequences` timelines of `context` tokens, written at most `chunk` at a time,
    /// as values of `type` (f16, q8_0 or f32). Errors: out_of_memory.
    static Result<KvCache> create(const model::Config& config, tensor::DType type,
                                  std::size_t context, std::size_t max_sequences, std::size_t chunk,
                                  memory::TierAllocator& allocator);

    /// The pools, by layer.
    const std::vector<device::KvCache>& layers() const { return layers_; }
    /// Fills in the page tables of a batch.
    void describe(device::Batch& batch) const;
    std::size_t bytes() const;

    /// A timeline without tokens. Errors: out_of_memory, when all slots are taken.
    Result<std::int32_t> open_slot();
    /// A timeline that shares every page of `slot`. Errors: as open_slot.
    Result<std::int32_t> fork_slot(std::int32_t slot);
    void close_slot(std::int32_t slot);

    /// Makes positions [first, first + n) writable, n <= chunk: pages taken or copied as needed,
    /// local pages that no query from `first` on can see given back. There is always room.
    void prepare_write(std::int32_t slot, std::size_t first, std::size_t n);
    /// Pages that prepare_write() found shared: to be copied before the next pass, then forgotten
    /// by copied().
    std::span<const device::Copy> copies() const { return copies_; }
    void copied() { copies_.clear(); }

    /// Forgets positions from `n` on. False when local layers no longer hold what a query at
    /// position `n` needs: then the timeline is empty and must be computed anew.
    bool truncate(std::int32_t slot, std::size_t n);

    /// Bytes that attention reads for one token at position `position`, over all layers.
    std::uint64_t read_bytes(const model::Config& config, std::size_t position) const;

    /// Pages in use, for tests: by group.
    std::size_t pages_in_use(device::LayerGroup group) const;

private:
    struct Group {
        std::vector<std::size_t> layers;        // of the model
        std::vector<std::uint32_t> references;  // by page
        std::vector<std::int32_t> free;         // pages, used as a stack
        std::vector<std::int32_t> tables;       // [slots, pages_per_slot], -1 where there is none
        bool local = false;
    };

    std::int32_t& entry(Group& group, std::int32_t slot, std::size_t index) {
        return group.tables[static_cast<std::size_t>(slot) * pages_per_slot_ + index];
    }
    void release(Group& group, std::int32_t slot, std::size_t index);
    void make_exclusive(Group& group, std::int32_t slot, std::size_t index);

    std::size_t pages_per_slot_ = 0;
    std::size_t window_ = 0;
    std::size_t page_bytes_ = 0;  // of one layer's K or V, over its KV heads
    std::vector<device::KvCache> layers_;
    std::array<Group, device::kLayerGroups> groups_;
    std::vector<std::int32_t> free_slots_;
    std::vector<device::Copy> copies_;
    std::vector<memory::Allocation> memory_;
};

}  // namespace unicorn::engine
