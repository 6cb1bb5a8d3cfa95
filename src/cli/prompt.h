#pragma once
// From what the user typed to the ids that the model reads, and what is told about the answer.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/generator.h"
#include "text/chat_template.h"

namespace unicorn::cli {

/// Ids of plain text to be continued. `special`: control tokens in it are recognised.
std::vector<std::int32_t> raw_prompt(const engine::Engine& engine, std::string_view text,
                                     bool special);

/// The model's chat template, never nullptr. Errors: unsupported, when it has none or one that we
/// do not know.
Result<const text::ChatTemplate*> need_chat_template(const engine::Engine& engine);

/// Ids of a conversation whose next turn is the model's. Errors: as need_chat_template() and
/// ChatTemplate::encode().
Result<std::vector<std::int32_t>> chat_prompt(const engine::Engine& engine,
                                              const std::vector<text::Message>& messages);

/// How far a prompt of `n_tokens` is, on stderr: a Progress of the rows to be computed. `sequence`
/// must outlive it.
class PromptProgress {
public:
    PromptProgress(const engine::Sequence& sequence, std::size_t n_tokens)
        : sequence_(&sequence), n_tokens_(n_tokens) {}

    /// Before each chunk, and as often as one likes after the last.
    void update();
    /// Takes the line away for good, because text is to appear.
    void clear();

private:
    const engine::Sequence* sequence_;
    std::size_t n_tokens_;
    std::size_t first_ = 0;  // rows that were there before
    bool done_ = false;
    std::optional<Progress> progress_;
};

/// What streaming did, in one line.
std::string describe_stream(const engine::StreamReport& report);

/// The lines of --stats and /stats: prompt and answer with their speeds, memory, device.
std::string stats_text(const engine::Engine& engine, const engine::Generation& generation,
                       std::uint64_t seed);

}  // namespace unicorn::cli
