#include "backends/vulkan/pass_data.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backends/vulkan/attention.params.h"
#include "base/check.h"
#include "kernels/kv_page.h"

namespace unicorn::backends::vulkan {
namespace {

// Query vectors (rows times heads of a group) from which on a run is worth a tile of 64: below, the
// rows read the keys one by one.
constexpr std::size_t kLeastTileQueries = 24;
constexpr std::size_t kSpanGrain = 128;  // keys of a block of attend_rows
constexpr std::size_t kLeastDepth = 1024;

using Shapes = std::array<AttentionShape, device::kLayerGroups>;

std::size_t padded(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

bool in_tiles(const device::Run& run, const AttentionShape& a) {
    return static_cast<std::size_t>(run.n_rows) * (a.n_heads / a.n_kv_heads) >= kLeastTileQueries;
}

std::size_t rows_alone(const device::Batch& batch, const AttentionShape& a) {
    std::size_t n = 0;
    for (const device::Run& run : batch.runs)
        if (!in_tiles(run, a)) n += static_cast<std::size_t>(run.n_rows);
    return n;
}

std::size_t first_key(std::size_t position, std::size_t window) {
    return window == 0 || position < window ? 0 : position + 1 - window;
}

/// Keys of a span, for a row that sees `n_keys` of them.
std::size_t span_keys(std::size_t n_keys, std::size_t n_rows_alone, const AttentionShape& a) {
    const std::size_t most =
        std::max<std::size_t>(1, kSpanWorkgroups / (a.n_kv_heads * n_rows_alone));
    const std::size_t least = (n_keys + most - 1) / most;
    return (least + kSpanGrain - 1) / kSpanGrain * kSpanGrain;
}

/// Calls visit(row, run index, position, keys of a span) for each row that attends on its own.
template <typename Visit>
void for_rows_alone(const device::Batch& batch, const AttentionShape& a, const Visit& visit) {
    const std::size_t n_rows_alone = rows_alone(batch, a);
    for (std::size_t r = 0; r < batch.runs.size(); ++r) {
        const device::Run& run = batch.runs[r];
        if (in_tiles(run, a)) continue;
        for (std::int32_t i = 0; i < run.n_rows; ++i) {
            const auto position = static_cast<std::size_t>(run.first_position + i);
            const std::size_t first = first_key(position, a.window);
            visit(run.first_row + i, r, first, position,
                  span_keys(position + 1 - first, n_rows_alone, a));
        }
    }
}

}  // namespace

PassShape shape_of(const device::Batch& batch, const Shapes& attention) {
    PassShape shape;
    shape.n_rows = batch.n_rows();
    shape.n_logit_rows = batch.logit_rows.size();
    shape.n_tables = std::bit_ceil(batch.runs.size());
    shape.pages_per_slot = batch.pages_per_slot;
    shape.depth = kLeastDepth;
    for (const device::Run& run : batch.runs) {
        const auto end = static_cast<std::size_t>(run.first_position + run.n_rows);
        shape.depth = std::max(shape.depth, std::bit_ceil(end));
    }
    for (std::size_t g = 0; g < attention.size(); ++g) {
        const AttentionShape& a = attention[g];
        if (a.n_kv_heads == 0) continue;
        for (const device::Run& run : batch.runs)
            (in_tiles(run, a) ? shape.tiles : shape.rows)[g] = true;
        for_rows_alone(batch, a,
                       [&](std::int32_t, std::size_t, std::size_t first, std::size_t position,
                           std::size_t span) {
                           if (position - first >= span) shape.merges[g] = true;
                       });
    }
    return shape;
}

PassLayout lay_out(const PassShape& shape, const Shapes& attention) {
    PassLayout layout;
    const auto take = [&](std::size_t bytes) {
        const std::size_t at = layout.bytes;
        layout.bytes += padded(bytes);
        return at;
    };
    const std::size_t words = sizeof(std::int32_t);
    layout.tokens = take(shape.n_rows * words);
    layout.positions = take(shape.n_rows * words);
    layout.tables = take(shape.n_rows * words);
    layout.logit_rows = take(shape.n_logit_rows * words);
    for (std::size_t g = 0; g < attention.size(); ++g) {
        if (attention[g].n_kv_heads == 0) continue;
        PassLayout::Attention& a = layout.attention[g];
        a.rows_dispatch = take(3 * words);
        a.tiles_dispatch = take(3 * words);
        a.merge_dispatch = take(3 * words);
        if (shape.rows[g]) {
            const std::size_t items = std::max(shape.n_rows, max_parts(attention[g].n_kv_heads));
            a.row_items = take(items * sizeof(RowItem));
        }
        if (shape.tiles[g]) a.tile_items = take(shape.n_rows * sizeof(TileItem));
        if (shape.merges[g]) a.merge_items = take(shape.n_rows * sizeof(MergeItem));
        a.pages = take(shape.n_tables * shape.pages_per_slot * words);
    }
    layout.bytes = std::max<std::size_t>(layout.bytes, 16);
    return layout;
}

void write_pass(const device::Batch& batch, const Shapes& attention, const PassShape& shape,
                const PassLayout& layout, std::byte* to) {
    const auto copy = [&](std::size_t at, std::span<const std::int32_t> values) {
        if (!values.empty()) std::memcpy(to + at, values.data(), values.size_bytes());
    };
    copy(layout.tokens, batch.tokens);
    copy(layout.positions, batch.positions);
    copy(layout.logit_rows, batch.logit_rows);
    const auto table_of = [&](std::size_t run) {
        return static_cast<std::int32_t>(run * shape.pages_per_slot);
    };
    auto* const tables = reinterpret_cast<std::int32_t*>(to + layout.tables);
    for (std::size_t r = 0; r < batch.runs.size(); ++r)
        std::fill_n(tables + batch.runs[r].first_row, batch.runs[r].n_rows, table_of(r));

    for (std::size_t g = 0; g < attention.size(); ++g) {
        const AttentionShape& a = attention[g];
        if (a.n_kv_heads == 0) continue;
        const PassLayout::Attention& at = layout.attention[g];
        auto* const pages = reinterpret_cast<std::int32_t*>(to + at.pages);
        for (std::size_t r = 0; r < batch.runs.size(); ++r) {
            // Entries past the last position are not read.
            const device::Run& run = batch.runs[r];
            const auto used = static_cast<std::size_t>(run.first_position + run.n_rows - 1) /
                                  kernels::kPageTokens +
                              1;
            std::copy_n(batch.pages(static_cast<device::LayerGroup>(g), run.slot), used,
                        pages + table_of(r));
        }

        std::uint32_t n_items = 0, n_tiles = 0, n_merges = 0;
        std::int32_t n_parts = 0;
        auto* const items = reinterpret_cast<RowItem*>(to + at.row_items);
        auto* const merges = reinterpret_cast<MergeItem*>(to + at.merge_items);
        for_rows_alone(batch, a,
                       [&](std::int32_t row, std::size_t run, std::size_t first,
                           std::size_t position, std::size_t span) {
                           const bool split = position - first >= span;
                           const std::int32_t first_part = n_parts;
                           for (std::size_t key = first; key <= position; key += span) {
                               RowItem& item = items[n_items++];
                               item = {};
                               item.row = row;
                               item.table = table_of(run);
                               item.first_key = static_cast<std::int32_t>(key);
                               item.last_key =
                                   static_cast<std::int32_t>(std::min(position, key + span - 1));
                               item.part = split ? n_parts++ : -1;
                           }
                           if (split)
                               merges[n_merges++] = {row, first_part, n_parts - first_part, 0};
                       });
        UNICORN_CHECK(static_cast<std::size_t>(n_parts) <= max_parts(a.n_kv_heads));
        const std::size_t group = a.n_heads / a.n_kv_heads;
        auto* const tiles = reinterpret_cast<TileItem*>(to + at.tile_items);
        for (std::size_t r = 0; r < batch.runs.size(); ++r) {
            const device::Run& run = batch.runs[r];
            if (!in_tiles(run, a)) continue;
            const auto step = static_cast<std::int32_t>(tile_rows(group));
            // Rows that see most keys go first, so that the end of a dispatch is short work.
            for (std::int32_t i = (run.n_rows - 1) / step * step; i >= 0; i -= step) {
                tiles[n_tiles++] = {run.first_row + i, std::min(step, run.n_rows - i),
                                    run.first_position + i, table_of(r)};
            }
        }
        const auto dispatch = [&](std::size_t offset, std::uint32_t x, std::size_t y) {
            const std::array<std::uint32_t, 3> groups = {x, static_cast<std::uint32_t>(y), 1};
            std::memcpy(to + offset, groups.data(), sizeof(groups));
        };
        dispatch(at.rows_dispatch, n_items, a.n_kv_heads);
        dispatch(at.tiles_dispatch, n_tiles, a.n_kv_heads);
        dispatch(at.merge_dispatch, n_merges, a.n_heads);
    }
}

}  // namespace unicorn::backends::vulkan
