#pragma once
// A loaded model and its sequences. Two nouns: Engine (weights, device, plan) and Sequence (one KV
// timeline). Nothing above this folder sees a tensor.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/load_stats.h"
#include "model/config.h"
#include "plan/planner.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace unicorn {
class SlowDisk;
}

namespace unicorn::engine {

struct EngineOptions {
    /// "cpu", or a Vulkan device: "vulkan" (the first GPU), "vulkan:1" (by index), "vulkan:radeon"
    /// (by a part of its name; software devices only so). "auto": the first GPU, if it can hold the
    /// whole model and the options below ask for nothing that only the CPU does; else the CPU, and
    /// where a GPU was there, warnings() says why.
    std::string device = "cpu";
    bool time_steps = false;  // step_seconds() of GPUs, too, which slows them down
    std::size_t threads = 0;  // of the CPU, at most 4 for each it has (or 16); 0: one for each
    std::size_t context = 0;  // tokens a sequence can hold; 0: min(model's maximum, 4096)
    std::size_t max_sequences = 1;   // sequences that are in memory at once, forks included
    std::size_t chunk_tokens = 512;  // rows of a batch at most; prompts are cut into such chunks
    tensor::DType kv_type = tensor::DType::f16;  // of the KV cache: f16, q8_0, f32
    plan::Policy policy = plan::Policy::automatic;
    /// Bytes of memory that the process may take, weights, cache and everything else; 0: what the
    /// machine has. Layers that do not fit are read from the disk for every pass. Pages of the
    /// model's file that the system keeps cached are not counted: it takes them back at need.
    std::uint64_t memory_limit_bytes = 0;
    std::optional<plan::HardwareProfile> machine = {};  // left out: this one
    /// How weights come from the disk: "auto" (the page cache for what is in it, else O_DIRECT by
    /// io_uring or threads), or one way for everything: "uring", "threads", "cache". The result is
    /// the same.
    std::string load = "auto";
    /// Compare every tensor with the sum that the file says it was written with, first.
    bool verify = false;
    plan::StreamPolicy stream = plan::StreamPolicy::pin;  // which layers stay, if not all can
    std::size_t read_ahead = plan::kDiskReadAhead;        // streamed layers, at most
    std::size_t max_pinned_layers = plan::kAllLayers;     // kept in memory, at most
    /// For tests: the GPU that "auto" tries.
    std::string auto_gpu = "vulkan";
    /// For tests: asked at each submission to a GPU whether it is lost there and then.
    std::function<bool()> lose_device = {};
    SlowDisk* disk = nullptr;  // slows streaming down, for tests and benchmarks
};

/// What is where, for --stats and bench.
struct MemoryUse {
    std::size_t weight_bytes = 0;  // weights as the kernels read them
    std::size_t kv_bytes = 0;
    std::size_t workspace_bytes = 0;  // activations and logits
    std::size_t peak_bytes = 0;       // of all these and buffers for reading, at any time so far
    std::size_t budget_bytes = 0;     // what they may take
};

class Engine;
class Sampler;

/// One timeline of tokens with its keys and values. Move-only; its Engine must outlive it.
/// Not thread-safe, like the Engine.
class Sequence {
public:
    Sequence(Sequence&&) noexcept;
    Sequence& operator=(Sequence&&) noexcept;
    ~Sequence();

    /// Every token evaluated or pending so far, oldest first.
    std::span<const std::int32_t> tokens() const;
    std::size_t length() const { return tokens().size(); }
    /// Tokens whose keys and values are in the cache; the others are computed by the next
    /// evaluate().
    std::size_t n_computed() const;

    /// Forgets all tokens from position `n` on; n <= length(). Keys and values that local layers
    /// have already dropped are recomputed by the next evaluate(), from the tokens kept here.
    void truncate(std::size_t n);

    /// A second timeline with the same past; pages are shared until one of the two writes to them.
    /// Errors: out_of_memory, when max_sequences are in use.
    Result<Sequence> fork() const;

private:
    friend class Engine;
    struct State;
    explicit Sequence(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

enum class Logits { none, last, all };

/// Tokens to append to a sequence, and which of their logits to hand out.
struct Input {
    Sequence* sequence = nullptr;
    std::span<const std::int32_t> tokens;
    Logits logits = Logits::last;
};

/// Called once for each row asked for, rows of one input in order: the index of the input, the
/// position in its sequence, and [V] logits that are valid during the call.
using LogitsSink =
    std::function<void(std::size_t input, std::size_t position, std::span<const float> logits)>;

/// A sequence that decodes by itself.
struct Decoding {
    Sequence* sequence = nullptr;
    Sampler* sampler = nullptr;
    std::int32_t token = 0;                  // appended first
    std::size_t max_tokens = 0;              // drawn at most
    std::span<const std::int32_t> banned{};  // never drawn
};

class Engine {
public:
    /// Opens a GGUF model, plans where everything goes and makes it ready. Errors: not_found, io,
    /// invalid_file, unsupported; out_of_memory, before anything is allocated, when the plan does
    /// not fit, with the nearest settings that do; cancelled; one line that names the file.
    /// `cancel`, when given, is asked while weights are read, by any thread.
    static Result<std::unique_ptr<Engine>> open(const std::string& path,
                                                const EngineOptions& options,
                                                const std::function<bool()>& cancel = {});
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const model::Config& config() const;
    const formats::Gguf& file() const;
    const text::Tokenizer& tokenizer() const;
    /// The chat template, or nullptr when the file has none.
    /// Errors: unsupported, when it has one that we do not know; plain continuation still works.
    Result<const text::ChatTemplate*> chat_template() const;
    /// Ids that end an answer (eos, end of turn).
    std::span<const std::int32_t> stop_ids() const;
    /// Rows of logits: the vocabulary, without the untrained rows that some checkpoints append.
    std::size_t n_vocab() const;

    const EngineOptions& options() const;  // as in force: no zeros left
    /// What runs the model, for people: "cpu, 2 threads, avx512".
    std::string device_name() const;
    /// What a user should know of it, a line each.
    std::span<const std::string> warnings() const;
    MemoryUse memory() const;
    const plan::Plan& plan() const;
    LoadReport load_report() const;
    /// Nothing when all layers are in memory.
    std::optional<StreamReport> stream_report() const;
    /// Bytes that decoding one token reads with `context` tokens in the cache: weights and KV.
    std::uint64_t read_bytes_per_token(std::size_t context) const;
    /// The head's part of that: read once for every row of logits, not for every chunk of a prompt.
    std::uint64_t head_bytes() const;

    /// Seconds spent so far in each kind of step, for breakdowns: names and times, the same order
    /// every time. Of a GPU only with time_steps.
    std::vector<std::pair<std::string_view, double>> step_seconds() const;

    /// How often a GPU was lost and set up again.
    std::size_t n_rebuilt() const;

    /// Errors: out_of_memory, when max_sequences are in use.
    Result<Sequence> create_sequence();

    /// Appends each input's tokens to its sequence and runs the model over them, all inputs in the
    /// same batches, in chunks of at most chunk_tokens rows. A sequence may appear once.
    /// `cancel`, when given, is asked between chunks; cancelled sequences keep whole chunks only.
    /// A GPU that is lost meanwhile is opened again, the weights are loaded again, and the keys and
    /// values of the sequences are computed again from their tokens, once in a call: nothing else
    /// shows that it happened.
    /// Errors: invalid_argument (a token outside the vocabulary, no tokens, a sequence that would
    /// outgrow the context; nothing is changed then), cancelled; device_lost, when it was lost a
    /// second time or cannot be set up again (sequences keep the tokens they had before the call,
    /// and the next call tries again); io, when the model's file changed or was cut off while in
    /// use.
    Status evaluate(std::span<const Input> inputs, const LogitsSink& sink,
                    const std::function<bool()>& cancel = {});

    /// How many sequences decode() takes at once; 0 where it does not work: on the CPU, which reads
    /// the logits anyway.
    std::size_t max_decoding() const;
    /// Whether decode() can draw for `sampler` with `n_banned` tokens ruled out:
    /// Sampler::fits_gpu(), on a device that has 64-bit integers.
    bool can_decode(const Sampler& sampler, std::size_t n_banned = 0) const;
    /// Appends each one's token to its sequence, then the token that its sampler draws from the
    /// logits, and so on: the device draws each one, exactly as the sampler would, and goes on
    /// without waiting for the CPU. The last token of each is not appended. on_token() gets the
    /// index in `decodings` and the token, accepts it with the sampler, as after Sampler::sample(),
    /// and returns whether this one goes on. Samplers are left as if they had sampled. Requires
    /// can_decode() of each, a sequence and a sampler of its own for each, and room in the context
    /// for its max_tokens. Errors: as evaluate(); invalid_argument, when there are more than
    /// max_decoding(); invalid_file, when no logit of one is a number.
    Status decode(std::span<const Decoding> decodings,
                  const std::function<bool(std::size_t index, std::int32_t id)>& on_token,
                  const std::function<bool()>& cancel = {});

private:
    friend class Sequence;
    struct State;
    explicit Engine(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace unicorn::engine
