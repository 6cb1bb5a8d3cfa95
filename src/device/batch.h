#pragma once
// A ragged set of rows from any number of sequences: everything that changes from pass to pass.

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "device/step.h"

namespace unicorn::device {

/// Consecutive rows of a batch that are consecutive positions of one sequence.
struct Run {
    std::int32_t first_row = 0;
    std::int32_t n_rows = 0;
    std::int32_t first_position = 0;
    std::int32_t slot = 0;  // row of the page tables
};

/// Does not own its arrays; they must stay as they are until the pass has finished.
struct Batch {
    std::span<const std::int32_t> tokens;  // [T] ids
    /// When not empty, the ids are here when the pass begins (from PickLargest or Sample, on
    /// the same device), and `tokens` only says how many.
    TensorRef picked;
    std::span<const std::int32_t> positions;   // [T]
    std::span<const Run> runs;                 // cover rows 0..T-1 in order, one sequence once
    std::span<const std::int32_t> logit_rows;  // rows that need logits, ascending
    /// For each layer group: [slots, pages_per_slot], the page that holds position/32, or -1.
    std::array<const std::int32_t*, kLayerGroups> page_tables{};
    std::size_t pages_per_slot = 0;
    /// If not nullptr, asked by submit() between the parts that a long pass is queued in: true ends
    /// it there.
    const std::function<bool()>* cancel = nullptr;

    std::size_t n_rows() const { return tokens.size(); }
    const std::int32_t* pages(LayerGroup group, std::int32_t slot) const {
        return page_tables[static_cast<std::size_t>(group)] +
               static_cast<std::size_t>(slot) * pages_per_slot;
    }
};

}  // namespace unicorn::device
