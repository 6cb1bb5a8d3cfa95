#include "cli/prompt.h"

#include <fmt/format.h>

namespace unicorn::cli {

std::vector<std::int32_t> raw_prompt(const engine::Engine& engine, std::string_view text,
                                     bool special) {
    const text::Tokenizer& tokenizer = engine.tokenizer();
    return tokenizer.encode(text, {.add_bos = tokenizer.wants_bos(), .parse_control = special});
}

Result<const text::ChatTemplate*> need_chat_template(const engine::Engine& engine) {
    auto found = engine.chat_template();
    if (found && *found == nullptr) {
        return fail(ErrorCode::unsupported,
                    "{}: the model has no chat template (unicorn run --raw continues plain text)",
                    engine.file().path());
    }
    return found;
}

Result<std::vector<std::int32_t>> chat_prompt(const engine::Engine& engine,
                                              const std::vector<text::Message>& messages) {
    auto chat_template = need_chat_template(engine);
    if (!chat_template) return forward(chat_template);
    return (*chat_template)->encode(engine.tokenizer(), messages, true);
}

void PromptProgress::update() {
    if (done_) return;
    const std::size_t n = sequence_->n_computed();
    if (n >= n_tokens_) return clear();
    if (!progress_) {
        first_ = n;
        progress_.emplace("prompt", n_tokens_ - n, ProgressUnit::items);
    }
    progress_->update(n - first_);
}

void PromptProgress::clear() {
    progress_.reset();
    done_ = true;
}

std::string describe_stream(const engine::StreamReport& report) {
    const engine::StreamStats& s = report.stats;
    return fmt::format(
        "stream  {} of {} layers from the disk ({} a pass) through {} buffers; {} hits, {} misses, "
        "{} read, {} stalls of {:.2f} s\n",
        report.layers, report.layers + report.pinned,
        human_bytes(static_cast<double>(report.bytes_per_pass)), report.buffers, s.hits, s.misses,
        human_bytes(static_cast<double>(s.read_bytes)), s.stalls, s.stall_s);
}

std::string stats_text(const engine::Engine& engine, const engine::Generation& g,
                       std::uint64_t seed) {
    const engine::MemoryUse memory = engine.memory();
    const auto stream = engine.stream_report();
    const std::string reused =
        g.reused_tokens > 0 ? fmt::format(", {} of them kept", g.reused_tokens) : "";
    const double gb_per_s =
        static_cast<double>(engine.read_bytes_per_token(g.prompt_tokens + g.ids.size() / 2)) *
        g.tok_s() / 1e9;
    return fmt::format(
        "prompt  {} tokens{}, {:.2f} s, {:.1f} tok/s\n"
        "answer  {} tokens, {:.2f} s, {:.1f} tok/s, {:.1f} GB/s, ended by {}\n"
        "memory  weights {}, KV {} ({}), workspace {}\n"
        "{}"
        "device  {}, seed {}\n",
        g.prompt_tokens, reused, g.prompt_s, g.prompt_tok_s(), g.ids.size(), g.decode_s, g.tok_s(),
        gb_per_s, engine::name(g.finish), human_bytes(static_cast<double>(memory.weight_bytes)),
        human_bytes(static_cast<double>(memory.kv_bytes)), tensor::name(engine.options().kv_type),
        human_bytes(static_cast<double>(memory.workspace_bytes)),
        stream ? describe_stream(*stream) : "", engine.device_name(), seed);
}

}  // namespace unicorn::cli
