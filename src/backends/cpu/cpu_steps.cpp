// Every step but attention: how its work is split over the threads of a team.

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "backends/cpu/cpu_program.h"
#include "backends/cpu/work.h"
#include "kernels/dequantize.h"
#include "kernels/gated_gelu.h"
#include "kernels/kv_page.h"
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

/// Rows of activations in both forms; which one is read depends on the weights.
struct Rows {
    const kernels::QuantizedRows* quantized = nullptr;
    const float* x = nullptr;  // [count, cols]
    std::size_t count = 0;
};

/// out[t, 0..] = units [first, last) of w times x; `out` is the place of the first unit's first
/// row.
void multiply(kernels::Isa isa, const TensorRef& w, const Rows& x, std::size_t first,
              std::size_t last, float* out, std::size_t out_stride) {
    const std::size_t first_row = first * kPanelRows;
    const std::size_t n_rows = std::min(last * kPanelRows, w.rows) - first_row;
    if (w.layout == device::Layout::panels) {
        const std::byte* panels = w.host + first * kernels::panel_bytes(w.type, w.cols);
        kernels::matmul_packed(isa, {w.type, n_rows, w.cols, panels}, *x.quantized, 0, last - first,
                               out, out_stride);
    } else {
        const tensor::MatrixView view{w.type, n_rows, w.cols,
                                      w.host + first_row * tensor::row_bytes(w.type, w.cols)};
        kernels::matmul_float(isa, view, x.x, w.cols, x.count, 0, n_rows, out, out_stride);
    }
}

/// Columns that share a scale where rows meet these weights: matrices of several types may share
/// rows, and the widest group serves all. 0 when none of them takes quantised rows.
std::size_t scale_columns(std::span<const TensorRef> weights) {
    std::size_t columns = 0;
    for (const TensorRef& w : weights)
        if (w.layout == device::Layout::panels)
            columns = std::max(columns, kernels::scale_columns(w.type));
    return columns;
}

/// The scratch rows as `n_rows` rows of `cols`.
kernels::QuantizedRows shaped(kernels::QuantizedRows rows, std::size_t n_rows, std::size_t cols) {
    rows.n_rows = n_rows;
    rows.cols = cols;
    return rows;
}

}  // namespace

void CpuProgram::run_step(const device::Embed& step, Context& context) {
    const Range rows = context.team.split(context.batch.n_rows());
    const std::size_t bytes = tensor::row_bytes(step.weights.type, step.weights.cols);
    for (std::size_t t = rows.begin; t < rows.end; ++t) {
        const std::span<float> out = row_span(step.out, t);
        const auto token = static_cast<std::size_t>(context.batch.tokens[t]);
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
    const kernels::QuantizedRows quantized = shaped(scratch_.quantized, n_rows, step.x.cols);
    if (const std::size_t columns = scale_columns(std::span(step.weights).first(step.count))) {
        const Range rows = context.team.split(n_rows);
        kernels::quantize_rows(isa_, row(step.x, 0), step.x.cols, rows.begin, rows.end, quantized,
                               columns);
    }
    context.team.barrier();

    const Rows x{&quantized, row(step.x, 0), n_rows};
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
                           multiply(isa_, w, x, a - offset, b - offset,
                                    row(step.outs[i], 0) + (a - offset) * kPanelRows,
                                    step.outs[i].cols);
                       }
                       offset = end;
                   }
               });
}

void CpuProgram::run_step(const device::GatedFfn& step, Context& context) {
    const std::size_t n_rows = context.batch.n_rows();
    const kernels::QuantizedRows quantized = shaped(scratch_.quantized, n_rows, step.x.cols);
    if (const std::size_t columns = scale_columns(std::array{step.gate, step.up})) {
        const Range rows = context.team.split(n_rows);
        kernels::quantize_rows(isa_, row(step.x, 0), step.x.cols, rows.begin, rows.end, quantized,
                               columns);
    }
    context.team.barrier();

    const Rows x{&quantized, row(step.x, 0), n_rows};
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
                multiply(isa_, step.gate, x, a, b, gate, kTileRows);
                multiply(isa_, step.up, x, a, b, up, kTileRows);
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
    const std::size_t columns = scale_columns({&step.weights, 1});
    const kernels::QuantizedRows quantized = shaped(scratch_.quantized, n_rows, cols);
    const Range mine = context.team.split(n_rows);
    for (std::size_t i = mine.begin; i < mine.end; ++i) {
        const float* x = row(step.x, static_cast<std::size_t>(logit_rows[i]));
        if (columns > 0) {
            const kernels::QuantizedRows one{1, cols, quantized.codes + i * cols,
                                             quantized.scales + i * (cols / kernels::kGroup),
                                             quantized.sums + i * (cols / (kernels::kGroup / 2))};
            kernels::quantize_rows(isa_, x, cols, 0, 1, one, columns);
        } else {
            std::memcpy(scratch_.gathered + i * cols, x, cols * sizeof(float));
        }
    }
    context.team.barrier();

    const Rows x{&quantized, scratch_.gathered, n_rows};
    const std::size_t units = n_rows == 0 ? 0 : n_units(step.weights);
    take_turns(context.next, units, turn(units, n_rows, context.team),
               [&](std::size_t first, std::size_t last) {
                   multiply(isa_, step.weights, x, first, last,
                            row(step.logits, 0) + first * kPanelRows, step.logits.cols);
               });
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
