// Attention: how queries are grouped into blocks that share a pass over the keys, and how blocks
// (and, when there are few, spans of keys) are spread over threads.

#include <algorithm>
#include <limits>

#include "backends/cpu/cpu_program.h"
#include "backends/cpu/work.h"
#include "base/check.h"
#include "kernels/attention.h"

namespace unicorn::backends::cpu {
namespace {

using kernels::kMaxQueries;
using kernels::kSpanTokens;

/// The blocks of a step over a batch. A block is up to kMaxQueries query vectors of one KV head of
/// one run: the heads of its group, for as many neighbouring rows as there is room for.
class Blocks {
public:
    Blocks(const device::Attention& step, const device::Batch& batch) : step_(step), batch_(batch) {
        const std::size_t group = step.n_heads / step.n_kv_heads;
        heads_ = std::min(group, kMaxQueries);
        head_blocks_ = (group + heads_ - 1) / heads_;
        rows_ = kMaxQueries / heads_;
        for (const device::Run& run : batch.runs) {
            count_ += row_blocks(run) * per_row_block();
            last_position_ = std::max(last_position_, run.first_position + run.n_rows - 1);
            first_key_ = std::min(first_key_, first_key(run.first_position));
        }
    }

    std::size_t count() const { return count_; }
    /// Spans first_span() to first_span() + spans() - 1 hold every key of any query.
    std::size_t first_span() const { return static_cast<std::size_t>(first_key_) / kSpanTokens; }
    std::size_t spans() const {
        return static_cast<std::size_t>(last_position_) / kSpanTokens + 1 - first_span();
    }

    struct Block {
        kernels::KvHead kv;
        kernels::Queries queries;
        float* out[kMaxQueries];

        std::size_t first_span() const {
            return static_cast<std::size_t>(
                       *std::min_element(queries.first_key, queries.first_key + queries.count)) /
                   kSpanTokens;
        }
        std::size_t last_span() const {
            return static_cast<std::size_t>(
                       *std::max_element(queries.last_key, queries.last_key + queries.count)) /
                   kSpanTokens;
        }
    };

    Block at(std::size_t index) const {
        std::size_t run_index = 0;
        while (index >= row_blocks(batch_.runs[run_index]) * per_row_block()) {
            index -= row_blocks(batch_.runs[run_index++]) * per_row_block();
        }
        const device::Run& run = batch_.runs[run_index];
        // Neighbouring indices are neighbouring rows of one head: they read the same keys.
        const std::size_t n_row_blocks = row_blocks(run);
        const std::size_t row_block = index % n_row_blocks;
        const std::size_t head_block = index / n_row_blocks % head_blocks_;
        const std::size_t kv_head = index / n_row_blocks / head_blocks_;

        const std::size_t e = step_.head_dim, group = step_.n_heads / step_.n_kv_heads;
        Block block;
        block.kv.head_dim = e;
        block.kv.type = step_.cache.k.type;
        const std::size_t page_bytes = kernels::kv_page_bytes(block.kv.type, e);
        block.kv.page_stride = step_.n_kv_heads * page_bytes;
        block.kv.pages = batch_.pages(step_.cache.group, run.slot);
        block.kv.k = step_.cache.k.host + kv_head * page_bytes;
        block.kv.v = step_.cache.v.host + kv_head * page_bytes;
        const std::size_t end = std::min<std::size_t>(run.n_rows, (row_block + 1) * rows_);
        for (std::size_t r = row_block * rows_; r < end; ++r) {
            const std::int32_t position = run.first_position + static_cast<std::int32_t>(r);
            const std::size_t head_end = std::min(group, (head_block + 1) * heads_);
            for (std::size_t h = head_block * heads_; h < head_end; ++h) {
                const std::size_t offset =
                    (static_cast<std::size_t>(run.first_row) + r) * step_.n_heads * e +
                    (kv_head * group + h) * e;
                const std::size_t i = block.queries.count++;
                block.queries.q[i] = reinterpret_cast<const float*>(step_.q.host) + offset;
                block.out[i] = reinterpret_cast<float*>(step_.out.host) + offset;
                block.queries.first_key[i] = first_key(position);
                block.queries.last_key[i] = position;
            }
        }
        return block;
    }

private:
    std::size_t row_blocks(const device::Run& run) const {
        return (static_cast<std::size_t>(run.n_rows) + rows_ - 1) / rows_;
    }
    std::int32_t first_key(std::int32_t position) const {
        return step_.window == 0
                   ? 0
                   : std::max(0, position + 1 - static_cast<std::int32_t>(step_.window));
    }
    std::size_t per_row_block() const { return step_.n_kv_heads * head_blocks_; }

    const device::Attention& step_;
    const device::Batch& batch_;
    std::size_t heads_ = 1, head_blocks_ = 1, rows_ = 1;
    std::size_t count_ = 0;
    std::int32_t last_position_ = 0;
    std::int32_t first_key_ = std::numeric_limits<std::int32_t>::max();
};

}  // namespace

void CpuProgram::run_step(const device::Attention& step, Context& context) {
    // Enough blocks keep every thread busy; few of them (decoding) are split by spans of keys. Both
    // give the same bits: spans are computed alone and merged in order either way.
    const Blocks blocks(step, context.batch);
    const bool few = blocks.count() < 2 * context.team.size() && context.team.size() > 1;
    const std::size_t partial_rows = blocks.count() * kMaxQueries * blocks.spans();
    if (few && blocks.spans() > 1 && partial_rows <= scratch_.partial_rows) {
        attend_spans(step, context);
    } else {
        attend_rows(step, context);
    }
}

void CpuProgram::attend_rows(const device::Attention& step, Context& context) {
    const Blocks blocks(step, context.batch);
    const std::size_t e = step.head_dim;
    float* const scratch = scratch_.attention[context.team.index()];
    float* const rows = scratch + kernels::attention_scratch_floats();
    kernels::PartialRow total[kMaxQueries], part[kMaxQueries];
    for (std::size_t i = 0; i < kMaxQueries; ++i) {
        total[i].acc = rows + i * e;
        part[i].acc = rows + (kMaxQueries + i) * e;
    }
    take_turns(context.next, blocks.count(), 1, [&](std::size_t index, std::size_t) {
        const Blocks::Block block = blocks.at(index);
        const std::size_t n = block.queries.count;
        const std::size_t first = block.first_span(), last = block.last_span();
        kernels::attention_span(isa_, block.kv, block.queries, step.scale, first, {total, n},
                                scratch);
        for (std::size_t span = first + 1; span <= last; ++span) {
            kernels::attention_span(isa_, block.kv, block.queries, step.scale, span, {part, n},
                                    scratch);
            for (std::size_t i = 0; i < n; ++i) kernels::merge_partial(isa_, total[i], part[i], e);
        }
        for (std::size_t i = 0; i < n; ++i)
            kernels::finish_partial(isa_, total[i], {block.out[i], e});
    });
}

void CpuProgram::attend_spans(const device::Attention& step, Context& context) {
    const Blocks blocks(step, context.batch);
    const std::size_t e = step.head_dim, n_spans = blocks.spans();
    // The partial row of query i of a block in a span: acc, then max and sum behind it.
    const auto slot = [&](std::size_t block, std::size_t i, std::size_t span) {
        const std::size_t row = (block * kMaxQueries + i) * n_spans + span - blocks.first_span();
        return scratch_.partials + row * scratch_.partial_stride;
    };
    take_turns(context.next, blocks.count() * n_spans, 1, [&](std::size_t item, std::size_t) {
        const std::size_t index = item / n_spans, span = blocks.first_span() + item % n_spans;
        const Blocks::Block block = blocks.at(index);
        if (span < block.first_span() || span > block.last_span()) return;
        kernels::PartialRow parts[kMaxQueries];
        for (std::size_t i = 0; i < block.queries.count; ++i) parts[i].acc = slot(index, i, span);
        kernels::attention_span(isa_, block.kv, block.queries, step.scale, span,
                                {parts, block.queries.count},
                                scratch_.attention[context.team.index()]);
        for (std::size_t i = 0; i < block.queries.count; ++i) {
            parts[i].acc[e] = parts[i].max;
            parts[i].acc[e + 1] = parts[i].sum;
        }
    });
    context.team.barrier();

    const Range mine = context.team.split(blocks.count());
    for (std::size_t index = mine.begin; index < mine.end; ++index) {
        const Blocks::Block block = blocks.at(index);
        for (std::size_t i = 0; i < block.queries.count; ++i) {
            kernels::PartialRow total;
            for (std::size_t span = block.first_span(); span <= block.last_span(); ++span) {
                float* acc = slot(index, i, span);
                const kernels::PartialRow part{acc[e], acc[e + 1], acc};
                if (total.acc == nullptr) {
                    total = part;
                } else {
                    kernels::merge_partial(isa_, total, part, e);
                }
            }
            kernels::finish_partial(isa_, total, {block.out[i], e});
        }
    }
}

}  // namespace unicorn::backends::cpu
