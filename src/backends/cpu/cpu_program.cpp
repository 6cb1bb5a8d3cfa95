#include "backends/cpu/cpu_program.h"

#include <algorithm>
#include <chrono>
#include <type_traits>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/rope.h"

namespace unicorn::backends::cpu {
namespace {

using device::TensorRef;

constexpr std::size_t kAlignment = 64;
// Partial attention rows kept at once: enough for 512 spans (128K tokens) of 8 KV heads with 8
// queries each; a pass that would need more attends row by row instead.
constexpr std::size_t kMaxPartialRows = 32768;

bool on_host(const TensorRef& t) { return t.host != nullptr; }

/// A matrix that can be multiplied here: quantised types in panels, others as they lie.
bool multiplies(const TensorRef& w) {
    const bool quantized = tensor::info(w.type).quantized;
    const auto layout = quantized ? device::Layout::panels : device::Layout::rows;
    return on_host(w) && w.layout == layout &&
           (!quantized || (w.cols % kernels::kGroup == 0 && w.cols <= kernels::kMaxCols));
}

bool is_f32(const TensorRef& t) { return on_host(t) && t.type == tensor::DType::f32; }

/// Whether `out` has the columns for a row of `cols` values.
bool has_cols(const TensorRef& t, std::size_t cols) { return is_f32(t) && t.cols == cols; }

bool is_gain(const TensorRef& t, std::size_t cols) { return has_cols(t, cols) && t.rows == 1; }

bool projects(const TensorRef& w, const TensorRef& x, const TensorRef& out) {
    return multiplies(w) && has_cols(x, w.cols) && has_cols(out, w.rows);
}

bool caches(const device::KvCache& cache, std::size_t head_dim) {
    return on_host(cache.k) && on_host(cache.v) && cache.v.type == cache.k.type &&
           cache.k.cols == head_dim && cache.v.cols == head_dim &&
           kernels::can_cache(cache.k.type, head_dim);
}

struct Supports {
    bool operator()(const device::Embed& s) const {
        return on_host(s.weights) && s.weights.layout == device::Layout::rows &&
               has_cols(s.out, s.weights.cols);
    }
    bool operator()(const device::RmsNorm& s) const {
        return is_f32(s.x) && is_gain(s.gain, s.x.cols) && has_cols(s.out, s.x.cols);
    }
    bool operator()(const device::Project& s) const {
        bool ok = s.count >= 1 && s.count <= s.weights.size();
        for (std::size_t i = 0; ok && i < s.count; ++i) ok = projects(s.weights[i], s.x, s.outs[i]);
        return ok;
    }
    bool operator()(const device::QkvToCache& s) const {
        const std::size_t kv_cols = s.n_kv_heads * s.head_dim;
        return has_cols(s.q, s.n_heads * s.head_dim) && has_cols(s.k, kv_cols) &&
               has_cols(s.v, kv_cols) && is_gain(s.q_gain, s.head_dim) &&
               is_gain(s.k_gain, s.head_dim) && caches(s.cache, s.head_dim);
    }
    bool operator()(const device::Attention& s) const {
        return has_cols(s.q, s.n_heads * s.head_dim) && has_cols(s.out, s.q.cols) &&
               caches(s.cache, s.head_dim) && s.n_kv_heads > 0 && s.n_heads % s.n_kv_heads == 0;
    }
    bool operator()(const device::GatedFfn& s) const {
        return projects(s.gate, s.x, s.out) && projects(s.up, s.x, s.out);
    }
    bool operator()(const device::AddNorm& s) const {
        const std::size_t cols = s.residual.cols;
        return is_f32(s.residual) && has_cols(s.branch, cols) && is_gain(s.branch_gain, cols) &&
               is_gain(s.next_gain, cols) && has_cols(s.out, cols);
    }
    bool operator()(const device::Head& s) const { return projects(s.weights, s.x, s.logits); }
    bool operator()(const device::PickLargest& s) const {
        return is_f32(s.logits) && on_host(s.ids) && s.ids.cols >= s.logits.rows &&
               s.n_vocab <= s.logits.cols;
    }
    // The CPU reads logits where they are: its sampler is engine/sampler.h.
    bool operator()(const device::Sample&) const { return false; }
    bool operator()(const device::AwaitWeights& s) const { return s.gate != nullptr; }
    bool operator()(const device::ReleaseWeights& s) const { return s.gate != nullptr; }
};

/// What the scratch memory must hold, over all steps.
struct Needs {
    ScratchShape shape;

    void quantized(const TensorRef& w, std::size_t cols) {
        if (w.layout != device::Layout::panels) return;
        std::size_t& most = shape.quantized_cols[is_wide(w.type) ? 1 : 0];
        most = std::max(most, cols);
    }
    void operator()(const device::Project& s) {
        for (std::size_t i = 0; i < s.count; ++i) quantized(s.weights[i], s.x.cols);
    }
    void operator()(const device::GatedFfn& s) {
        quantized(s.gate, s.x.cols);
        quantized(s.up, s.x.cols);
        shape.tiles = true;
    }
    void operator()(const device::Head& s) {
        quantized(s.weights, s.x.cols);
        if (s.weights.layout == device::Layout::rows)
            shape.gathered_cols = std::max(shape.gathered_cols, s.x.cols);
    }
    void operator()(const device::Attention& s) {
        shape.head_dim = std::max(shape.head_dim, s.head_dim);
        const std::size_t tokens = s.cache.k.rows / s.n_kv_heads;  // of the whole pool
        shape.kv_pool_tokens = std::max(shape.kv_pool_tokens, tokens);
    }
    template <typename Other>
    void operator()(const Other&) {}
};

/// Hands out aligned pieces of one allocation; first run without memory to learn the size.
class Layouter {
public:
    explicit Layouter(std::byte* base) : base_(base) {}
    template <typename T>
    T* take(std::size_t count) {
        const std::size_t at = used_;
        used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
        return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
    }
    std::size_t used() const { return used_; }

private:
    std::byte* base_;
    std::size_t used_ = 0;
};

/// Whether the threads of a team touch only "their" rows (Team::split over the batch's rows) when
/// a step begins or ends: between two such steps no thread needs to wait for another.
bool starts_by_rows(const device::Step& step) {
    return std::visit(
        [](const auto& s) {
            using S = std::decay_t<decltype(s)>;
            return std::is_same_v<S, device::Embed> || std::is_same_v<S, device::RmsNorm> ||
                   std::is_same_v<S, device::AddNorm> || std::is_same_v<S, device::Project> ||
                   std::is_same_v<S, device::GatedFfn>;  // the last two quantise by rows first
        },
        step);
}

bool ends_by_rows(const device::Step& step) {
    return std::holds_alternative<device::Embed>(step) ||
           std::holds_alternative<device::RmsNorm>(step) ||
           std::holds_alternative<device::AddNorm>(step);
}

}  // namespace

bool CpuProgram::supports(const device::Step& step) { return std::visit(Supports{}, step); }

Result<std::unique_ptr<CpuProgram>> CpuProgram::create(std::span<const device::Step> steps,
                                                       std::size_t max_rows, kernels::Isa isa,
                                                       std::size_t n_threads,
                                                       memory::TierAllocator& host) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (!supports(steps[i])) {
            return fail(ErrorCode::unsupported, "cpu: step {} ({}) has operands it cannot use", i,
                        device::name(steps[i]));
        }
    }
    auto program = std::unique_ptr<CpuProgram>(new CpuProgram());
    program->steps_.assign(steps.begin(), steps.end());
    program->isa_ = isa;
    program->max_rows_ = max_rows;
    program->next_ = std::make_unique<std::atomic<std::size_t>[]>(steps.size());
    if (auto status = program->lay_out_scratch(max_rows, n_threads, host); !status)
        return forward(status);
    return program;
}

namespace {

std::size_t partial_rows(const ScratchShape& shape) {
    const std::size_t spans =
        shape.head_dim == 0 ? 0 : shape.kv_pool_tokens / kernels::kSpanTokens + 1;
    return std::min(kMaxPartialRows, 2 * shape.n_threads * kernels::kMaxQueries * spans);
}

/// Points `s` and `ropes` into the memory at `base` (nullptr: nowhere); the bytes that takes. `s`
/// has a place for each thread.
std::size_t lay_out(const ScratchShape& shape, std::byte* base, Scratch& s,
                    std::span<RopeTable> ropes) {
    Layouter memory(base);
    s.partial_rows = partial_rows(shape);
    s.partial_stride = shape.head_dim + 16;  // keeps rows aligned; two of the 16 are used
    for (std::size_t wide = 0; wide < 2; ++wide) {
        const std::size_t cols = shape.quantized_cols[wide];
        s.quantized[wide] = {
            0,
            cols,
            memory.take<std::int8_t>(shape.max_rows * cols),
            memory.take<float>(shape.max_rows * cols / kernels::kGroup),
            memory.take<std::int32_t>(shape.max_rows * cols / (kernels::kGroup / 2)),
            wide == 0 ? kernels::kGroup : kernels::kWideScaleColumns};
    }
    s.gathered = memory.take<float>(shape.max_rows * shape.gathered_cols);
    for (std::size_t i = 0; i < shape.n_threads; ++i) {
        s.gate_tile[i] = memory.take<float>(shape.tiles ? shape.max_rows * kTileRows : 0);
        s.up_tile[i] = memory.take<float>(shape.tiles ? shape.max_rows * kTileRows : 0);
        s.attention[i] =
            memory.take<float>(shape.head_dim == 0 ? 0
                                                   : kernels::attention_scratch_floats() +
                                                         2 * kernels::kMaxQueries * shape.head_dim);
    }
    s.partials = memory.take<float>(s.partial_rows * s.partial_stride);
    for (RopeTable& table : ropes) {
        table.cos = memory.take<float>(shape.max_rows * table.head_dim / 2);
        table.sin = memory.take<float>(shape.max_rows * table.head_dim / 2);
    }
    return memory.used();
}

Scratch scratch_for(std::size_t n_threads) {
    Scratch s;
    s.gate_tile.resize(n_threads);
    s.up_tile.resize(n_threads);
    s.attention.resize(n_threads);
    return s;
}

}  // namespace

std::size_t scratch_bytes(const ScratchShape& shape) {
    Scratch scratch = scratch_for(shape.n_threads);
    std::vector<RopeTable> ropes(shape.n_rope_tables, {0, 1, shape.head_dim, nullptr, nullptr});
    return lay_out(shape, nullptr, scratch, ropes);
}

Status CpuProgram::lay_out_scratch(std::size_t max_rows, std::size_t n_threads,
                                   memory::TierAllocator& host) {
    Needs needs;
    for (const device::Step& step : steps_) {
        std::visit(needs, step);
        if (const auto* qkv = std::get_if<device::QkvToCache>(&step)) {
            const bool known = std::ranges::any_of(rope_tables_, [&](const RopeTable& table) {
                return table.base == qkv->rope_base && table.divisor == qkv->rope_divisor;
            });
            if (!known)
                rope_tables_.push_back(
                    {qkv->rope_base, qkv->rope_divisor, qkv->head_dim, nullptr, nullptr});
        }
    }
    needs.shape.max_rows = max_rows;
    needs.shape.n_threads = n_threads;
    scratch_ = scratch_for(n_threads);
    const std::size_t bytes = lay_out(needs.shape, nullptr, scratch_, rope_tables_);
    if (bytes == 0) return {};
    auto memory = host.allocate(bytes, kAlignment);
    if (!memory) return forward(memory);
    memory_ = std::move(*memory);
    lay_out(needs.shape, memory_.host(), scratch_, rope_tables_);
    return {};
}

void CpuProgram::begin(const device::Batch& batch) {
    UNICORN_CHECK(batch.n_rows() <= max_rows_ && batch.logit_rows.size() <= max_rows_);
    for (std::size_t i = 0; i < steps_.size(); ++i) next_[i].store(0, std::memory_order_relaxed);
}

void CpuProgram::run(Team& team, const device::Batch& batch, device::StepSeconds& seconds) {
    using Clock = std::chrono::steady_clock;
    Clock::time_point start = Clock::now();
    fill_rope_tables(team, batch);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        Context context{team, batch, next_[i]};
        std::visit([&](const auto& step) { run_step(step, context); }, steps_[i]);
        // The first barrier also covers the RoPE tables: every pass projects before it rotates.
        const bool last = i + 1 == steps_.size();
        if (!last && !(ends_by_rows(steps_[i]) && starts_by_rows(steps_[i + 1]))) team.barrier();
        if (team.index() == 0) {
            const Clock::time_point now = Clock::now();
            seconds[steps_[i].index()] += std::chrono::duration<double>(now - start).count();
            start = now;
        }
    }
}

void CpuProgram::fill_rope_tables(Team& team, const device::Batch& batch) {
    const Range rows = team.split(batch.n_rows());
    for (const RopeTable& table : rope_tables_) {
        const std::size_t half = table.head_dim / 2;
        for (std::size_t t = rows.begin; t < rows.end; ++t) {
            kernels::rope_angles(batch.positions[t], table.base, table.divisor,
                                 {table.cos + t * half, half}, {table.sin + t * half, half});
        }
    }
}

const RopeTable& CpuProgram::rope_table(const device::QkvToCache& step) const {
    return *std::ranges::find_if(rope_tables_, [&](const RopeTable& table) {
        return table.base == step.rope_base && table.divisor == step.rope_divisor;
    });
}

}  // namespace unicorn::backends::cpu
