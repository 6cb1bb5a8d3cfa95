#include "backends/vulkan/compute_program.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "backends/vulkan/record_pass.h"
#include "backends/vulkan/sample.params.h"
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
constexpr std::size_t kMaxGroup = 8;     // query heads of a KV head

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

}  // namespace

/// The CPU's copy of a pass on its way to the device.
struct ComputeProgram::Frame {
    VulkanBuffer staging;
    Commands commands;
    std::uint64_t last = 0;
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
    scratch_ = std::make_unique<PassScratch>();
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
            done = std::max<std::size_t>(done, 1);
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
            done = std::max(done, max_rows_);
        } else if (std::holds_alternative<device::Sample>(step)) {
            selections = max_rows_ * sizeof(SampleSelection);
        } else if (const auto* attention = std::get_if<device::Attention>(&step)) {
            parts = std::max(parts, max_parts(attention->n_kv_heads) * attention->n_heads *
                                        (attention->head_dim + 2) * sizeof(float));
            done = std::max(done, max_parts(attention->n_kv_heads) * attention->n_kv_heads);
        } else if (const auto* qkv = std::get_if<device::QkvToCache>(&step)) {
            done = std::max(done, qkv->n_heads + 2 * qkv->n_kv_heads);
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
        auto counters =
            VulkanBuffer::create(context_.device, done * sizeof(std::uint32_t),
                                 *context_.device.capabilities().tier(memory::Tier::vram));
        if (!counters) return forward(counters);
        if (auto status = counters->clear(); !status) return status;
        scratch_->done.emplace(std::move(*counters));
    }
    return allocate(parts, scratch_->parts);
}

Result<std::unique_ptr<Recording>> ComputeProgram::record(const PassShape& shape) {
    auto recording = std::make_unique<Recording>(context_.device);
    recording->layout = lay_out(shape, attention_);
    auto data = VulkanBuffer::create(context_.device, recording->layout.bytes,
                                     *context_.device.capabilities().tier(memory::Tier::vram));
    if (!data) return forward(data);
    recording->data.emplace(std::move(*data));
    if (auto status = record_pass({context_, steps_, max_rows_, *scratch_}, shape, *recording);
        !status)
        return forward(status);
    return recording;
}

Status ComputeProgram::compile(const device::Batch& batch) {
    const PassShape shape = shape_of(batch, attention_);
    Recording recording(context_.device);
    recording.layout = lay_out(shape, attention_);
    return compile_pass({context_, steps_, max_rows_, *scratch_}, shape, recording);
}

Result<Recording*> ComputeProgram::recording_for(const PassShape& shape) {
    if (const auto found = recordings_.find(shape); found != recordings_.end()) {
        Recording& recording = *found->second;
        if (auto status = collect(recording); !status) return forward(status);
        // Cut anew once the parts turn out too long, or several where one would do.
        WorkSize all;
        double longest = 0;
        for (const RecordedPart& part : recording.parts) {
            all += part.work;
            // A step is not cut.
            if (part.n_steps > 1) longest = std::max(longest, context_.pace.seconds(part.work));
        }
        const double target = context_.pace.target_s();
        const bool too_long = longest > 1.5 * target;
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

    const auto used = [&](bool collected) {
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
                used(true);  // parts that did not run have no times
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
        // At once: should a later part not be queued, this one still reads them.
        queued[i % kPartsAhead] = frame.last = recording.last = last = *value;
    }
    used(false);
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
    for (const RecordedPart& part : recording.parts) {
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
