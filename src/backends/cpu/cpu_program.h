#pragma once
// Steps made ready for the CPU: shapes checked, scratch memory sized, work counters in place.

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "device/device.h"
#include "kernels/isa.h"
#include "kernels/matmul.h"

namespace unicorn::backends::cpu {

/// cos and sin of every row's RoPE angles for one (base, divisor), filled at the start of a pass.
struct RopeTable {
    double base = 0;
    double divisor = 1;
    std::size_t head_dim = 0;
    float* cos = nullptr;  // [max_rows, E/2]
    float* sin = nullptr;
};

/// Whether weights of this type take activations whose scales are shared by more than a group.
inline bool is_wide(tensor::DType type) { return kernels::scale_columns(type) > kernels::kGroup; }

/// Memory that steps share, one after the other.
struct Scratch {
    // [max_rows, widest input of a quantised matrix], by is_wide(type): the two widths of a scale.
    std::array<kernels::QuantizedRows, 2> quantized;
    float* gathered = nullptr;               // [max_rows, D]: the head's rows of float models
    std::vector<float*> gate_tile, up_tile;  // by thread: [max_rows, kTileRows]
    std::vector<float*> attention;           // by thread: kernel scratch and 2 x 8 partial rows
    float* partials = nullptr;  // [partial_rows, partial_stride]: acc, then max and sum
    std::size_t partial_rows = 0;
    std::size_t partial_stride = 0;
};

/// Rows of gate and up that are computed before their product is taken. matmul_packed lays its
/// activations out once a call, so prompts want many panels in one: 16 instead of 4 gained 22 % on
/// gate and up of 4B in Q4_0.
inline constexpr std::size_t kTileRows = 16 * kernels::kPanelRows;

/// What programs of the forward pass take for scratch depends on this.
struct ScratchShape {
    std::size_t max_rows = 0;
    std::size_t n_threads = 0;
    /// Of the widest input of a quantised matrix whose type is_wide() says no (yes) of; 0: none.
    std::size_t quantized_cols[2] = {};
    std::size_t gathered_cols = 0;   // D, where the head is a float matrix
    bool tiles = false;              // there is a gated FFN
    std::size_t head_dim = 0;        // 0: no attention
    std::size_t kv_pool_tokens = 0;  // that the largest pool of the KV cache holds
    std::size_t n_rope_tables = 0;
};

/// Bytes of scratch that a program takes.
std::size_t scratch_bytes(const ScratchShape& shape);

class CpuProgram final : public device::Program {
public:
    static bool supports(const device::Step& step);
    static Result<std::unique_ptr<CpuProgram>> create(std::span<const device::Step> steps,
                                                      std::size_t max_rows, kernels::Isa isa,
                                                      std::size_t n_threads,
                                                      memory::TierAllocator& host);

    /// On one thread, before run(): resets the work counters.
    void begin(const device::Batch& batch);
    /// On every thread of the team. Thread 0 adds the time of each step, waits included, to
    /// `seconds`.
    void run(Team& team, const device::Batch& batch, device::StepSeconds& seconds);

private:
    // What a step is run with.
    struct Context {
        Team& team;
        const device::Batch& batch;
        std::atomic<std::size_t>& next;  // first item of the step that no thread has taken
    };

    CpuProgram() = default;
    Status lay_out_scratch(std::size_t max_rows, std::size_t n_threads,
                           memory::TierAllocator& host);
    const RopeTable& rope_table(const device::QkvToCache& step) const;
    void fill_rope_tables(Team& team, const device::Batch& batch);

    struct Rows;
    template <typename RowOf>
    Rows input_rows(std::span<const device::TensorRef> weights, std::size_t n_rows,
                    std::size_t cols, const RowOf& row_of, Team& team) const;

    void run_step(const device::Embed& step, Context& context);
    void run_step(const device::RmsNorm& step, Context& context);
    void run_step(const device::Project& step, Context& context);
    void run_step(const device::QkvToCache& step, Context& context);
    void run_step(const device::Attention& step, Context& context);
    void run_step(const device::GatedFfn& step, Context& context);
    void run_step(const device::AddNorm& step, Context& context);
    void run_step(const device::Head& step, Context& context);
    void run_step(const device::PickLargest& step, Context& context);
    void run_step(const device::Sample& step, Context& context);
    void run_step(const device::AwaitWeights& step, Context& context);
    void run_step(const device::ReleaseWeights& step, Context& context);

    void attend_rows(const device::Attention& step, Context& context);
    void attend_spans(const device::Attention& step, Context& context);

    std::vector<device::Step> steps_;
    kernels::Isa isa_ = kernels::Isa::scalar;
    std::size_t max_rows_ = 0;
    std::unique_ptr<std::atomic<std::size_t>[]> next_;  // by step
    std::vector<RopeTable> rope_tables_;
    Scratch scratch_;
    memory::Allocation memory_;
};

}  // namespace unicorn::backends::cpu
