#include "engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "engine/layer_stream.h"
#include "engine/load_weights.h"
#include "engine/open_devices.h"
#include "engine/plan_model.h"
#include "formats/tensor_sums.h"
#include "kernels/kv_page.h"
#include "machine/profile.h"
#include "memory/host_allocator.h"
#include "model/gemma3.h"

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

struct Sequence::State {
    Engine::State* engine = nullptr;
    std::int32_t slot = 0;
    std::vector<std::int32_t> tokens;  // never longer than reserved at creation
    std::size_t n_computed = 0;        // tokens whose keys and values are in the cache
};

struct Engine::State {
    State(EngineOptions o, formats::Gguf f, text::Tokenizer t)
        : options(std::move(o)), file(std::move(f)), tokenizer(std::move(t)) {}

    EngineOptions options;
    formats::Gguf file;
    text::Tokenizer tokenizer;
    model::Config config;
    plan::Plan plan;
    Result<text::ChatTemplate> chat_template = fail(ErrorCode::not_found, "no chat template");
    std::vector<std::int32_t> stop_ids;
    std::size_t n_vocab = 0;

    // In the order of dependence: the device outlives what it allocated and prepared.
    std::unique_ptr<device::Device> device;
    model::Weights weights;
    LoadedWeights loaded;
    std::size_t weight_bytes = 0;  // what multiplying by every matrix once reads
    KvCache cache;
    memory::Allocation activation_memory;
    model::Activations activations;
    std::unique_ptr<LayerStream> stream;  // nullptr when all layers are in memory
    std::unique_ptr<device::Program> body, head;

    // One batch at a time, in arrays that never grow past their reserve.
    struct {
        std::vector<std::int32_t> tokens, positions;
        std::vector<device::Run> runs;
        std::vector<std::int32_t> logit_rows;
        std::vector<std::size_t> logit_inputs;  // for each logit row, whose it is
    } batch;

    Status prepare(LoadWay load_way, const std::function<bool()>& cancel);
    /// Loads what stays in memory and sets up the stream of what does not.
    Status place_weights(LoadWay load_way, const std::function<bool()>& cancel);
    Status make_programs();
    /// Whether what was computed can be trusted: nothing it was made from has changed.
    Status check_sources() const {
        if (stream != nullptr) {
            if (auto status = stream->status(); !status) return status;
        }
        return file.unchanged();
    }
    std::size_t max_logit_rows() const { return activations.logits.rows; }
    /// Runs the batch and hands out its logits.
    Status run_batch(const LogitsSink& sink);
};

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

/// What goes where, with `options` as in force. Errors: as Engine::open().
Result<plan::Plan> plan_memory(const formats::Gguf& file, const model::Config& config,
                               const EngineOptions& options) {
    plan::ModelSpec model = describe_model(file, config);
    repack_for_cpu(model);
    // Looked at now: the vocabulary and whatever else is in memory is not available any more.
    const plan::HardwareProfile machine =
        options.machine ? *options.machine : this_machine(file.path());
    plan::PlanOptions how;
    how.policy = options.policy;
    how.cpu_only = true;
    how.stream = options.stream;
    how.read_ahead = options.read_ahead;
    how.max_pinned_layers = options.max_pinned_layers;
    how.memory_limit_bytes = options.memory_limit_bytes;
    how.reserve_bytes = reserve_bytes(model.weight_bytes());
    // What `unicorn plan` counts, so that both say the same, and the same every time.
    how.process_bytes = std::max<std::uint64_t>(estimated_process_bytes(config.n_vocab),
                                                memory::resident_anonymous_bytes());
    auto plan = plan::make_plan(model, describe_workload(model, options, true), machine, how);
    if (!plan) return fail(plan.error().code, "{}: {}", file.path(), plan.error().message);
    if (!plan->fits) return fail(ErrorCode::out_of_memory, "{}: {}", file.path(), plan->verdict);
    return plan;
}

/// The part of Engine::evaluate that must hold before anything changes.
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

}  // namespace

Status Engine::State::prepare(LoadWay load_way, const std::function<bool()>& cancel) {
    auto bound = model::bind_weights(file, config);
    if (!bound) return forward(bound);
    weights = std::move(*bound);
    auto& host = *device->allocator(memory::Tier::host);
    auto kv = KvCache::create(config, options.kv_type, options.context, options.max_sequences,
                              options.chunk_tokens, host);
    if (!kv) {
        return fail(ErrorCode::out_of_memory, "the KV cache for {} x {} tokens does not fit: {}",
                    options.max_sequences, options.context, kv.error().message);
    }
    cache = std::move(*kv);
    const std::size_t logit_rows = plan::logit_rows(workload_rows(options));
    auto memory =
        model::allocate_activations(config, options.chunk_tokens, logit_rows, host, activations);
    if (!memory) return forward(memory);
    activation_memory = std::move(*memory);

    if (auto status = place_weights(load_way, cancel); !status) return status;
    if (auto status = make_programs(); !status) return status;

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
    return {};
}

Status Engine::State::place_weights(LoadWay load_way, const std::function<bool()>& cancel) {
    auto& host = *device->allocator(memory::Tier::host);
    std::vector<device::TensorRef*> pinned;
    LoadOptions how;
    how.way = load_way;
    how.threads = options.threads;
    how.cancel = cancel;
    // Pages of a mapped file come and go as the system likes: not where memory is short.
    how.keep_mapped = options.memory_limit_bytes == 0 && plan.streaming.layers.empty();

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
    auto loaded_weights = load_weights(file, pinned, *device, how);
    if (!loaded_weights) return forward(loaded_weights);
    loaded = std::move(*loaded_weights);
    if (!streamed.empty()) {
        auto made = LayerStream::create(file, *device, host, streamed, plan.streaming.buffers,
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

Status Engine::State::run_batch(const LogitsSink& sink) {
    device::Batch rows;
    rows.tokens = batch.tokens;
    rows.positions = batch.positions;
    rows.runs = batch.runs;
    cache.describe(rows);
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
            sink(batch.logit_inputs[first + i], static_cast<std::size_t>(position),
                 {logits, n_vocab});
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

    auto planned = plan_memory(*file, *config, options);
    if (!planned) return forward(planned);
    auto device = open_device(options.device, options.threads, planned->allowed_bytes);
    if (!device) return forward(device);
    if (options.device == "auto") options.device = "cpu";

    auto state =
        std::make_unique<State>(std::move(options), std::move(*file), std::move(*tokenizer));
    state->config = std::move(*config);
    state->plan = std::move(*planned);
    state->device = std::move(*device);
    state->stop_ids = std::move(vocabulary->stop_ids);
    state->n_vocab =
        vocabulary->pieces.size() == kPaddedVocab ? kGemmaVocab : vocabulary->pieces.size();
    if (!vocabulary->chat_template.empty()) {
        state->chat_template = text::ChatTemplate::from_source(vocabulary->chat_template);
    }
    if (auto status = state->prepare(*load_way, cancel); !status) return forward(status);
    return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

const model::Config& Engine::config() const { return state_->config; }
const formats::Gguf& Engine::file() const { return state_->file; }
const text::Tokenizer& Engine::tokenizer() const { return state_->tokenizer; }
std::span<const std::int32_t> Engine::stop_ids() const { return state_->stop_ids; }
std::size_t Engine::n_vocab() const { return state_->n_vocab; }
const EngineOptions& Engine::options() const { return state_->options; }
std::string Engine::device_name() const { return state_->device->info().name; }

Result<const text::ChatTemplate*> Engine::chat_template() const {
    const auto& found = state_->chat_template;
    if (found) return &*found;
    if (found.error().code == ErrorCode::not_found) return nullptr;
    return fail(found.error().code, "{}: {}", state_->file.path(), found.error().message);
}

const plan::Plan& Engine::plan() const { return state_->plan; }

MemoryUse Engine::memory() const {
    const memory::Usage host = state_->device->allocator(memory::Tier::host)->usage();
    MemoryUse use;
    use.weight_bytes = state_->loaded.memory.bytes() + state_->loaded.mapped_bytes +
                       (state_->stream == nullptr ? 0 : state_->stream->bytes());
    use.kv_bytes = state_->cache.bytes();
    use.workspace_bytes =
        host.used - use.kv_bytes - (use.weight_bytes - state_->loaded.mapped_bytes);
    use.peak_bytes = host.peak;
    use.budget_bytes = host.budget;
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
    const device::StepSeconds seconds = state_->device->step_seconds();
    std::vector<std::pair<std::string_view, double>> result;
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        const std::string_view step = device::step_name(i);
        if (state_->stream == nullptr && step.ends_with("_weights")) continue;
        result.emplace_back(step, seconds[i]);
    }
    return result;
}

Result<Sequence> Engine::create_sequence() {
    auto slot = state_->cache.open_slot();
    if (!slot) return forward(slot);
    auto sequence = std::make_unique<Sequence::State>();
    sequence->engine = state_.get();
    sequence->slot = *slot;
    sequence->tokens.reserve(state_->options.context);
    return Sequence(std::move(sequence));
}

Status Engine::evaluate(std::span<const Input> inputs, const LogitsSink& sink,
                        const std::function<bool()>& cancel) {
    State& s = *state_;
    if (inputs.size() > s.options.max_sequences) {
        return fail(ErrorCode::invalid_argument, "{} inputs, but at most {} sequences",
                    inputs.size(), s.options.max_sequences);
    }
    if (auto status = check_inputs(inputs, s.n_vocab, s.options.context); !status) return status;
    for (const Input& input : inputs) {
        auto& tokens = input.sequence->state_->tokens;
        tokens.insert(tokens.end(), input.tokens.begin(), input.tokens.end());
    }
    // What is not computed is not kept, so that a failed or cancelled call leaves whole chunks.
    const auto drop_pending = [&] {
        for (const Input& input : inputs) {
            input.sequence->state_->tokens.resize(input.sequence->state_->n_computed);
        }
    };
    for (;;) {
        auto& batch = s.batch;
        batch.tokens.clear();
        batch.positions.clear();
        batch.runs.clear();
        batch.logit_rows.clear();
        batch.logit_inputs.clear();
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Sequence::State& sequence = *inputs[i].sequence->state_;
            const std::size_t length = sequence.tokens.size(), first = sequence.n_computed;
            const std::size_t n =
                std::min(length - first, s.options.chunk_tokens - batch.tokens.size());
            if (n == 0) continue;
            s.cache.prepare_write(sequence.slot, first, n);
            batch.runs.push_back({static_cast<std::int32_t>(batch.tokens.size()),
                                  static_cast<std::int32_t>(n), static_cast<std::int32_t>(first),
                                  sequence.slot});
            const std::size_t first_new = length - inputs[i].tokens.size();
            for (std::size_t p = first; p < first + n; ++p) {
                const bool wanted = inputs[i].logits == Logits::all
                                        ? p >= first_new
                                        : inputs[i].logits == Logits::last && p + 1 == length;
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
        if (auto status = s.run_batch(sink); !status) {
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
    if (state_ != nullptr) state_->engine->cache.close_slot(state_->slot);
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
    auto slot = state_->engine->cache.fork_slot(state_->slot);
    if (!slot) return forward(slot);
    auto fork = std::make_unique<State>();
    fork->engine = state_->engine;
    fork->slot = *slot;
    fork->tokens.reserve(state_->engine->options.context);
    fork->tokens.assign(state_->tokens.begin(), state_->tokens.end());
    fork->n_computed = state_->n_computed;
    return Sequence(std::move(fork));
}

}  // namespace unicorn::engine
