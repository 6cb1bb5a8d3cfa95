#include "backends/vulkan/record_pass.h"

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
#include "backends/vulkan/rms_norm.comp.h"
#include "backends/vulkan/sample.params.h"
#include "backends/vulkan/sample_adjust.comp.h"
#include "backends/vulkan/sample_collect.comp.h"
#include "backends/vulkan/sample_count.comp.h"
#include "backends/vulkan/sample_draw.comp.h"
#include "backends/vulkan/vulkan_error.h"
#include "kernels/gpu_tiles.h"

namespace unicorn::backends::vulkan {
namespace {

using device::TensorRef;

constexpr std::size_t kFewAttending = 64;  // rows times KV heads that leave a large GPU idle

std::uint32_t u32(std::size_t n) { return static_cast<std::uint32_t>(n); }

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

/// Writes the commands of one recording.
class Recorder {
public:
    Recorder(const PassSource& source, const PassShape& shape, Recording& recording)
        : source_(source),
          context_(source.context),
          shape_(shape),
          recording_(recording),
          base_(recording.data ? recording.data->device_address() : 0) {}

    Status run() {
        const Work work{shape_};
        double part_s = 0;
        for (std::size_t i = 0; i < source_.steps.size(); ++i) {
            const device::Step& step = source_.steps[i];
            const WorkSize size = std::visit(work, step);
            const double step_s = context_.pace.seconds(size);
            if (recording_.parts.empty() || part_s + step_s > context_.pace.target_s()) {
                if (auto s = end_part(); !s) return s;
                if (auto s = begin_part(); !s) return s;
                part_s = 0;
            }
            part_s += step_s;
            RecordedPart& part = recording_.parts.back();
            part.work += size;
            ++part.n_steps;
            if (auto s = record_step(i); !s) return s;
            if (context_.time_steps) {
                part.kinds.push_back(step.index());
                timestamp(part.kinds.size());
            }
        }
        return end_part();
    }

    /// Only compiles what run() would record.
    Status compile() {
        for (std::size_t i = 0; i < source_.steps.size(); ++i)
            if (auto s = record_step(i); !s) return s;
        return {};
    }

private:
    Status record_step(std::size_t i) {
        if (i < first_) return {};  // done by an earlier one
        first_ = i + 1;
        return std::visit([&](const auto& one) { return record(one); }, source_.steps[i]);
    }
    /// The first step that is not recorded yet, if it is a T.
    template <typename T>
    const T* next() const {
        return first_ < source_.steps.size() ? std::get_if<T>(&source_.steps[first_]) : nullptr;
    }

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
        RecordedPart& part =
            recording_.parts.emplace_back(RecordedPart{.commands = std::move(*made)});
        if (auto s = part.commands.begin(true); !s) return s;
        dirty_ = false;
        if (context_.device.capabilities().timestamp_bits == 0) return {};
        VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
        info.queryType = VK_QUERY_TYPE_TIMESTAMP;
        info.queryCount = context_.time_steps ? u32(source_.steps.size()) + 1 : 2;
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
        RecordedPart& part = recording_.parts.back();
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
        const TensorRef* weights = nullptr;
        const TensorRef* input = nullptr;
        if (const auto* project = next<device::Project>()) {
            weights = &project->weights[0];
            input = &project->x;
        } else if (const auto* ffn = next<device::GatedFfn>()) {
            weights = &ffn->gate;
            input = &ffn->x;
        } else if (const auto* head = next<device::Head>(); head != nullptr && !gathers()) {
            weights = &head->weights;
            input = &head->x;
        }
        if (weights == nullptr || input->device_address != x.device_address) return {};
        const InputForm form = context_.matmul->input_form(weights->type, shape_.n_rows);
        if (form == InputForm::f32 || !may_write(form)) return {};
        ready_ = {x.device_address, form, form == InputForm::int8 ? at_int8 : input_at(form)};
        return ready_;
    }
    std::uint64_t input_at(InputForm form) const {
        return address(source_.scratch.inputs[static_cast<std::size_t>(form)]);
    }
    /// Counters of workgroups.
    std::uint64_t done() const {
        return source_.scratch.done ? source_.scratch.done->device_address() : 1;
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

    RmsNormParams params_of(const device::AddNorm& s) const {
        return {.x = s.branch.device_address,
                .gain = s.next_gain.device_address,
                .result = s.out.device_address,
                .residual = s.residual.device_address,
                .add_gain = s.branch_gain.device_address,
                .input_to = 0,
                .cols = u32(s.residual.cols),
                .eps = s.eps,
                .n_rows = u32(shape_.n_rows),
                .unused = 0};
    }
    Status record(const device::AddNorm& s) { return norm(params_of(s), s.out, true); }

    /// Has the product's last workgroups do the next step, too, where they can.
    void finish(MatmulCall& call) {
        call.done = done();
        const auto* add = next<device::AddNorm>();
        const auto* qkv = next<device::QkvToCache>();
        if (add != nullptr && add->branch.device_address == call.outs[0]) {
            call.norm = {.params = params_of(*add)};
            if (context_.matmul->finishes(call)) {
                ++first_;
                const Ready ready = ready_for_next(add->out, input_at(InputForm::int8),
                                                   [](InputForm) { return true; });
                call.norm->params.input_to = ready.at;
                call.norm->form = ready.form;
                return;
            }
            call.norm.reset();
        }
        if (qkv != nullptr && qkv->q.device_address == call.outs[0] &&
            qkv->k.device_address == call.outs[1] && qkv->v.device_address == call.outs[2]) {
            call.cache = {.params = params_of(*qkv),
                          .head_dim = u32(qkv->head_dim),
                          .type = qkv->cache.k.type};
            if (context_.matmul->finishes(call)) {
                ++first_;
                return;
            }
            call.cache.reset();
        }
    }

    /// outs[i] = weights[i] x for `n_rows` rows at `x`; x is brought to the forms they take first.
    /// `to`, if any, is what outs[0] is, and may be written in int8 for the next step. `finishes`:
    /// the next step may be done by this, too.
    Status multiply(std::span<const TensorRef> weights, std::uint64_t x, std::size_t n_rows,
                    std::span<const std::uint64_t> outs, Epilogue epilogue,
                    const TensorRef* to = nullptr, bool finishes = false) {
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
                ready_for_next(*to, address(source_.scratch.gated), [&](InputForm form) {
                    return form == InputForm::int8 && context_.matmul->writes_int8(call);
                }).at;
        }
        if (finishes) finish(call);
        sync();
        return context_.matmul->record(commands(), call);
    }

    Status record(const device::Project& s) {
        std::array<std::uint64_t, 3> outs{};
        for (std::size_t i = 0; i < s.count; ++i) outs[i] = s.outs[i].device_address;
        return multiply({s.weights.data(), s.count}, s.x.device_address, shape_.n_rows,
                        {outs.data(), s.count}, Epilogue::none, nullptr, true);
    }

    Status record(const device::GatedFfn& s) {
        const std::array<TensorRef, 2> weights = {s.gate, s.up};
        if (s.gate.type == s.up.type) {
            return multiply(weights, s.x.device_address, shape_.n_rows,
                            std::array{s.out.device_address}, Epilogue::gelu, &s.out);
        }
        const std::uint64_t up = source_.scratch.up.device_address();
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
        std::uint64_t rows = s.x.device_address;
        if (gathers()) {
            rows = source_.scratch.gathered.device_address();
            const GatherRowsParams params = {.x = s.x.device_address,
                                             .rows = base_ + recording_.layout.logit_rows,
                                             .result = rows,
                                             .cols = u32(s.x.cols),
                                             .pad = 0};
            if (auto status = by_rows("gather_rows", shaders::kGatherRows, params,
                                      shape_.n_logit_rows, s.x.cols);
                !status)
                return status;
        }
        return multiply({&s.weights, 1}, rows, shape_.n_logit_rows,
                        std::array{s.logits.device_address}, Epilogue::none);
    }
    /// Whether the head's rows are not simply the pass's.
    bool gathers() const { return shape_.n_rows != 1 || shape_.n_logit_rows != 1; }

    QkvToCacheParams params_of(const device::QkvToCache& s) const {
        const auto& ropes = source_.scratch.ropes;
        const auto rope = std::ranges::find_if(ropes, [&](const RopeTable& table) {
            return table.base == s.rope_base && table.divisor == s.rope_divisor &&
                   table.head_dim == s.head_dim;
        });
        const PassLayout::Attention& at =
            recording_.layout.attention[static_cast<std::size_t>(s.cache.group)];
        return {.q = s.q.device_address,
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
    }

    Status record(const device::QkvToCache& s) {
        const QkvToCacheParams params = params_of(s);
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
        AttentionParams params = {.q = s.q.device_address,
                                  .to = s.out.device_address,
                                  .k_pool = s.cache.k.device_address,
                                  .v_pool = s.cache.v.device_address,
                                  .pages = base_ + at.pages,
                                  .items = 0,
                                  .done = done(),
                                  .parts = source_.scratch.parts.device_address(),
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
        const std::uint64_t best = source_.scratch.picks.device_address();
        const PickLargestParams params = {
            .values = s.logits.device_address,
            .best = best,
            .best_ids = best + source_.max_rows * kPickGroups * sizeof(float),
            .ids = s.ids.device_address,
            .done = done(),
            .n = u32(s.n_vocab),
            .stride = u32(s.logits.cols)};
        auto found = pipeline("pick_largest", shaders::kPickLargest, sizeof(params), {});
        if (!found) return forward(found);
        sync();
        launch(**found, params, {u32(kPickGroups), u32(shape_.n_logit_rows), 1});
        return {};
    }

    Status record(const device::Sample& s) {
        if (shape_.n_logit_rows == 0) return {};
        SampleParams params = {.logits = s.logits.device_address,
                               .states = s.states.device_address,
                               .selections = source_.scratch.selections.device_address(),
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

    const PassSource& source_;
    ComputeContext& context_;
    const PassShape& shape_;
    Recording& recording_;
    std::uint64_t base_;
    std::size_t first_ = 0;  // step that is not recorded yet
    Ready ready_;
    bool dirty_ = false;
};

}  // namespace

Status record_pass(const PassSource& source, const PassShape& shape, Recording& recording) {
    return Recorder(source, shape, recording).run();
}

Status compile_pass(const PassSource& source, const PassShape& shape, Recording& recording) {
    return Recorder(source, shape, recording).compile();
}

}  // namespace unicorn::backends::vulkan
