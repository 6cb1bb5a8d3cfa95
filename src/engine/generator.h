#pragma once
// One answer: the prompt through the model, then token after token until something ends it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/sampler.h"

namespace unicorn::engine {

struct GenerateOptions {
    std::size_t max_tokens = 0;      // 0: as many as the context holds
    std::vector<std::string> stops;  // the answer ends before the first of these
    bool ignore_eos = false;         // ids that end an answer are never drawn
};

/// Why an answer ended.
enum class FinishReason {
    stop,     // the model said so, or a stop string came
    length,   // max_tokens
    context,  // the sequence is full
    cancelled,
};

/// "stop", "length", "context", "cancelled".
std::string_view name(FinishReason reason);

struct Generation {
    std::vector<std::int32_t> ids;  // as drawn, the one that ended the answer included
    std::string text;               // everything that was passed to `on_text`
    FinishReason finish = FinishReason::stop;
    std::size_t prompt_tokens = 0;
    std::size_t reused_tokens = 0;  // of these, what was not computed again
    double prompt_s = 0;            // until the first token was drawn
    double decode_s = 0;            // from then on

    /// Tokens a second of the prompt's evaluated part, and of every token after the first; 0 when
    /// there was nothing to measure.
    double prompt_tok_s() const;
    double tok_s() const;
};

/// Called with text as it becomes ready: whole characters, nothing of a stop string. False cancels.
using TextSink = std::function<bool(std::string_view text)>;

/// Makes `sequence` hold `prompt` (its common beginning with what it holds is kept, and the rest
/// forgotten) and continues it. The sequence then holds the prompt and all of the answer but its
/// last token, which nobody has evaluated yet. `sampler` is reset first, and sees the prompt.
/// `cancelled` is asked before each token and before each chunk of the prompt.
/// Allocates before the first token, and not for every further one.
/// Errors: invalid_argument for an empty prompt; out_of_memory, when the prompt does not leave room
/// for one token in the context; invalid_file, when the model computes nothing that can be drawn
/// from; what Engine::evaluate() returns. Cancelling is not an error.
Result<Generation> generate(Engine& engine, Sequence& sequence,
                            std::span<const std::int32_t> prompt, Sampler& sampler,
                            const GenerateOptions& options, const TextSink& on_text,
                            const std::function<bool()>& cancelled = {});

}  // namespace unicorn::engine
