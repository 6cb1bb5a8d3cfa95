#pragma once
// What changes from pass to pass, as one block of bytes that a recorded program reads: ids,
// positions, page tables, and the lists of attention's work.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "device/batch.h"

namespace unicorn::backends::vulkan {

/// Attention of one layer group, as its steps have it. n_kv_heads == 0: no such steps.
struct AttentionShape {
    std::size_t n_heads = 0;
    std::size_t n_kv_heads = 0;
    std::size_t window = 0;  // tokens; 0: all

    bool operator==(const AttentionShape&) const = default;
};

/// What a recording is made for: commands differ when this does, and only then.
struct PassShape {
    std::size_t n_rows = 0;  // T
    std::size_t n_logit_rows = 0;
    std::size_t n_tables = 0;  // page tables there is room for, a power of two
    std::size_t pages_per_slot = 0;
    std::size_t depth = 0;  // positions are below this power of two
    /// By layer group: whether some rows attend on their own, and in tiles.
    std::array<bool, device::kLayerGroups> rows{}, tiles{};

    auto operator<=>(const PassShape&) const = default;
};

/// Where the parts lie, in bytes from the start; all multiples of 16.
struct PassLayout {
    struct Attention {
        std::size_t row_items = 0, tile_items = 0;
        /// Of each: as many as a pass of this shape can have. Those a pass does not have say so:
        /// their workgroups end at once, which costs less than a size that the device must read
        /// first.
        std::size_t n_row_items = 0, n_tile_items = 0;
        std::size_t pages = 0;  // [n_tables, pages_per_slot]
    };
    std::array<Attention, device::kLayerGroups> attention;
    std::size_t tokens = 0, positions = 0, tables = 0, logit_rows = 0;  // words
    std::size_t bytes = 0;
};

/// Rows that share a tile of attend_tiles or attend_matrices, for `group` query heads of a KV head.
constexpr std::size_t tile_rows(std::size_t group) { return 64 / group; }

/// Workgroups that spans are cut for: enough to fill the largest GPUs a few times over. Sizes below
/// depend on it.
inline constexpr std::size_t kSpanWorkgroups = 1024;

/// Partial results that merge at most: rows with several spans have so few KV heads together.
constexpr std::size_t max_parts(std::size_t n_kv_heads) { return kSpanWorkgroups / n_kv_heads + 1; }

PassShape shape_of(const device::Batch& batch,
                   const std::array<AttentionShape, device::kLayerGroups>& attention);
PassLayout lay_out(const PassShape& shape,
                   const std::array<AttentionShape, device::kLayerGroups>& attention);
/// Writes the pass to `to`, layout.bytes of them.
void write_pass(const device::Batch& batch,
                const std::array<AttentionShape, device::kLayerGroups>& attention,
                const PassShape& shape, const PassLayout& layout, std::byte* to);

}  // namespace unicorn::backends::vulkan
