#include "backends/vulkan/compute_program.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "backends/vulkan/attend_matrices.comp.h"
#include "backends/vulkan/attend_rows.comp.h"
#include "backends/vulkan/attend_shape.h"
#include "backends/vulkan/attend_tiles.comp.h"
#include "backends/vulkan/attention.params.h"
#include "backends/vulkan/embed.comp.h"
#include "backends/vulkan/embed.params.h"
#include "backends/vulkan/gated_gelu.comp.h"
#include "backends/vulkan/gated_gelu.params.h"
#include "backends/vulkan/gather_rows.comp.h"
#include "backends/vulkan/gather_rows.params.h"
#include "backends/vulkan/pick_largest.comp.h"
#include "backends/vulkan/pick_largest.params.h"
#include "backends/vulkan/qkv_to_cache.comp.h"
#include "backends/vulkan/qkv_to_cache.params.h"
#include "backends/vulkan/rms_norm.comp.h"
#include "backends/vulkan/rms_norm.params.h"
#include "backends/vulkan/sample.params.h"
#include "backends/vulkan/sample_adjust.comp.h"
#include "backends/vulkan/sample_collect.comp.h"
#include "backends/vulkan/sample_count.comp.h"
#include "backends/vulkan/sample_draw.comp.h"
#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"
#include "kernels/draw.h"
#include "kernels/gpu_tiles.h"
#include "kernels/kv_page.h"
#include "kernels/rope.h"

namespace unicorn::backends::vulkan {
namespace {

using device::TensorRef;

constexpr std::size_t kFrames = 4;       // passes in flight
constexpr std::size_t kRecordings = 24;  // shapes kept
constexpr std::size_t kPartsAhead = 2;   // of a pass that can be cancelled, in flight
constexpr std::uint32_t kRowThreads = 1024;
constexpr std::size_t kPickGroups = 64;    // workgroups of a row of logits
constexpr std::size_t kMaxGroup = 8;       // query heads of a KV head
constexpr std::size_t kFewAttending = 64;  // rows times KV heads that leave a large GPU idle

std::uint32_t u32(std::size_t n) { return static_cast<std::uint32_t>(n); }

bool here(const TensorRef& t) { return t.device_address != 0; }

/// A matrix that can be multiplied here, and whose rows can be looked up.
bool multiplies(const TensorRef& w) {
    return here(w) && w.layout == device::Layout::tiles &&
           w.cols % kernels::gpu_tile_columns(w.type) == 0;
}

bool has_cols(const TensorRef& t, std::size_t cols) {
    return here(t) && t.type == tensor::DType::f32 && t.layout == device::Layout::rows &&
           t.cols == cols;
}

bool is_gain(const TensorRef& t, std::size_t cols) { return has_cols(t, cols) && t.rows == 1; }

bool projects(const TensorRef& w, const TensorRef& x, const TensorRef& out) {
    return multiplies(w) && has_cols(x, w.cols) && has_cols(out, w.rows);
}

bool caches(const device::KvCache& cache, std::size_t head_dim) {
    return here(cache.k) && here(cache.v) && cache.v.type == cache.k.type &&
           cache.k.cols == head_dim && cache.v.cols == head_dim &&
           kernels::can_cache(cache.k.type, head_dim);
}

/// Eight columns an invocation, 1,024 of these at most.
bool norms(std::size_t cols) { return cols % 32 == 0 && cols <= 8 * kRowThreads; }

struct Supports {
    bool has_int64 = false;

    bool operator()(const device::Embed& s) const {
        return multiplies(s.weights) && has_cols(s.out, s.weights.cols);
    }
    bool operator()(const device::RmsNorm& s) const {
        return norms(s.x.cols) && has_cols(s.x, s.x.cols) && is_gain(s.gain, s.x.cols) &&
               has_cols(s.out, s.x.cols);
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
               caches(s.cache, s.head_dim) && s.head_dim % 32 == 0 && s.n_kv_heads > 0 &&
               s.n_heads % s.n_kv_heads == 0 && s.n_heads / s.n_kv_heads <= kMaxGroup;
    }
    bool operator()(const device::GatedFfn& s) const {
        return projects(s.gate, s.x, s.out) && projects(s.up, s.x, s.out);
    }
    bool operator()(const device::AddNorm& s) const {
        const std::size_t cols = s.residual.cols;
        return norms(cols) && has_cols(s.residual, cols) && has_cols(s.branch, cols) &&
               is_gain(s.branch_gain, cols) && is_gain(s.next_gain, cols) && has_cols(s.out, cols);
    }
    bool operator()(const device::Head& s) const { return projects(s.weights, s.x, s.logits); }
    bool operator()(const device::PickLargest& s) const {
        return has_cols(s.logits, s.logits.cols) && here(s.ids) && s.ids.cols >= s.logits.rows &&
               s.n_vocab <= s.logits.cols;
    }
    bool operator()(const device::Sample& s) const {
        return has_int64 && has_cols(s.logits, s.logits.cols) && here(s.states) &&
               s.states.rows >= s.logits.rows &&
               s.states.cols * sizeof(std::uint32_t) == sizeof(kernels::draw::DrawState) &&
               here(s.ids) && s.ids.cols >= s.logits.rows && s.n_vocab <= s.logits.cols &&
               s.n_vocab <= std::size_t{1} << kernels::draw::kIdBits;
    }
    // Streamed layers would need a submission each, and the CPU between them.
    bool operator()(const device::AwaitWeights&) const { return false; }
    bool operator()(const device::ReleaseWeights&) const { return false; }
};

/// Work of multiplying T rows of x by w.
WorkSize product(const TensorRef& w, std::size_t n_rows) {
    const double t = static_cast<double>(n_rows);
    return {static_cast<double>(device::stored_bytes(w)) + t * 4.0 * static_cast<double>(w.cols),
            2.0 * t * static_cast<double>(w.rows) * static_cast<double>(w.cols)};
}

struct Work {
    const PassShape& shape;

    double rows() const { return static_cast<double>(shape.n_rows); }
    WorkSize moved(std::size_t cols, double times) const {
        return {rows() * static_cast<double>(cols) * 4 * times, 0};
    }
    WorkSize operator()(const device::Embed& s) const { return moved(s.out.cols, 2); }
    WorkSize operator()(const device::RmsNorm& s) const { return moved(s.x.cols, 3); }
    WorkSize operator()(const device::AddNorm& s) const { return moved(s.residual.cols, 6); }
    WorkSize operator()(const device::Project& s) const {
        WorkSize work;
        for (std::size_t i = 0; i < s.count; ++i) work += product(s.weights[i], shape.n_rows);
        return work;
    }
    WorkSize operator()(const device::QkvToCache& s) const { return moved(s.q.cols, 4); }
    WorkSize operator()(const device::Attention& s) const {
        const std::size_t seen =
            s.window == 0 ? shape.depth : std::min(shape.depth, s.window + shape.n_rows);
        const double keys = static_cast<double>(seen);
        const double kv = keys * static_cast<double>(s.n_kv_heads * s.head_dim) * 4;
        return {kv * rows() / 8, 4 * rows() * keys * static_cast<double>(s.q.cols)};
    }
    WorkSize operator()(const device::GatedFfn& s) const {
        WorkSize work = product(s.gate, shape.n_rows);
        work += product(s.up, shape.n_rows);
        return work;
    }
    WorkSize operator()(const device::Head& s) const {
        return product(s.weights, shape.n_logit_rows);
    }
    WorkSize operator()(const device::PickLargest& s) const {
        return {static_cast<double>(shape.n_logit_rows * s.n_vocab) * 4, 0};
    }
    WorkSize operator()(const device::Sample& s) const {
        return {static_cast<double>(shape.n_logit_rows * s.n_vocab) * 4 * (kSampleDigits + 1), 0};
    }
    WorkSize operator()(const device::AwaitWeights&) const { return {}; }
    WorkSize operator()(const device::ReleaseWeights&) const { return {}; }
};

/// cos and sin are made of these: one table for each (base, divisor, E).
struct RopeTable {
    double base = 0, divisor = 1;
    std::size_t head_dim = 0;
    std::uint64_t frequencies = 0;  // [E/2] f32
};

}  // namespace

/// Memory that steps share, one after the other.
struct ComputeProgram::Scratch {
    std::array<memory::Allocation, kInputForms> inputs;  // by form: the widest input in it
    memory::Allocation gathered;                         // [T, D]: rows of the head
    memory::Allocation gated;          // [T, F] int8: of gate and up, while their input is read
    memory::Allocation up;             // [T, F]: where gate and up are of different types
    memory::Allocation parts;          // of split attention
    std::optional<VulkanBuffer> done;  // [parts, K] counters: 0 between dispatches
    memory::Allocation picks;          // [rows, kPickGroups] values, then as many ids
    memory::Allocation selections;     // [rows]
    std::vector<RopeTable> ropes;
    std::vector<VulkanBuffer> rope_memory;
};

/// A submission: commands, and when they began and ended.
struct ComputeProgram::Part {
    Commands commands;
    WorkSize work;
    VkQueryPool queries = VK_NULL_HANDLE;
    std::vector<std::size_t> kinds = {};  // of the steps that end with a timestamp each
};

struct ComputeProgram::Recording {
    explicit Recording(VulkanDevice& d) : device(d) {}
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording() {
        for (const Part& part : parts)
            device.vk().vkDestroyQueryPool(device.handle(), part.queries, nullptr);
    }

    VulkanDevice& device;
    PassLayout layout;
    std::optional<VulkanBuffer> data;  // the pass
    std::vector<Part> parts;
    std::uint64_t last = 0;       // submission's end
    bool collected = true;        // its times
    std::uint64_t last_used = 0;  // for choosing what to drop
};

/// The CPU's copy of a pass on its way to the device.
struct ComputeProgram::Frame {
    VulkanBuffer staging;
    Commands commands;
    std::uint64_t last = 0;
};

/// Writes the commands of one recording.
class ComputeProgram::Recorder {
public:
    Recorder(ComputeProgram& program, const PassShape& shape, Recording& recording)
        : program_(program),
          context_(program.context_),
          shape_(shape),
          recording_(recording),
          base_(recording.data ? recording.data->device_address() : 0) {}

    Status run() {
        const Work work{shape_};
        double part_s = 0;
        for (std::size_t i = 0; i < program_.steps_.size(); ++i) {
            const device::Step& step = program_.steps_[i];
            next_ = i + 1 < program_.steps_.size() ? &program_.steps_[i + 1] : nullptr;
            const WorkSize size = std::visit(work, step);
            const double step_s = context_.pace.seconds(size);
            if (recording_.parts.empty() || part_s + step_s > context_.pace.target_s()) {
                if (auto s = end_part(); !s) return s;
                if (auto s = begin_part(); !s) return s;
                part_s = 0;
            }
            part_s += step_s;
            Part& part = recording_.parts.back();
            part.work += size;
            if (auto s = std::visit([&](const auto& one) { return record(one); }, step); !s)
                return s;
            if (context_.time_steps) {
                part.kinds.push_back(step.index());
                timestamp(part.kinds.size());
            }
        }
        return end_part();
    }

    /// Only compiles what run() would record.
    Status compile() {
        for (std::size_t i = 0; i < program_.steps_.size(); ++i) {
            next_ = i + 1 < program_.steps_.size() ? &program_.steps_[i + 1] : nullptr;
            if (auto s =
                    std::visit([&](const auto& one) { return record(one); }, program_.steps_[i]);
                !s)
                return s;
        }
        return {};
    }

private:
    /// The activations whose f32 are at `x` lie in `form` at `at`, too.
    struct Ready {
        std::uint64_t x = 0;
        InputForm form = InputForm::f32;
        std::uint64_t at = 0;
    };

    /// VK_NULL_HANDLE while it only compiles.
    VkCommandBuffer commands() const {
        return recording_.parts.empty() ? VK_NULL_HANDLE
                                        : recording_.parts.back().commands.handle();
    }

    template <typename Params>
    void launch(const Pipeline& pipeline, const Params& params,
                std::array<std::uint32_t, 3> groups) const {
        if (commands() != VK_NULL_HANDLE) pipeline.dispatch(commands(), params, groups);
    }

    Status begin_part() {
        auto made = Commands::create(context_.device);
        if (!made) return forward(made);
        Part& part = recording_.parts.emplace_back(Part{.commands = std::move(*made)});
        if (auto s = part.commands.begin(true); !s) return s;
        dirty_ = false;
        if (context_.device.capabilities().timestamp_bits == 0) return {};
        VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
        info.queryType = VK_QUERY_TYPE_TIMESTAMP;
        info.queryCount = context_.time_steps ? u32(program_.steps_.size()) + 1 : 2;
        const VolkDeviceTable& vk = context_.device.vk();
        if (const VkResult r =
                vk.vkCreateQueryPool(context_.device.handle(), &info, nullptr, &part.queries);
            r != VK_SUCCESS)
            return failed(r, fmt::format("{}: vkCreateQueryPool", context_.device.name()));
        vk.vkCmdResetQueryPool(commands(), part.queries, 0, info.queryCount);
        timestamp(0);
        return {};
    }

    Status end_part() {
        if (recording_.parts.empty()) return {};
        if (!context_.time_steps) timestamp(1);
        return recording_.parts.back().commands.end();
    }

    void timestamp(std::size_t index) {
        Part& part = recording_.parts.back();
        if (part.queries == VK_NULL_HANDLE) return;
        context_.device.vk().vkCmdWriteTimestamp2(commands(), VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
                                                  part.queries, u32(index));
    }

    /// Before dispatches that use what the last ones wrote, or write what those read.
    void sync() {
        if (dirty_ && commands() != VK_NULL_HANDLE) shader_barrier(context_.device, commands());
        dirty_ = true;
    }

    /// The form in which the next step reads `x`, where the step that makes it may write that too
    /// (says may_write): then it lies there from now on. Else f32.
    template <typename May>
    Ready ready_for_next(const TensorRef& x, std::uint64_t at_int8, const May& may_write) {
        ready_ = {};
        if (next_ == nullptr) return {};
        const TensorRef* weights = nullptr;
        const TensorRef* input = nullptr;
        if (const auto* project = std::get_if<device::Project>(next_)) {
            weights = &project->weights[0];
            input = &project->x;
        } else if (const auto* ffn = std::get_if<device::GatedFfn>(next_)) {
            weights = &ffn->gate;
            input = &ffn->x;
        }
        if (weights == nullptr || input->device_address != x.device_address) return {};
        const InputForm form = context_.matmul->input_form(weights->type, shape_.n_rows);
        if (form == InputForm::f32 || !may_write(form)) return {};
        ready_ = {x.device_address, form, form == InputForm::int8 ? at_int8 : input_at(form)};
        return ready_;
    }
    std::uint64_t input_at(InputForm form) const {
        return address(program_.scratch_->inputs[static_cast<std::size_t>(form)]);
    }
    /// Not 0 while it only compiles either, when there is no memory.
    static std::uint64_t address(const memory::Allocation& memory) {
        return std::max(memory.device_address(), std::uint64_t{1});
    }

    Result<const Pipeline*> pipeline(std::string_view name, std::span<const std::uint32_t> spirv,
                                     std::size_t params, std::vector<std::uint32_t> constants,
                                     std::uint32_t subgroup_size = 0) {
        return context_.pipelines.get(name, spirv, params, std::move(constants), subgroup_size);
    }

    /// A workgroup for each of `rows` rows of `cols` elements.
    template <typename Params>
    Status by_rows(std::string_view name, std::span<const std::uint32_t> spirv,
                   const Params& params, std::size_t rows, std::size_t cols,
                   std::vector<std::uint32_t> constants = {}) {
        const std::uint32_t most =
            std::min(kRowThreads, context_.device.capabilities().max_workgroup_invocations);
        constants.insert(constants.begin(),
                         std::min(most, std::max(64u, std::bit_floor(u32(cols)))));
        auto found = pipeline(name, spirv, sizeof(Params), std::move(constants));
        if (!found) return forward(found);
        sync();
        launch(**found, params, {u32(rows), 1, 1});
        return {};
    }

    Status record(const device::Embed& s) {
        const EmbedParams params = {.weights = s.weights.device_address,
                                    .tokens = base_ + recording_.layout.tokens,
                                    .result = s.out.device_address,
                                    .cols = u32(s.out.cols),
                                    .scale = s.scale};
        return by_rows("embed", shaders::kEmbed, params, shape_.n_rows, s.out.cols / 4,
                       {static_cast<std::uint32_t>(s.weights.type)});
    }

    Status norm(RmsNormParams params, const TensorRef& to, bool adds) {
        const std::uint32_t invocations = (params.cols / 8 + 63) / 64 * 64;
        const Ready ready =
            ready_for_next(to, input_at(InputForm::int8), [](InputForm) { return true; });
        params.input_to = ready.at;
        auto found =
            pipeline(adds ? "add_norm" : "rms_norm", shaders::kRmsNorm, sizeof(params),
                     {invocations, adds ? 1u : 0u, static_cast<std::uint32_t>(ready.form)});
        if (!found) return forward(found);
        sync();
        launch(**found, params, {params.n_rows, 1, 1});
        return {};
    }

    Status record(const device::RmsNorm& s) {
        return norm({.x = s.x.device_address,
                     .gain = s.gain.device_address,
                     .result = s.out.device_address,
                     .residual = 0,
                     .add_gain = 0,
                     .input_to = 0,
                     .cols = u32(s.x.cols),
                     .eps = s.eps,
                     .n_rows = u32(shape_.n_rows),
                     .unused = 0},
                    s.out, false);
    }

    Status record(const device::AddNorm& s) {
        return norm({.x = s.branch.device_address,
                     .gain = s.next_gain.device_address,
                     .result = s.out.device_address,
                     .residual = s.residual.device_address,
                     .add_gain = s.branch_gain.device_address,
                     .input_to = 0,
                     .cols = u32(s.residual.cols),
                     .eps = s.eps,
                     .n_rows = u32(shape_.n_rows),
                     .unused = 0},
                    s.out, true);
    }

    /// outs[i] = weights[i] x for `n_rows` rows at `x`; x is brought to the forms they take first.
    /// `to`, if any, is what outs[0] is, and may be written in int8 for the next step.
    Status multiply(std::span<const TensorRef> weights, std::uint64_t x, std::size_t n_rows,
                    std::span<const std::uint64_t> outs, Epilogue epilogue,
                    const TensorRef* to = nullptr) {
        MatmulCall call;
        call.epilogue = epilogue;
        call.n_rows = u32(n_rows);
        call.cols = u32(weights[0].cols);
        call.count = u32(weights.size());
        call.x[static_cast<std::size_t>(InputForm::f32)] = x;
        bool quantizes = false;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            call.weights[i] = {weights[i].type, u32(weights[i].rows), weights[i].device_address};
            if (i < outs.size()) call.outs[i] = outs[i];
            const InputForm form = context_.matmul->input_form(weights[i].type, n_rows);
            std::uint64_t& input = call.x[static_cast<std::size_t>(form)];
            if (input != 0 || form == InputForm::f32) continue;
            const bool is_ready = x == ready_.x && form == ready_.form;
            input = is_ready ? ready_.at : input_at(form);
            if (is_ready) continue;
            if (!quantizes) sync();
            quantizes = true;
            if (auto s = context_.matmul->record_quantize(commands(), x, u32(n_rows), call.cols,
                                                          form, input);
                !s)
                return s;
        }
        ready_ = {};  // what is written now may be x of later
        if (to != nullptr) {
            // Not over what this product reads.
            call.int8_out =
                ready_for_next(*to, address(program_.scratch_->gated), [&](InputForm form) {
                    return form == InputForm::int8 && context_.matmul->writes_int8(call);
                }).at;
        }
        sync();
        return context_.matmul->record(commands(), call);
    }

    Status record(const device::Project& s) {
        std::array<std::uint64_t, 3> outs{};
        for (std::size_t i = 0; i < s.count; ++i) outs[i] = s.outs[i].device_address;
        return multiply({s.weights.data(), s.count}, s.x.device_address, shape_.n_rows,
                        {outs.data(), s.count}, Epilogue::none);
    }

    Status record(const device::GatedFfn& s) {
        const std::array<TensorRef, 2> weights = {s.gate, s.up};
        if (s.gate.type == s.up.type) {
            return multiply(weights, s.x.device_address, shape_.n_rows,
                            std::array{s.out.device_address}, Epilogue::gelu, &s.out);
        }
        const std::uint64_t up = program_.scratch_->up.device_address();
        if (auto status = multiply(weights, s.x.device_address, shape_.n_rows,
                                   std::array{s.out.device_address, up}, Epilogue::none);
            !status)
            return status;
        const GatedGeluParams params = {.gate = s.out.device_address,
                                        .up = up,
                                        .n = u32(shape_.n_rows * s.out.cols),
                                        .unused = 0};
        return by_rows("gated_gelu", shaders::kGatedGelu, params, shape_.n_rows, s.out.cols);
    }

    Status record(const device::Head& s) {
        if (shape_.n_logit_rows == 0) return {};
        const std::uint64_t rows = program_.scratch_->gathered.device_address();
        const GatherRowsParams params = {.x = s.x.device_address,
                                         .rows = base_ + recording_.layout.logit_rows,
                                         .result = rows,
                                         .cols = u32(s.x.cols),
                                         .pad = 0};
        if (auto status =
                by_rows("gather_rows", shaders::kGatherRows, params, shape_.n_logit_rows, s.x.cols);
            !status)
            return status;
        return multiply({&s.weights, 1}, rows, shape_.n_logit_rows,
                        std::array{s.logits.device_address}, Epilogue::none);
    }

    Status record(const device::QkvToCache& s) {
        const auto& ropes = program_.scratch_->ropes;
        const auto rope = std::ranges::find_if(ropes, [&](const RopeTable& table) {
            return table.base == s.rope_base && table.divisor == s.rope_divisor &&
                   table.head_dim == s.head_dim;
        });
        const PassLayout::Attention& at =
            recording_.layout.attention[static_cast<std::size_t>(s.cache.group)];
        const QkvToCacheParams params = {.q = s.q.device_address,
                                         .k = s.k.device_address,
                                         .v = s.v.device_address,
                                         .q_gain = s.q_gain.device_address,
                                         .k_gain = s.k_gain.device_address,
                                         .frequencies = rope->frequencies,
                                         .positions = base_ + recording_.layout.positions,
                                         .tables = base_ + recording_.layout.tables,
                                         .pages = base_ + at.pages,
                                         .k_pool = s.cache.k.device_address,
                                         .v_pool = s.cache.v.device_address,
                                         .n_heads = u32(s.n_heads),
                                         .n_kv_heads = u32(s.n_kv_heads),
                                         .eps = s.eps,
                                         .pad = 0};
        auto found = pipeline("qkv_to_cache", shaders::kQkvToCache, sizeof(params),
                              {std::max(32u, std::bit_ceil(u32(s.head_dim / 2))), u32(s.head_dim),
                               static_cast<std::uint32_t>(s.cache.k.type)});
        if (!found) return forward(found);
        sync();
        launch(**found, params, {u32(s.n_heads + 2 * s.n_kv_heads), u32(shape_.n_rows), 1});
        return {};
    }

    /// Invocations of attend_rows: four for each of its 128 keys, or as many as shared memory, and
    /// the device, have room for; one where there are many workgroups. (On an H200 at 27B's shapes
    /// four made decoding 3 % faster for 4 sequences, and 5 % slower for 16.)
    std::uint32_t attend_threads(std::uint32_t dim, std::uint32_t heads,
                                 std::size_t n_kv_heads) const {
        const Capabilities& c = context_.device.capabilities();
        const auto fits = [&](std::uint32_t threads) {
            // Its sums, q, weights and what subgroups tell each other.
            const std::uint32_t bytes =
                heads * (threads * 16 + dim * 4 + 128 * 4 + threads / 4 * 8);
            return threads <= c.max_workgroup_invocations && bytes <= c.max_shared_bytes;
        };
        if (shape_.n_rows * n_kv_heads > kFewAttending) return 128;
        std::uint32_t threads = 512;
        while (threads > 128 && !fits(threads)) threads /= 2;
        return threads;
    }

    Status record(const device::Attention& s) {
        const auto group = static_cast<std::size_t>(s.cache.group);
        const PassLayout::Attention& at = recording_.layout.attention[group];
        AttentionParams params = {
            .q = s.q.device_address,
            .to = s.out.device_address,
            .k_pool = s.cache.k.device_address,
            .v_pool = s.cache.v.device_address,
            .pages = base_ + at.pages,
            .items = 0,
            .done = program_.scratch_->done ? program_.scratch_->done->device_address() : 0,
            .parts = program_.scratch_->parts.device_address(),
            .scale = s.scale,
            .n_kv_heads = u32(s.n_kv_heads),
            .window = u32(s.window),
            .n_rows = u32(shape_.n_rows),
            .int8 = 0};
        // Tiles are for many rows, which are quantised in a dispatch of their own.
        params.int8 = ready_for_next(s.out, input_at(InputForm::int8), [&](InputForm form) {
                          return form == InputForm::int8 && !shape_.tiles[group];
                      }).at;
        const std::uint32_t dim = u32(s.head_dim), heads = u32(s.n_heads / s.n_kv_heads);
        const auto type = static_cast<std::uint32_t>(s.cache.k.type);
        const std::uint32_t quantizes = params.int8 != 0 ? 1 : 0;
        const auto dispatch = [&](std::string_view name, std::span<const std::uint32_t> spirv,
                                  std::vector<std::uint32_t> constants, std::size_t items,
                                  std::size_t n_items) -> Status {
            auto found = pipeline(name, spirv, sizeof(params), std::move(constants));
            if (!found) return forward(found);
            params.items = base_ + items;
            launch(**found, params, {u32(n_items), u32(s.n_kv_heads), 1});
            return {};
        };
        sync();
        const std::optional<AttendShape> matrices =
            attend_shape(context_.device.capabilities(), *context_.matmul, dim, s.cache.k.type);
        if (shape_.tiles[group] && matrices) {
            auto found =
                pipeline("attend_matrices", shaders::kAttendMatrices, sizeof(params),
                         attend_constants(*matrices, *context_.matmul, dim, s.cache.k.type, heads),
                         context_.matmul->subgroup());
            if (!found) return forward(found);
            params.items = base_ + at.tile_items;
            const std::uint32_t queries = u32(tile_rows(heads)) * heads;
            launch(**found, params,
                   {u32(at.n_tile_items), u32(s.n_kv_heads),
                    (queries + matrices->bq - 1) / matrices->bq});
        } else if (shape_.tiles[group]) {
            if (auto status = dispatch("attend_tiles", shaders::kAttendTiles, {dim, type, heads},
                                       at.tile_items, at.n_tile_items);
                !status)
                return status;
        }
        if (shape_.rows[group]) {
            if (auto status = dispatch(
                    "attend_rows", shaders::kAttendRows,
                    {dim, type, heads, quantizes, attend_threads(dim, heads, s.n_kv_heads)},
                    at.row_items, at.n_row_items);
                !status)
                return status;
        }
        return {};
    }

    Status record(const device::PickLargest& s) {
        if (shape_.n_logit_rows == 0) return {};
        const std::uint64_t best = program_.scratch_->picks.device_address();
        const std::uint64_t ids = best + program_.max_rows_ * kPickGroups * sizeof(float);
        const PickLargestParams parts = {.values = s.logits.device_address,
                                         .from = 0,
                                         .best = best,
                                         .ids = ids,
                                         .n = u32(s.n_vocab),
                                         .stride = u32(s.logits.cols)};
        const PickLargestParams last = {.values = best,
                                        .from = ids,
                                        .best = 0,
                                        .ids = s.ids.device_address,
                                        .n = kPickGroups,
                                        .stride = kPickGroups};
        for (const bool is_last : {false, true}) {
            auto found =
                pipeline("pick_largest", shaders::kPickLargest, sizeof(parts), {is_last ? 1u : 0u});
            if (!found) return forward(found);
            sync();
            launch(**found, is_last ? last : parts,
                   {is_last ? 1u : u32(kPickGroups), u32(shape_.n_logit_rows), 1});
        }
        return {};
    }

    Status record(const device::Sample& s) {
        if (shape_.n_logit_rows == 0) return {};
        SampleParams params = {.logits = s.logits.device_address,
                               .states = s.states.device_address,
                               .selections = program_.scratch_->selections.device_address(),
                               .ids = s.ids.device_address,
                               .n = u32(s.n_vocab),
                               .stride = u32(s.logits.cols),
                               .digit = 0,
                               .unused = 0};
        // Small vocabularies are not worth the counting of many workgroups.
        const std::uint32_t many = std::clamp(params.n / 2048, 1u, kSampleGroups);
        const auto dispatch = [&](std::string_view name, std::span<const std::uint32_t> spirv,
                                  std::uint32_t groups) -> Status {
            auto found = pipeline(name, spirv, sizeof(params), {});
            if (!found) return forward(found);
            sync();
            launch(**found, params, {groups, u32(shape_.n_logit_rows), 1});
            return {};
        };
        if (auto status = dispatch("sample_adjust", shaders::kSampleAdjust, 1); !status)
            return status;
        for (; params.digit < kSampleDigits; ++params.digit) {
            if (auto status = dispatch("sample_count", shaders::kSampleCount, many); !status)
                return status;
        }
        if (auto status = dispatch("sample_collect", shaders::kSampleCollect, many); !status)
            return status;
        return dispatch("sample_draw", shaders::kSampleDraw, 1);
    }

    Status record(const device::AwaitWeights&) { return {}; }
    Status record(const device::ReleaseWeights&) { return {}; }

    ComputeProgram& program_;
    ComputeContext& context_;
    const PassShape& shape_;
    Recording& recording_;
    std::uint64_t base_;
    const device::Step* next_ = nullptr;
    Ready ready_;
    bool dirty_ = false;
};

bool ComputeProgram::supports(const VulkanDevice& device, const device::Step& step) {
    return std::visit(Supports{device.capabilities().int64}, step);
}

ComputeProgram::ComputeProgram(ComputeContext& context) : context_(context) {
    context_.programs.push_back(this);
}

ComputeProgram::~ComputeProgram() {
    std::erase(context_.programs, this);
    // Commands and memory may still be in use.
    std::uint64_t last = 0;
    for (const auto& [shape, recording] : recordings_) last = std::max(last, recording->last);
    for (const auto& frame : frames_) last = std::max(last, frame->last);
    if (last > 0) static_cast<void>(context_.device.wait(last));
}

Result<std::unique_ptr<ComputeProgram>> ComputeProgram::create(ComputeContext& context,
                                                               std::span<const device::Step> steps,
                                                               std::size_t max_rows) {
    auto program = std::unique_ptr<ComputeProgram>(new ComputeProgram(context));
    for (std::size_t i = 0; i < steps.size(); ++i) {
        bool ok = supports(context.device, steps[i]);
        if (const auto* s = std::get_if<device::Attention>(&steps[i]); ok && s != nullptr) {
            // The lists of work are made once for all layers of a group.
            AttentionShape& known = program->attention_[static_cast<std::size_t>(s->cache.group)];
            const AttentionShape own = {s->n_heads, s->n_kv_heads, s->window};
            ok = known.n_kv_heads == 0 || known == own;
            known = own;
        }
        if (!ok) {
            return fail(ErrorCode::unsupported, "{}: step {} ({}) has operands it cannot use",
                        context.device.name(), i, device::name(steps[i]));
        }
    }
    for (const device::Step& step : steps) {
        const auto* s = std::get_if<device::QkvToCache>(&step);
        if (s == nullptr) continue;
        // Without attention in the same program, page tables all the same.
        AttentionShape& known = program->attention_[static_cast<std::size_t>(s->cache.group)];
        if (known.n_kv_heads == 0) known = {s->n_heads, s->n_kv_heads, 0};
    }
    program->steps_.assign(steps.begin(), steps.end());
    program->max_rows_ = max_rows;
    if (auto status = program->allocate_scratch(); !status) return forward(status);
    return program;
}

Status ComputeProgram::allocate_scratch() {
    scratch_ = std::make_unique<Scratch>();
    std::array<std::size_t, kInputForms> inputs{};
    std::size_t gathered = 0, gated = 0, up = 0, parts = 0, done = 0, picks = 0, selections = 0;
    const bool compiles_only = context_.device.capabilities().compiles_only;
    const auto needs = [&](const TensorRef& w) {
        for (std::size_t n = 1; n <= max_rows_; ++n) {
            const InputForm form = context_.matmul->input_form(w.type, n);
            if (form == InputForm::f32) continue;
            std::size_t& most = inputs[static_cast<std::size_t>(form)];
            most = std::max(most, Matmul::input_bytes(form, n, w.cols));
        }
    };
    for (const device::Step& step : steps_) {
        if (const auto* project = std::get_if<device::Project>(&step)) {
            for (std::size_t i = 0; i < project->count; ++i) needs(project->weights[i]);
        } else if (const auto* ffn = std::get_if<device::GatedFfn>(&step)) {
            needs(ffn->gate);
            needs(ffn->up);
            for (std::size_t n = 1; n <= max_rows_; ++n) {
                if (context_.matmul->input_form(ffn->gate.type, n) == InputForm::int8)
                    gated =
                        std::max(gated, Matmul::input_bytes(InputForm::int8, n, ffn->gate.rows));
            }
            if (ffn->gate.type != ffn->up.type)
                up = std::max(up, max_rows_ * ffn->up.rows * sizeof(float));
        } else if (const auto* head = std::get_if<device::Head>(&step)) {
            needs(head->weights);
            gathered = std::max(gathered, max_rows_ * head->x.cols * sizeof(float));
        } else if (std::holds_alternative<device::PickLargest>(step)) {
            picks = max_rows_ * kPickGroups * (sizeof(float) + sizeof(std::int32_t));
        } else if (std::holds_alternative<device::Sample>(step)) {
            selections = max_rows_ * sizeof(SampleSelection);
        } else if (const auto* attention = std::get_if<device::Attention>(&step)) {
            parts = std::max(parts, max_parts(attention->n_kv_heads) * attention->n_heads *
                                        (attention->head_dim + 2) * sizeof(float));
            done = std::max(done, max_parts(attention->n_kv_heads) * attention->n_kv_heads *
                                      sizeof(std::uint32_t));
        } else if (const auto* qkv = std::get_if<device::QkvToCache>(&step)) {
            auto& ropes = scratch_->ropes;
            const bool known = std::ranges::any_of(ropes, [&](const RopeTable& table) {
                return table.base == qkv->rope_base && table.divisor == qkv->rope_divisor &&
                       table.head_dim == qkv->head_dim;
            });
            if (known) continue;
            std::vector<float> frequencies(qkv->head_dim / 2);
            kernels::rope_frequencies(qkv->rope_base, qkv->rope_divisor, frequencies);
            ropes.push_back({qkv->rope_base, qkv->rope_divisor, qkv->head_dim, 0});
            if (compiles_only) continue;
            auto buffer =
                VulkanBuffer::create(context_.device, frequencies.size() * sizeof(float),
                                     *context_.device.capabilities().tier(memory::Tier::vram));
            if (!buffer) return forward(buffer);
            if (auto status = buffer->upload(0, std::as_bytes(std::span(frequencies))); !status)
                return status;
            ropes.back().frequencies = buffer->device_address();
            scratch_->rope_memory.push_back(std::move(*buffer));
        }
    }
    const auto allocate = [&](std::size_t bytes, memory::Allocation& to) -> Status {
        if (bytes == 0 || compiles_only) return {};
        auto memory = context_.vram.allocate(bytes, 64);
        if (!memory) return forward(memory);
        to = std::move(*memory);
        return {};
    };
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (auto status = allocate(inputs[i], scratch_->inputs[i]); !status) return status;
    if (auto status = allocate(gathered, scratch_->gathered); !status) return status;
    if (auto status = allocate(gated, scratch_->gated); !status) return status;
    if (auto status = allocate(up, scratch_->up); !status) return status;
    if (auto status = allocate(picks, scratch_->picks); !status) return status;
    if (auto status = allocate(selections, scratch_->selections); !status) return status;
    if (done > 0 && !compiles_only) {
        auto counters = VulkanBuffer::create(
            context_.device, done, *context_.device.capabilities().tier(memory::Tier::vram));
        if (!counters) return forward(counters);
        if (auto status = counters->clear(); !status) return status;
        scratch_->done.emplace(std::move(*counters));
    }
    return allocate(parts, scratch_->parts);
}

Result<std::unique_ptr<ComputeProgram::Recording>> ComputeProgram::record(const PassShape& shape) {
    auto recording = std::make_unique<Recording>(context_.device);
    recording->layout = lay_out(shape, attention_);
    auto data = VulkanBuffer::create(context_.device, recording->layout.bytes,
                                     *context_.device.capabilities().tier(memory::Tier::vram));
    if (!data) return forward(data);
    recording->data.emplace(std::move(*data));
    if (auto status = Recorder(*this, shape, *recording).run(); !status) return forward(status);
    return recording;
}

Status ComputeProgram::compile(const device::Batch& batch) {
    const PassShape shape = shape_of(batch, attention_);
    Recording recording(context_.device);
    recording.layout = lay_out(shape, attention_);
    return Recorder(*this, shape, recording).compile();
}

Result<ComputeProgram::Recording*> ComputeProgram::recording_for(const PassShape& shape) {
    if (const auto found = recordings_.find(shape); found != recordings_.end()) {
        Recording& recording = *found->second;
        if (auto status = collect(recording); !status) return forward(status);
        // Cut anew once the parts turn out too long, or several where one would do.
        WorkSize all;
        double longest = 0;
        for (const Part& part : recording.parts) {
            all += part.work;
            longest = std::max(longest, context_.pace.seconds(part.work));
        }
        const double target = context_.pace.target_s();
        const bool too_long = longest > 1.5 * target && recording.parts.size() < steps_.size();
        const double wanted = context_.pace.seconds(all) / target;
        const bool too_many = recording.parts.size() > 1 &&
                              3 * (wanted + 1) < static_cast<double>(recording.parts.size());
        if (!too_long && !too_many) return &recording;
        if (auto status = context_.device.wait(recording.last); !status) return forward(status);
        recordings_.erase(found);
    }
    if (recordings_.size() >= kRecordings) {
        const auto oldest = std::ranges::min_element(
            recordings_, {}, [](const auto& entry) { return entry.second->last_used; });
        if (auto status = context_.device.wait(oldest->second->last); !status)
            return forward(status);
        recordings_.erase(oldest);
    }
    auto made = record(shape);
    if (!made) return forward(made);
    return recordings_.emplace(shape, std::move(*made)).first->second.get();
}

Result<ComputeProgram::Frame*> ComputeProgram::next_frame(std::size_t bytes) {
    const std::size_t index = next_frame_;
    next_frame_ = (next_frame_ + 1) % kFrames;
    if (index < frames_.size()) {
        Frame& frame = *frames_[index];
        if (auto status = context_.device.wait(frame.last); !status) return forward(status);
        if (frame.staging.bytes() >= bytes) return &frame;
    }
    auto staging = VulkanBuffer::create(context_.device, std::bit_ceil(bytes), context_.staging);
    if (!staging) return forward(staging);
    auto commands = Commands::create(context_.device);
    if (!commands) return forward(commands);
    auto frame = std::make_unique<Frame>(
        Frame{.staging = std::move(*staging), .commands = std::move(*commands)});
    if (index == frames_.size()) return frames_.emplace_back(std::move(frame)).get();
    return (frames_[index] = std::move(frame)).get();
}

Result<std::uint64_t> ComputeProgram::submit(const device::Batch& batch) {
    UNICORN_CHECK(batch.n_rows() <= max_rows_ && batch.logit_rows.size() <= max_rows_);
    const PassShape shape = shape_of(batch, attention_);
    auto found = recording_for(shape);
    if (!found) return forward(found);
    Recording& recording = **found;
    if (context_.time_steps && !recording.collected) {
        // Its timestamps would be overwritten.
        if (auto status = context_.device.wait(recording.last); !status) return forward(status);
        if (auto status = collect(recording); !status) return forward(status);
    }
    auto framed = next_frame(recording.layout.bytes);
    if (!framed) return forward(framed);
    Frame& frame = **framed;
    write_pass(batch, attention_, shape, recording.layout, frame.staging.host());
    if (auto status = frame.commands.begin(); !status) return forward(status);
    // Ids that the device picked take the place of those in the pass.
    const bool picked = !batch.picked.empty();
    const std::size_t from = picked ? recording.layout.positions : 0;
    const VkBufferCopy region = {
        .srcOffset = from, .dstOffset = from, .size = recording.layout.bytes - from};
    const VolkDeviceTable& vk = context_.device.vk();
    vk.vkCmdCopyBuffer(frame.commands.handle(), frame.staging.handle(), recording.data->handle(), 1,
                       &region);
    if (picked) {
        const BufferPlace ids = context_.results.place(batch.picked.device_address);
        const VkBufferCopy id_region = {.srcOffset = ids.offset,
                                        .dstOffset = recording.layout.tokens,
                                        .size = batch.n_rows() * sizeof(std::int32_t)};
        vk.vkCmdCopyBuffer(frame.commands.handle(), ids.buffer, recording.data->handle(), 1,
                           &id_region);
    }
    if (auto status = frame.commands.end(); !status) return forward(status);

    const auto used = [&](std::uint64_t last, bool collected) {
        frame.last = recording.last = last;
        recording.collected = collected;
        recording.last_used = ++uses_;
    };
    std::array<std::uint64_t, kPartsAhead> queued{};
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < recording.parts.size(); ++i) {
        if (batch.cancel != nullptr && i >= kPartsAhead) {
            if (auto status = context_.device.wait(queued[i % kPartsAhead]); !status)
                return forward(status);
            if ((*batch.cancel)()) {
                used(last, true);  // parts that did not run have no times
                if (auto status = context_.device.wait(last); !status) return forward(status);
                return fail(ErrorCode::cancelled, "cancelled");
            }
        }
        const VkCommandBuffer commands[2] = {frame.commands.handle(),
                                             recording.parts[i].commands.handle()};
        // The copy goes with the first part.
        auto value = context_.device.submit(i == 0 ? std::span<const VkCommandBuffer>(commands)
                                                   : std::span(commands).subspan(1));
        if (!value) return value;
        queued[i % kPartsAhead] = last = *value;
    }
    used(last, false);
    return last;
}

Status ComputeProgram::collect() {
    for (const auto& [shape, recording] : recordings_)
        if (auto status = collect(*recording); !status) return status;
    return {};
}

Status ComputeProgram::collect(Recording& recording) {
    if (recording.collected) return {};
    const auto finished = context_.device.finished();
    if (!finished) return tl::unexpected(finished.error());
    if (*finished < recording.last) return {};
    recording.collected = true;
    const Capabilities& c = context_.device.capabilities();
    const std::uint64_t mask =
        c.timestamp_bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << c.timestamp_bits) - 1;
    for (const Part& part : recording.parts) {
        if (part.queries == VK_NULL_HANDLE) continue;
        const std::size_t n = context_.time_steps ? part.kinds.size() + 1 : 2;
        std::vector<std::uint64_t> ticks(n);
        const VkResult r = context_.device.vk().vkGetQueryPoolResults(
            context_.device.handle(), part.queries, 0, u32(n), n * sizeof(std::uint64_t),
            ticks.data(), sizeof(std::uint64_t), VK_QUERY_RESULT_64_BIT);
        if (r == VK_NOT_READY) continue;
        if (r != VK_SUCCESS)
            return failed(r, fmt::format("{}: vkGetQueryPoolResults", context_.device.name()));
        const auto seconds = [&](std::size_t from, std::size_t to) {
            return static_cast<double>((ticks[to] - ticks[from]) & mask) * c.timestamp_period_ns *
                   1e-9;
        };
        context_.pace.learn(part.work, seconds(0, n - 1));
        if (!context_.time_steps) continue;
        for (std::size_t i = 0; i < part.kinds.size(); ++i)
            context_.step_seconds[part.kinds[i]] += seconds(i, i + 1);
    }
    return {};
}

}  // namespace unicorn::backends::vulkan
