#pragma once
// What an engine holds: shared by engine.cpp (opening, evaluating) and decode.cpp.

#include <array>

#include "device/device.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/layer_stream.h"
#include "engine/load_weights.h"
#include "formats/gguf.h"
#include "kernels/draw.h"
#include "model/gemma3.h"

namespace unicorn::engine {

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
    LoadWay load_way{};
    device::DeviceInfo device_info;           // outlives a device that is lost
    std::vector<Sequence::State*> sequences;  // all there are
    std::size_t n_rebuilt = 0;
    bool is_ready = true;  // not after a loss, when the device could not be set up again

    // In the order of dependence: the device outlives what it allocated and prepared.
    std::unique_ptr<device::Device> device;
    model::Weights weights;
    LoadedWeights loaded;
    std::size_t weight_bytes = 0;  // what multiplying by every matrix once reads
    KvCache cache;
    model::ActivationMemory activation_memory;
    model::Activations activations;
    std::unique_ptr<LayerStream> stream;  // nullptr when all layers are in memory
    std::unique_ptr<device::Program> body, head;

    // Decoding that goes on by itself: passes in flight, each with a place for its ids.
    static constexpr std::size_t kAhead = 2;
    struct Picker {
        device::TensorRef ids;  // [1, rows] int32, which the CPU reads
        std::unique_ptr<device::Program> pick, sample;
        device::Ticket done;
        // The pass before it.
        std::vector<std::int32_t> tokens, positions, rows;
        std::vector<device::Run> runs;
    };
    memory::Allocation picker_logits, picker_ids, picker_states;
    std::array<Picker, kAhead> pickers;               // without programs on the CPU
    kernels::draw::DrawState* draw_states = nullptr;  // of the rows, where the device draws

    /// A decoding that has not ended.
    struct Row {
        std::size_t index = 0;  // of it
        std::size_t n_drawn = 0;
        std::int32_t token = 0;  // to be appended next
    };

    // One batch at a time, in arrays that never grow past their reserve.
    struct {
        std::vector<std::size_t> first_logits;  // by input: the first position to hand out
        std::vector<std::size_t> lengths;       // by input: tokens before the call
        std::vector<std::int32_t> tokens, positions;
        std::vector<device::Run> runs;
        std::vector<std::int32_t> logit_rows;
        std::vector<std::size_t> logit_inputs;  // for each logit row, whose it is
    } batch;

    Status prepare(const std::function<bool()>& cancel);
    /// Loads what stays in memory and sets up the stream of what does not.
    Status place_weights(const std::function<bool()>& cancel);
    Status make_programs();
    Status make_pickers();
    /// Queues the pass over one more token of each row, and the drawing after it. With `from`,
    /// the pass in flight, at the position after that, and the tokens are those it draws.
    Status submit_pass(std::span<const Decoding> decodings, std::span<const Row> rows, bool samples,
                       const Picker* from, Picker& to);
    /// Decodes until one of the rows ends, and removes those that have.
    Status decode_stretch(std::span<const Decoding> decodings, std::vector<Row>& rows,
                          const std::function<bool(std::size_t, std::int32_t)>& on_token,
                          const std::function<bool()>& cancel);
    /// Whether what was computed can be trusted: nothing it was made from has changed.
    Status check_sources() const {
        if (stream != nullptr) {
            if (auto status = stream->status(); !status) return status;
        }
        return file.unchanged();
    }
    std::size_t max_logit_rows() const { return activations.logits.rows; }
    /// Runs the batch and hands out its logits.
    Status run_batch(const LogitsSink& sink, const std::function<bool()>& cancel);
    /// As Engine::evaluate(). `rebuilt`: whether the call has set the device up again.
    Status evaluate(std::span<const Input> inputs, const LogitsSink& sink,
                    const std::function<bool()>& cancel, bool& rebuilt);
    /// Computes what sequences have pending.
    Status evaluate_pending(std::span<const Decoding> decodings, std::span<const Row> rows,
                            const std::function<bool()>& cancel, bool& rebuilt);
    /// After `error`: whether to try again, on a device that was set up anew, where nothing is
    /// computed yet. Errors: `error`, when it is no loss; device_lost, when this is the second one;
    /// what setting up gives.
    Status recover(Error error, const std::function<bool()>& cancel, bool& rebuilt);
    /// Gives everything that a lost device had back, opens it anew, loads the weights, and gives
    /// sequences slots of the new cache. When it fails, is_ready says so.
    Status set_up_again(const std::function<bool()>& cancel);
    /// Tries once more where setting up has failed.
    Status ensure_device(const std::function<bool()>& cancel, bool& rebuilt);
};

/// What must hold of inputs before anything changes. Errors: invalid_argument.
Status check_inputs(std::span<const Input> inputs, std::size_t n_vocab, std::size_t context);

}  // namespace unicorn::engine
