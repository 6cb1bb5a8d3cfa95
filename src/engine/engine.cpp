#include "engine/engine_state.h"

#include <algorithm>
#include <unordered_map>

#include "base/check.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "engine/open_devices.h"
#include "engine/plan_model.h"
#include "formats/tensor_sums.h"
#include "kernels/kv_page.h"
#include "machine/profile.h"
#include "memory/host_allocator.h"

namespace unicorn::engine {
namespace {

constexpr std::size_t kMaxSequences = 4096;  // bounds page counts and tables
// Checkpoints of 4B and up pad the embedding from 262,144 rows to 262,208; the padding was never
// trained and its logits mean nothing (reference: huggingface gemma-3-4b-it, config.json).
constexpr std::size_t kPaddedVocab = 262208;
constexpr std::size_t kGemmaVocab = 262144;

/// The part of a workload that says how many rows a pass has. `options` with a context.
plan::Workload workload_rows(const EngineOptions& options) {
    plan::Workload workload;
    workload.context = options.context;
    workload.sequences = options.max_sequences;
    workload.chunk_tokens = options.chunk_tokens;
    return workload;
}

}  // namespace

namespace {

/// This machine; one of which only the memory is known where it cannot be looked at.
plan::HardwareProfile this_machine(const std::string& model_path) {
    if (auto machine = machine::look_at_this_machine(model_path))
        return machine::to_profile(*machine);
    const std::size_t available = memory::available_memory_bytes();
    plan::HardwareProfile profile = plan::cpu_only_profile(available, available);
    profile.tiers.push_back({memory::Tier::disk, "", 0, 0, false});
    return profile;
}

/// What goes where, with `options` as in force. `gpu`: what runs it, else the CPU. Errors: as
/// Engine::open().
Result<plan::Plan> plan_memory(const formats::Gguf& file, const model::Config& config,
                               const EngineOptions& options, device::Device* gpu) {
    plan::ModelSpec model = describe_model(file, config);
    // Looked at now: the vocabulary and whatever else is in memory is not available any more.
    plan::HardwareProfile machine;
    plan::PlanOptions how;
    if (gpu == nullptr) {
        machine = options.machine ? *options.machine : this_machine(file.path());
        how.policy = options.policy;
        how.cpu_only = true;
        repack_for_cpu(model);
    } else {
        // All where the device reads it: nothing is streamed. What changes is in its own memory.
        how.strict = true;
        how.state_tier = gpu->main_tier();
        how.may_stream = false;
        machine = gpu_profile(*gpu, memory::available_memory_bytes());
        repack_for_device(model, *gpu);
    }
    how.stream = options.stream;
    how.read_ahead = options.read_ahead;
    how.max_pinned_layers = options.max_pinned_layers;
    how.memory_limit_bytes = options.memory_limit_bytes;
    how.reserve_bytes = reserve_bytes(model.weight_bytes());
    // What `unicorn plan` counts, so that both say the same, and the same every time.
    how.process_bytes = std::max<std::uint64_t>(estimated_process_bytes(config.n_vocab),
                                                memory::resident_anonymous_bytes());
    auto plan =
        plan::make_plan(model, describe_workload(model, options, gpu == nullptr), machine, how);
    if (!plan) return fail(plan.error().code, "{}: {}", file.path(), plan.error().message);
    if (!plan->fits) return fail(ErrorCode::out_of_memory, "{}: {}", file.path(), plan->verdict);
    return plan;
}

struct Chosen {
    std::unique_ptr<device::Device> device;
    plan::Plan plan;
};

std::string cpu_instead(std::string_view gpu, const Error& error) {
    return fmt::format("the CPU runs the model, not {}: {}", gpu, error.message);
}

/// The GPU that `options` name, within their limit of memory. Errors: as open_device().
Result<std::unique_ptr<device::Device>> open_limited(const EngineOptions& options) {
    const std::size_t budget =
        options.memory_limit_bytes == 0 ? SIZE_MAX : options.memory_limit_bytes;
    return open_device(options.device, options.threads, budget,
                       {options.time_steps, options.lose_device});
}

/// A GPU, which is asked what it has.
Result<Chosen> choose_gpu(const formats::Gguf& file, const model::Config& config,
                          const EngineOptions& options, std::string& name) {
    auto device = open_limited(options);
    if (!device) return forward(device);
    name = (*device)->info().name;
    auto plan = plan_memory(file, config, options, device->get());
    if (!plan) return forward(plan);
    return Chosen{std::move(*device), std::move(*plan)};
}

/// The CPU, which is told what it may take.
Result<Chosen> choose_cpu(const formats::Gguf& file, const model::Config& config,
                          const EngineOptions& options) {
    auto plan = plan_memory(file, config, options, nullptr);
    if (!plan) return forward(plan);
    auto device = open_device(options.device, options.threads, plan->allowed_bytes, {});
    if (!device) return forward(device);
    return Chosen{std::move(*device), std::move(*plan)};
}

/// Opens what runs the model, and decides what goes where. In place of "auto", `options` then
/// names it. Errors: as Engine::open().
Result<Chosen> choose_device(const formats::Gguf& file, const model::Config& config,
                             EngineOptions& options, std::vector<std::string>& warnings) {
    std::string name = "the GPU";
    const bool automatic = options.device == "auto";
    const EngineOptions any;
    const bool only_cpu = options.policy != any.policy || options.stream != any.stream ||
                          options.max_pinned_layers != any.max_pinned_layers ||
                          options.machine.has_value();
    if (is_gpu(options.device)) {
        if (only_cpu) {
            return fail(
                ErrorCode::invalid_argument,
                "device \"{}\" takes neither a policy nor streaming: all of a model is in its "
                "memory",
                options.device);
        }
        return choose_gpu(file, config, options, name);
    }
    if (automatic && !only_cpu) {
        options.device = options.auto_gpu;
        auto gpu = choose_gpu(file, config, options, name);
        if (gpu) return gpu;
        // Most machines without a GPU lack the loader, too: nothing to be warned of.
        if (gpu.error().code != ErrorCode::not_found)
            warnings.push_back(cpu_instead(name, gpu.error()));
    }
    if (automatic) options.device = "cpu";
    return choose_cpu(file, config, options);
}

}  // namespace

Status check_inputs(std::span<const Input> inputs, std::size_t n_vocab, std::size_t context) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Input& input = inputs[i];
        UNICORN_CHECK(input.sequence != nullptr);
        for (std::size_t j = 0; j < i; ++j) UNICORN_CHECK(inputs[j].sequence != input.sequence);
        if (input.tokens.empty()) return fail(ErrorCode::invalid_argument, "no tokens to evaluate");
        for (const std::int32_t token : input.tokens) {
            if (token < 0 || static_cast<std::size_t>(token) >= n_vocab) {
                return fail(ErrorCode::invalid_argument, "token {} is outside the vocabulary of {}",
                            token, n_vocab);
            }
        }
        const std::size_t length = input.sequence->length() + input.tokens.size();
        if (length > context) {
            return fail(ErrorCode::invalid_argument,
                        "{} tokens do not fit in a context of {} (see --ctx)", length, context);
        }
    }
    return {};
}

Status Engine::State::prepare(const std::function<bool()>& cancel) {
    auto bound = model::bind_weights(file, config);
    if (!bound) return forward(bound);
    weights = std::move(*bound);
    auto& main = *device->allocator(device->main_tier());
    auto kv = KvCache::create(config, options.kv_type, options.context, options.max_sequences,
                              options.chunk_tokens, main);
    if (!kv) {
        return fail(ErrorCode::out_of_memory, "the KV cache for {} x {} tokens does not fit: {}",
                    options.max_sequences, options.context, kv.error().message);
    }
    cache = std::move(*kv);
    const std::size_t logit_rows = plan::logit_rows(workload_rows(options));
    auto memory = model::allocate_activations(config, options.chunk_tokens, logit_rows, main,
                                              device->results(), activations);
    if (!memory) return forward(memory);
    activation_memory = std::move(*memory);

    if (auto status = place_weights(cancel); !status) return status;
    if (auto status = make_programs(); !status) return status;

    batch.first_logits.reserve(options.max_sequences);
    batch.lengths.reserve(options.max_sequences);
    batch.tokens.reserve(options.chunk_tokens);
    batch.positions.reserve(options.chunk_tokens);
    batch.runs.reserve(options.max_sequences);
    batch.logit_rows.reserve(options.chunk_tokens);
    batch.logit_inputs.reserve(options.chunk_tokens);
    return {};
}

Status Engine::State::make_programs() {
    const model::ForwardPass pass = model::forward_pass(
        config, weights, activations, cache.layers(), plan.streaming.layers, stream.get());
    auto body_program = device->prepare(pass.body, options.chunk_tokens);
    if (!body_program) return forward(body_program);
    body = std::move(*body_program);
    auto head_program = device->prepare(pass.head, activations.logits.rows);
    if (!head_program) return forward(head_program);
    head = std::move(*head_program);
    return device->main_tier() == memory::Tier::host ? Status() : make_pickers();
}

Status Engine::State::place_weights(const std::function<bool()>& cancel) {
    const bool on_cpu = device->main_tier() == memory::Tier::host;
    const bool tied = weights.output.host == weights.token_embd.host;
    std::vector<device::TensorRef*> pinned;
    LoadOptions how;
    how.way = load_way;
    how.threads = options.threads;
    how.cancel = cancel;
    // Pages of a mapped file come and go as the system likes: not where memory is short.
    how.keep_mapped = options.memory_limit_bytes == 0 && plan.streaming.layers.empty();
    std::unordered_map<const std::byte*, memory::Tier> tiers;
    if (!on_cpu) {
        for (const plan::Placement& placement : plan.placements) {
            if (const auto* tensor = file.find_tensor(placement.name))
                tiers.emplace(tensor->bytes.data(), placement.tier);
        }
        how.tier_of = [&](const device::TensorRef& w) { return tiers.at(w.host); };
    }

    StreamOptions streaming;
    streaming.way = load_way;
    streaming.disk = options.disk;
    std::vector<std::vector<device::TensorRef*>> streamed;
    streaming.n_pinned = config.n_layers - plan.streaming.layers.size();
    for (std::size_t i = 0; i < config.n_layers; ++i) {
        const auto layer = model::matrices(weights.layers[i]);
        if (std::ranges::binary_search(plan.streaming.layers, i)) {
            streamed.emplace_back(layer.begin(), layer.end());
        } else {
            pinned.insert(pinned.end(), layer.begin(), layer.end());
        }
    }
    pinned.push_back(&weights.output);
    if (!on_cpu) {
        // The CPU reads these where the file is mapped.
        if (!tied) pinned.push_back(&weights.token_embd);
        weights.for_each_gain([&](device::TensorRef& gain) { pinned.push_back(&gain); });
    }
    auto loaded_weights = load_weights(file, pinned, *device, how);
    if (!loaded_weights) return forward(loaded_weights);
    loaded = std::move(*loaded_weights);
    if (!on_cpu && tied) weights.token_embd = weights.output;
    if (!streamed.empty()) {
        auto& main = *device->allocator(device->main_tier());
        auto made = LayerStream::create(file, *device, main, streamed, plan.streaming.buffers,
                                        plan.streaming.buffer_bytes, streaming);
        if (!made) {
            return fail(made.error().code, "{}: cannot stream layers: {}", file.path(),
                        made.error().message);
        }
        stream = std::move(*made);
    }
    weights.for_each_matrix(
        [&](const device::TensorRef& w) { weight_bytes += device::stored_bytes(w); });
    return {};
}

Status Engine::State::run_batch(const LogitsSink& sink, const std::function<bool()>& cancel) {
    device::Batch rows;
    if (cancel) rows.cancel = &cancel;
    rows.tokens = batch.tokens;
    rows.positions = batch.positions;
    rows.runs = batch.runs;
    cache.describe(rows);
    if (!cache.copies().empty()) {
        if (auto status = device->copy(cache.copies()); !status) return status;
        cache.copied();
    }
    auto ticket = device->submit(*body, rows, {});
    if (!ticket) return forward(ticket);
    if (batch.logit_rows.empty()) {
        if (auto status = device->wait(*ticket); !status) return status;
        return check_sources();
    }

    for (std::size_t first = 0; first < batch.logit_rows.size(); first += max_logit_rows()) {
        device::Batch wanted;
        wanted.logit_rows =
            std::span(batch.logit_rows)
                .subspan(first, std::min(max_logit_rows(), batch.logit_rows.size() - first));
        ticket = device->submit(*head, wanted, {});
        if (!ticket) return forward(ticket);
        if (auto status = device->wait(*ticket); !status) return status;
        // Rows of the embedding and float matrices are read from the map while computing.
        if (auto status = check_sources(); !status) return status;
        for (std::size_t i = 0; i < wanted.logit_rows.size(); ++i) {
            const auto* logits =
                reinterpret_cast<const float*>(activations.logits.host) + i * config.n_vocab;
            const auto position = batch.positions[static_cast<std::size_t>(wanted.logit_rows[i])];
            const std::size_t input = batch.logit_inputs[first + i];
            sink(input, static_cast<std::size_t>(position), {logits, n_vocab});
            batch.first_logits[input] = static_cast<std::size_t>(position) + 1;
        }
    }
    return {};
}

Result<std::unique_ptr<Engine>> Engine::open(const std::string& path, const EngineOptions& wanted,
                                             const std::function<bool()>& cancel) {
    EngineOptions options = wanted;
    auto load_way = load_way_from_name(options.load);
    if (!load_way) return forward(load_way);
    if (options.chunk_tokens == 0 || options.max_sequences == 0) {
        return fail(ErrorCode::invalid_argument,
                    "chunk_tokens and max_sequences must be at least 1");
    }
    // Threads meet hundreds of times a token: with many more of them than CPUs, they only wait.
    const std::size_t most_threads = std::max<std::size_t>(16, 4 * available_cpus());
    if (options.threads > most_threads) {
        return fail(ErrorCode::invalid_argument, "{} threads on {} CPUs, expected at most {}",
                    options.threads, available_cpus(), most_threads);
    }
    if (options.max_sequences > kMaxSequences) {
        return fail(ErrorCode::invalid_argument, "{} sequences, expected at most {}",
                    options.max_sequences, kMaxSequences);
    }
    auto file = formats::Gguf::open(path);
    if (!file) return forward(file);
    auto config = model::read_config(*file);
    if (!config) return forward(config);
    if (!kernels::can_cache(options.kv_type, config->head_dim)) {
        return fail(ErrorCode::unsupported,
                    "{}: no KV cache of type {} for heads of {} elements; f16 works (--kv-type)",
                    path, tensor::name(options.kv_type), config->head_dim);
    }
    if (options.verify) {
        Progress progress("verify", file->tensor_bytes(), ProgressUnit::bytes);
        auto status = formats::verify_tensors(
            *file, options.threads == 0 ? available_cpus() : options.threads,
            [&](std::uint64_t done) {
                progress.update(done);
                return !cancel || !cancel();
            });
        if (!status) return forward(status);
    }
    auto vocabulary = formats::read_vocabulary(*file);
    if (!vocabulary) return forward(vocabulary);
    if (vocabulary->pieces.size() > config->n_vocab) {
        return fail(ErrorCode::invalid_file,
                    "{}: the vocabulary has {} pieces, but token_embd.weight only {} rows", path,
                    vocabulary->pieces.size(), config->n_vocab);
    }
    auto tokenizer = text::Tokenizer::create(*vocabulary);
    if (!tokenizer) return fail(tokenizer.error().code, "{}: {}", path, tokenizer.error().message);

    if (options.threads == 0) options.threads = available_cpus();
    if (options.context == 0) options.context = default_context(config->max_context);
    if (options.context > config->max_context) {
        return fail(ErrorCode::invalid_argument,
                    "a context of {} tokens is more than the model's {}", options.context,
                    config->max_context);
    }
    options.chunk_tokens = plan::chunk_rows(workload_rows(options));

    std::vector<std::string> warnings;
    auto chosen = choose_device(*file, *config, options, warnings);
    if (!chosen) return forward(chosen);

    auto state =
        std::make_unique<State>(std::move(options), std::move(*file), std::move(*tokenizer));
    state->config = std::move(*config);
    state->plan = std::move(chosen->plan);
    state->device = std::move(chosen->device);
    state->device_info = state->device->info();
    for (std::string& warning : warnings) state->device_info.warnings.push_back(std::move(warning));
    state->load_way = *load_way;
    state->stop_ids = std::move(vocabulary->stop_ids);
    state->n_vocab =
        vocabulary->pieces.size() == kPaddedVocab ? kGemmaVocab : vocabulary->pieces.size();
    if (!vocabulary->chat_template.empty()) {
        state->chat_template = text::ChatTemplate::from_source(vocabulary->chat_template);
    }
    auto status = state->prepare(cancel);
    if (status) return std::unique_ptr<Engine>(new Engine(std::move(state)));
    const bool other = wanted.device == "auto" && is_gpu(state->options.device) &&
                       status.error().code != ErrorCode::cancelled;
    if (!other) return forward(status);
    const std::string warning = cpu_instead(state->device_info.name, status.error());
    state.reset();
    EngineOptions on_cpu = wanted;
    on_cpu.device = "cpu";
    on_cpu.verify = false;
    auto engine = open(path, on_cpu, cancel);
    if (engine) (*engine)->state_->device_info.warnings.push_back(warning);
    return engine;
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

const model::Config& Engine::config() const { return state_->config; }
const formats::Gguf& Engine::file() const { return state_->file; }
const text::Tokenizer& Engine::tokenizer() const { return state_->tokenizer; }
std::span<const std::int32_t> Engine::stop_ids() const { return state_->stop_ids; }
std::size_t Engine::n_vocab() const { return state_->n_vocab; }
const EngineOptions& Engine::options() const { return state_->options; }
std::string Engine::device_name() const { return state_->device_info.name; }
std::span<const std::string> Engine::warnings() const { return state_->device_info.warnings; }

Result<const text::ChatTemplate*> Engine::chat_template() const {
    const auto& found = state_->chat_template;
    if (found) return &*found;
    if (found.error().code == ErrorCode::not_found) return nullptr;
    return fail(found.error().code, "{}: {}", state_->file.path(), found.error().message);
}

const plan::Plan& Engine::plan() const { return state_->plan; }

MemoryUse Engine::memory() const {
    if (!state_->is_ready) return {};
    device::Device& device = *state_->device;
    const memory::Usage main = device.allocator(device.main_tier())->usage();
    MemoryUse use;
    use.weight_bytes = state_->loaded.bytes() + state_->loaded.mapped_bytes +
                       (state_->stream == nullptr ? 0 : state_->stream->bytes());
    use.kv_bytes = state_->cache.bytes();
    use.workspace_bytes =
        main.used - use.kv_bytes -
        (use.weight_bytes - state_->loaded.mapped_bytes - state_->loaded.bytes_elsewhere);
    use.peak_bytes = main.peak;
    use.budget_bytes = main.budget;
    return use;
}

LoadReport Engine::load_report() const {
    return {state_->loaded.seconds, state_->loaded.stats, state_->loaded.mapped_bytes,
            state_->loaded.peak_bytes};
}

std::optional<StreamReport> Engine::stream_report() const {
    if (state_->stream == nullptr) return {};
    const plan::Streaming& streaming = state_->plan.streaming;
    const std::size_t n = streaming.layers.size();
    return StreamReport{n, state_->config.n_layers - n, state_->stream->n_buffers(),
                        streaming.bytes, state_->stream->stats()};
}

std::uint64_t Engine::read_bytes_per_token(std::size_t context) const {
    return state_->weight_bytes + state_->cache.read_bytes(state_->config, context);
}

std::uint64_t Engine::head_bytes() const { return device::stored_bytes(state_->weights.output); }

std::vector<std::pair<std::string_view, double>> Engine::step_seconds() const {
    device::StepSeconds seconds{};
    if (state_->is_ready) seconds = state_->device->step_seconds();
    std::vector<std::pair<std::string_view, double>> result;
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        const std::string_view step = device::step_name(i);
        if (state_->stream == nullptr && step.ends_with("_weights")) continue;
        result.emplace_back(step, seconds[i]);
    }
    return result;
}

Result<Sequence> Engine::create_sequence() {
    bool rebuilt = false;
    if (auto status = state_->ensure_device({}, rebuilt); !status) return forward(status);
    auto slot = state_->cache.open_slot();
    if (!slot) return forward(slot);
    auto sequence = std::make_unique<Sequence::State>();
    sequence->engine = state_.get();
    sequence->slot = *slot;
    sequence->tokens.reserve(state_->options.context);
    state_->sequences.push_back(sequence.get());
    return Sequence(std::move(sequence));
}

std::size_t Engine::n_rebuilt() const { return state_->n_rebuilt; }

Status Engine::evaluate(std::span<const Input> inputs, const LogitsSink& sink,
                        const std::function<bool()>& cancel) {
    bool rebuilt = false;
    return state_->evaluate(inputs, sink, cancel, rebuilt);
}

Status Engine::State::recover(Error error, const std::function<bool()>& cancel, bool& rebuilt) {
    if (error.code != ErrorCode::device_lost) return tl::unexpected(std::move(error));
    if (rebuilt) {
        return fail(ErrorCode::device_lost,
                    "the device was lost again after it was set up anew: {}", error.message);
    }
    rebuilt = true;
    const auto status = set_up_again(cancel);
    if (status || status.error().code == ErrorCode::cancelled) return status;
    return fail(ErrorCode::device_lost, "{}; it cannot be set up again: {}", error.message,
                status.error().message);
}

Status Engine::State::ensure_device(const std::function<bool()>& cancel, bool& rebuilt) {
    if (is_ready) return {};
    rebuilt = true;
    return set_up_again(cancel);
}

Status Engine::State::set_up_again(const std::function<bool()>& cancel) {
    is_ready = false;
    // Nothing may outlive the device it came from.
    pickers = {};
    draw_states = nullptr;
    for (memory::Allocation* piece : {&picker_logits, &picker_ids, &picker_states})
        *piece = memory::Allocation();
    body.reset();
    head.reset();
    activation_memory = {};
    cache = {};
    loaded = {};
    weight_bytes = 0;
    device.reset();
    for (Sequence::State* sequence : sequences) sequence->n_computed = 0;
    auto opened = open_limited(options);
    if (!opened) return forward(opened);
    device = std::move(*opened);
    if (auto status = prepare(cancel); !status) return status;
    for (Sequence::State* sequence : sequences) {
        auto slot = cache.open_slot();
        if (!slot) return forward(slot);
        sequence->slot = *slot;
    }
    ++n_rebuilt;
    is_ready = true;
    return {};
}

Status Engine::State::evaluate(std::span<const Input> inputs, const LogitsSink& sink,
                               const std::function<bool()>& cancel, bool& rebuilt) {
    if (inputs.size() > options.max_sequences) {
        return fail(ErrorCode::invalid_argument, "{} inputs, but at most {} sequences",
                    inputs.size(), options.max_sequences);
    }
    if (auto status = check_inputs(inputs, n_vocab, options.context); !status) return status;
    if (auto status = ensure_device(cancel, rebuilt); !status) return status;
    batch.lengths.clear();
    batch.first_logits.clear();
    for (const Input& input : inputs) {
        auto& tokens = input.sequence->state_->tokens;
        batch.lengths.push_back(tokens.size());
        batch.first_logits.push_back(tokens.size());
        tokens.insert(tokens.end(), input.tokens.begin(), input.tokens.end());
    }
    // What is not computed is not kept, so that a failed or cancelled call leaves whole chunks.
    // What was lost with a device is kept, to be computed again.
    const auto drop_pending = [&] {
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Sequence::State& sequence = *inputs[i].sequence->state_;
            sequence.tokens.resize(
                std::max(sequence.n_computed, rebuilt ? batch.lengths[i] : std::size_t{0}));
        }
    };
    for (;;) {
        batch.tokens.clear();
        batch.positions.clear();
        batch.runs.clear();
        batch.logit_rows.clear();
        batch.logit_inputs.clear();
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Sequence::State& sequence = *inputs[i].sequence->state_;
            const std::size_t length = sequence.tokens.size(), first = sequence.n_computed;
            const std::size_t n =
                std::min(length - first, options.chunk_tokens - batch.tokens.size());
            if (n == 0) continue;
            cache.prepare_write(sequence.slot, first, n);
            batch.runs.push_back({static_cast<std::int32_t>(batch.tokens.size()),
                                  static_cast<std::int32_t>(n), static_cast<std::int32_t>(first),
                                  sequence.slot});
            for (std::size_t p = first; p < first + n; ++p) {
                // Not what the sink got before a device was lost.
                const bool wanted = p >= batch.first_logits[i] &&
                                    (inputs[i].logits == Logits::all ||
                                     (inputs[i].logits == Logits::last && p + 1 == length));
                if (wanted) {
                    batch.logit_rows.push_back(static_cast<std::int32_t>(batch.tokens.size()));
                    batch.logit_inputs.push_back(i);
                }
                batch.tokens.push_back(sequence.tokens[p]);
                batch.positions.push_back(static_cast<std::int32_t>(p));
            }
        }
        if (batch.tokens.empty()) return {};
        if (cancel && cancel()) {
            drop_pending();
            return fail(ErrorCode::cancelled, "cancelled");
        }
        if (auto status = run_batch(sink, cancel); !status) {
            status = recover(std::move(status.error()), cancel, rebuilt);
            if (status) continue;
            drop_pending();
            return status;
        }
        for (const device::Run& run : batch.runs) {
            for (const Input& input : inputs) {
                Sequence::State& sequence = *input.sequence->state_;
                if (sequence.slot == run.slot)
                    sequence.n_computed += static_cast<std::size_t>(run.n_rows);
            }
        }
    }
}

Sequence::Sequence(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;

Sequence& Sequence::operator=(Sequence&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
}

Sequence::~Sequence() {
    if (state_ == nullptr) return;
    if (state_->engine->is_ready) state_->engine->cache.close_slot(state_->slot);
    std::erase(state_->engine->sequences, state_.get());
}

std::span<const std::int32_t> Sequence::tokens() const { return state_->tokens; }
std::size_t Sequence::n_computed() const { return state_->n_computed; }

void Sequence::truncate(std::size_t n) {
    UNICORN_CHECK(n <= state_->tokens.size());
    state_->tokens.resize(n);
    if (n >= state_->n_computed) return;
    state_->n_computed = state_->engine->cache.truncate(state_->slot, n) ? n : 0;
}

Result<Sequence> Sequence::fork() const {
    bool rebuilt = false;
    if (auto status = state_->engine->ensure_device({}, rebuilt); !status) return forward(status);
    auto slot = state_->engine->cache.fork_slot(state_->slot);
    if (!slot) return forward(slot);
    auto fork = std::make_unique<State>();
    fork->engine = state_->engine;
    fork->slot = *slot;
    fork->tokens.reserve(state_->engine->options.context);
    fork->tokens.assign(state_->tokens.begin(), state_->tokens.end());
    fork->n_computed = state_->n_computed;
    fork->engine->sequences.push_back(fork.get());
    return Sequence(std::move(fork));
}

}  // namespace unicorn::engine
