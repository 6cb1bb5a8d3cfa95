// Every step but attention: how its work is split over the threads of a team.

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>

#include "backends/cpu/cpu_program.h"
#include "backends/cpu/work.h"
#include "base/check.h"
#include "kernels/dequantize.h"
#include "kernels/gated_gelu.h"
#include "kernels/kv_page.h"
#include "kernels/logits.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace unicorn::backends::cpu {
namespace {

using device::TensorRef;
using kernels::kPanelRows;

float* row(const TensorRef& t, std::size_t r) {
    return reinterpret_cast<float*>(t.host) + r * t.cols;
}

std::span<float> row_span(const TensorRef& t, std::size_t r) { return {row(t, r), t.cols}; }

/// Weights are multiplied in units of 16 rows, whatever their layout.
std::size_t n_units(const TensorRef& w) { return (w.rows + kPanelRows - 1) / kPanelRows; }

/// Units that a thread takes at a time: eight turns for each thread, so that one that is held up
/// costs the others little; with many rows no fewer than kTileRows, for the kernel's sake.
std::size_t turn(std::size_t units, std::size_t n_rows, const Team& team) {
    constexpr std::size_t kManyRows = 16;
    const std::size_t least = n_rows >= kManyRows ? kTileRows / kPanelRows : 1;
    return std::max(least, units / (team.size() * 8));
}

}  // namespace

/// Rows of activations in the forms that the weights of a step take.
struct CpuProgram::Rows {
    std::array<kernels::QuantizedRows, 2> quantized;  // by is_wide(type)
    const float* x = nullptr;                         // [count, cols]
    std::size_t count = 0;

    /// out[t, 0..] = units [first, last) of w times the rows; `out` is the place of the first
    /// unit's first row.
    void multiply(kernels::Isa isa, const TensorRef& w, std::size_t first, std::size_t last,
                  float* out, std::size_t out_stride) const {
        const std::size_t first_row = first * kPanelRows;
        const std::size_t n_rows = std::min(last * kPanelRows, w.rows) - first_row;
        if (w.layout == device::Layout::panels) {
            const std::byte* panels = w.host + first * kernels::panel_bytes(w.type, w.cols);
            kernels::matmul_packed(isa, {w.type, n_rows, w.cols, panels},
                                   quantized[is_wide(w.type) ? 1 : 0], 0, last - first, out,
                                   out_stride);
        } else {
            const tensor::MatrixView view{w.type, n_rows, w.cols,
                                          w.host + first_row * tensor::row_bytes(w.type, w.cols)};
            kernels::matmul_float(isa, view, x, w.cols, count, 0, n_rows, out, out_stride);
        }
    }
};

/// This thread's part of the quantised forms; a barrier must follow. Row t lies at row_of(t), and x
/// is left for the caller to set.
template <typename RowOf>
CpuProgram::Rows CpuProgram::input_rows(std::span<const TensorRef> weights, std::size_t n_rows,
                                        std::size_t cols, const RowOf& row_of, Team& team) const {
    Rows rows{scratch_.quantized, nullptr, n_rows};
    const Range mine = team.split(n_rows);
    for (std::size_t wide = 0; wide < 2; ++wide) {
        rows.quantized[wide].n_rows = n_rows;
        rows.quantized[wide].cols = cols;
        const bool wanted = std::ranges::any_of(weights, [&](const TensorRef& w) {
            return w.layout == device::Layout::panels && is_wide(w.type) == (wide == 1);
        });
        if (!wanted) continue;
        for (std::size_t t = mine.begin; t < mine.end; ++t)
            kernels::quantize_row(isa_, row_of(t), t, rows.quantized[wide]);
    }
    return rows;
}

void CpuProgram::run_step(const device::Embed& step, Context& context) {
    const Range rows = context.team.split(context.batch.n_rows());
    const std::size_t bytes = tensor::row_bytes(step.weights.type, step.weights.cols);
    for (std::size_t t = rows.begin; t < rows.end; ++t) {
        const std::span<float> out = row_span(step.out, t);
        const auto* ids = reinterpret_cast<const std::int32_t*>(context.batch.picked.host);
        const auto token =
            static_cast<std::size_t>(ids != nullptr ? ids[t] : context.batch.tokens[t]);
        kernels::dequantize_row(step.weights.type, step.weights.host + token * bytes, out);
        for (float& value : out) value *= step.scale;
    }
}

void CpuProgram::run_step(const device::RmsNorm& step, Context& context) {
    const Range rows = context.team.split(context.batch.n_rows());
    for (std::size_t t = rows.begin; t < rows.end; ++t) {
        kernels::rms_norm(isa_, row_span(step.out, t), row_span(step.x, t), row_span(step.gain, 0),
                          step.eps);
    }
}

void CpuProgram::run_step(const device::AddNorm& step, Context& context) {
    const Range rows = context.team.split(context.batch.n_rows());
    for (std::size_t t = rows.begin; t < rows.end; ++t) {
        kernels::add_rms_norm(isa_, row_span(step.residual, t), row_span(step.branch, t),
                              row_span(step.branch_gain, 0), row_span(step.next_gain, 0), step.eps,
                              row_span(step.out, t));
    }
}

void CpuProgram::run_step(const device::Project& step, Context& context) {
    const std::size_t n_rows = context.batch.n_rows();
    Rows x = input_rows(
        std::span(step.weights).first(step.count), n_rows, step.x.cols,
        [&](std::size_t t) { return row(step.x, t); }, context.team);
    x.x = row(step.x, 0);
    context.team.barrier();

    std::size_t units = 0;
    for (std::size_t i = 0; i < step.count; ++i) units += n_units(step.weights[i]);
    take_turns(context.next, units, turn(units, n_rows, context.team),
               [&](std::size_t first, std::size_t last) {
                   // The matrices' units follow each other; a turn may span two of them.
                   std::size_t offset = 0;
                   for (std::size_t i = 0; i < step.count; ++i) {
                       const TensorRef& w = step.weights[i];
                       const std::size_t end = offset + n_units(w);
                       const std::size_t a = std::max(first, offset), b = std::min(last, end);
                       if (a < b) {
                           x.multiply(isa_, w, a - offset, b - offset,
                                      row(step.outs[i], 0) + (a - offset) * kPanelRows,
                                      step.outs[i].cols);
                       }
                       offset = end;
                   }
               });
}

void CpuProgram::run_step(const device::GatedFfn& step, Context& context) {
    const std::size_t n_rows = context.batch.n_rows();
    Rows x = input_rows(
        std::array{step.gate, step.up}, n_rows, step.x.cols,
        [&](std::size_t t) { return row(step.x, t); }, context.team);
    x.x = row(step.x, 0);
    context.team.barrier();

    float* const gate = scratch_.gate_tile[context.team.index()];
    float* const up = scratch_.up_tile[context.team.index()];
    constexpr std::size_t kTileUnits = kTileRows / kPanelRows;
    const std::size_t units = n_units(step.gate);
    take_turns(
        context.next, units, turn(units, n_rows, context.team),
        [&](std::size_t first, std::size_t last) {
            for (std::size_t a = first; a < last; a += kTileUnits) {
                const std::size_t b = std::min(last, a + kTileUnits);
                const std::size_t first_row = a * kPanelRows;
                const std::size_t width = std::min(b * kPanelRows, step.gate.rows) - first_row;
                x.multiply(isa_, step.gate, a, b, gate, kTileRows);
                x.multiply(isa_, step.up, a, b, up, kTileRows);
                for (std::size_t t = 0; t < n_rows; ++t) {
                    kernels::gated_gelu(isa_, {row(step.out, t) + first_row, width},
                                        {gate + t * kTileRows, width}, {up + t * kTileRows, width});
                }
            }
        });
}

void CpuProgram::run_step(const device::Head& step, Context& context) {
    const auto logit_rows = context.batch.logit_rows;
    const std::size_t n_rows = logit_rows.size();
    const std::size_t cols = step.x.cols;
    const auto row_of = [&](std::size_t i) {
        return row(step.x, static_cast<std::size_t>(logit_rows[i]));
    };
    Rows x = input_rows({&step.weights, 1}, n_rows, cols, row_of, context.team);
    if (step.weights.layout != device::Layout::panels) {
        const Range mine = context.team.split(n_rows);
        for (std::size_t i = mine.begin; i < mine.end; ++i)
            std::memcpy(scratch_.gathered + i * cols, row_of(i), cols * sizeof(float));
        x.x = scratch_.gathered;
    }
    context.team.barrier();

    const std::size_t units = n_rows == 0 ? 0 : n_units(step.weights);
    take_turns(context.next, units, turn(units, n_rows, context.team),
               [&](std::size_t first, std::size_t last) {
                   x.multiply(isa_, step.weights, first, last,
                              row(step.logits, 0) + first * kPanelRows, step.logits.cols);
               });
}

void CpuProgram::run_step(const device::PickLargest& step, Context& context) {
    const Range rows = context.team.split(context.batch.logit_rows.size());
    for (std::size_t i = rows.begin; i < rows.end; ++i) {
        const std::span<float> logits = row_span(step.logits, i).first(step.n_vocab);
        const float most = kernels::clean_logits(isa_, logits, logits);
        const bool any = most > -std::numeric_limits<float>::infinity();
        reinterpret_cast<std::int32_t*>(step.ids.host)[i] =
            any ? static_cast<std::int32_t>(std::ranges::find(logits, most) - logits.begin()) : -1;
    }
}

// supports() refuses it.
void CpuProgram::run_step(const device::Sample&, Context&) { UNICORN_CHECK(false); }

// The barriers before and after these two make every thread wait for the gate, and the gate for
// every thread.
void CpuProgram::run_step(const device::AwaitWeights& step, Context& context) {
    if (context.team.index() == 0) step.gate->acquire(step.unit);
}

void CpuProgram::run_step(const device::ReleaseWeights& step, Context& context) {
    if (context.team.index() == 0) step.gate->release(step.unit);
}

void CpuProgram::run_step(const device::QkvToCache& step, Context& context) {
    const RopeTable& table = rope_table(step);
    const std::size_t e = step.head_dim, half = e / 2;
    const std::size_t vectors = step.n_heads + 2 * step.n_kv_heads;  // of a row: q, then k, then v
    const Range mine = context.team.split(context.batch.n_rows() * vectors);
    const std::size_t page_bytes = kernels::kv_page_bytes(step.cache.k.type, e);
    std::size_t run_index = 0;
    for (std::size_t i = mine.begin; i < mine.end; ++i) {
        const std::size_t t = i / vectors;
        std::size_t vector = i % vectors;
        const std::span<const float> cos{table.cos + t * half, half},
            sin{table.sin + t * half, half};
        if (vector < step.n_heads) {
            kernels::norm_rope(isa_, {row(step.q, t) + vector * e, e}, row_span(step.q_gain, 0),
                               step.eps, cos, sin);
            continue;
        }
        vector -= step.n_heads;
        const bool is_k = vector < step.n_kv_heads;
        const std::size_t head = is_k ? vector : vector - step.n_kv_heads;
        const std::span<float> x{row(is_k ? step.k : step.v, t) + head * e, e};
        if (is_k) kernels::norm_rope(isa_, x, row_span(step.k_gain, 0), step.eps, cos, sin);

        const auto& runs = context.batch.runs;
        while (static_cast<std::size_t>(runs[run_index].first_row + runs[run_index].n_rows) <= t)
            ++run_index;
        const auto position = static_cast<std::size_t>(context.batch.positions[t]);
        const std::int32_t* pages = context.batch.pages(step.cache.group, runs[run_index].slot);
        const auto page = static_cast<std::size_t>(pages[position / kernels::kPageTokens]);
        std::byte* const pool = is_k ? step.cache.k.host : step.cache.v.host;
        kernels::store_kv(isa_, step.cache.k.type,
                          pool + (page * step.n_kv_heads + head) * page_bytes,
                          position % kernels::kPageTokens, x);
    }
}

}  // namespace unicorn::backends::cpu
