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
// Fewer keys are not worth merging.
constexpr std::size_t kLeastSplitKeys = 256;
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

/// Spans of one row at most.
std::size_t most_spans(std::size_t n_rows_alone, const AttentionShape& a) {
    return std::max<std::size_t>(1, kSpanWorkgroups / (a.n_kv_heads * n_rows_alone));
}

/// Keys of a span, for a row that sees `n_keys` of them.
std::size_t span_keys(std::size_t n_keys, std::size_t n_rows_alone, const AttentionShape& a) {
    if (n_keys <= kLeastSplitKeys) return kLeastSplitKeys;
    const std::size_t most = most_spans(n_rows_alone, a);
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
        if (shape.rows[g]) {
            const AttentionShape& of = attention[g];
            a.n_row_items = std::max(shape.n_rows, max_parts(of.n_kv_heads));
            if (!shape.tiles[g]) {
                const std::size_t seen =
                    of.window == 0 ? shape.depth : std::min(shape.depth, of.window);
                a.n_row_items = shape.n_rows * std::min(most_spans(shape.n_rows, of),
                                                        (seen + kSpanGrain - 1) / kSpanGrain);
            }
            a.row_items = take(a.n_row_items * sizeof(RowItem));
        }
        if (shape.tiles[g]) {
            const std::size_t group = attention[g].n_heads / attention[g].n_kv_heads;
            a.n_tile_items = shape.n_rows / tile_rows(group) + shape.n_tables;
            a.tile_items = take(a.n_tile_items * sizeof(TileItem));
        }
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

        std::size_t n_items = 0, n_tiles = 0;
        std::int32_t n_parts = 0;
        auto* const items = reinterpret_cast<RowItem*>(to + at.row_items);
        for_rows_alone(
            batch, a,
            [&](std::int32_t row, std::size_t run, std::size_t first, std::size_t position,
                std::size_t span) {
                const bool split = position - first >= span;
                const std::int32_t first_part = n_parts;
                const auto n_spans = static_cast<std::int32_t>((position - first) / span + 1);
                for (std::size_t key = first; key <= position; key += span) {
                    RowItem& item = items[n_items++];
                    item = {};
                    item.row = row;
                    item.table = table_of(run);
                    item.first_key = static_cast<std::int32_t>(key);
                    item.last_key = static_cast<std::int32_t>(std::min(position, key + span - 1));
                    item.part = split ? n_parts++ : -1;
                    item.first_part = first_part;
                    item.n_parts = n_spans;
                }
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
        UNICORN_CHECK(n_items <= at.n_row_items && n_tiles <= at.n_tile_items);
        for (; n_items < at.n_row_items; ++n_items) {
            items[n_items] = {};
            items[n_items].row = -1;
        }
        for (; n_tiles < at.n_tile_items; ++n_tiles) tiles[n_tiles] = {-1, 0, 0, 0};
    }
}

}  // namespace unicorn::backends::vulkan
