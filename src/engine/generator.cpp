#include "engine/generator.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

#include "text/stream_decoder.h"

namespace unicorn::engine {
namespace {

// Room for the text of an answer: four times what text has on average, so that only runs of long
// tokens (Gemma's longest has 48 bytes) outgrow it.
constexpr std::size_t kBytesPerToken = 16;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::size_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
    return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

std::string_view name(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop: return "stop";
        case FinishReason::length: return "length";
        case FinishReason::context: return "context";
        case FinishReason::cancelled: return "cancelled";
    }
    return "";
}

double Generation::prompt_tok_s() const {
    return prompt_s > 0 ? static_cast<double>(prompt_tokens - reused_tokens) / prompt_s : 0;
}

double Generation::tok_s() const {
    return ids.size() > 1 && decode_s > 0 ? static_cast<double>(ids.size() - 1) / decode_s : 0;
}

Result<Generation> generate(Engine& engine, Sequence& sequence,
                            std::span<const std::int32_t> prompt, Sampler& sampler,
                            const GenerateOptions& options, const TextSink& on_text,
                            const std::function<bool()>& cancelled) {
    const std::size_t context = engine.options().context;
    if (prompt.empty()) return fail(ErrorCode::invalid_argument, "the prompt is empty");
    if (prompt.size() >= context) {
        return fail(ErrorCode::out_of_memory,
                    "the prompt has {} tokens, and the context holds {}, the answer included",
                    prompt.size(), context);
    }
    const auto stops = engine.stop_ids();
    const auto ends_answer = [&](std::int32_t id) {
        return std::find(stops.begin(), stops.end(), id) != stops.end();
    };

    Generation result;
    result.prompt_tokens = prompt.size();
    const std::size_t room = context - prompt.size();
    const std::size_t max_tokens =
        options.max_tokens == 0 ? room : std::min(options.max_tokens, room);
    const FinishReason at_limit = options.max_tokens != 0 && options.max_tokens <= room
                                      ? FinishReason::length
                                      : FinishReason::context;
    result.ids.reserve(max_tokens);
    result.text.reserve(max_tokens * kBytesPerToken);

    text::StreamDecoder decoder(engine.tokenizer());
    text::StopMatcher matcher(options.stops);
    bool sink_open = true;
    const auto show = [&](std::string_view text) {
        if (text.empty() || !sink_open) return;
        result.text += text;
        if (on_text) sink_open = on_text(text);
    };

    // The last prompt token is evaluated even when the sequence holds it: its logits are wanted.
    const std::size_t kept = std::min(common_prefix(sequence.tokens(), prompt), prompt.size() - 1);
    sequence.truncate(kept);
    // Fewer when local layers had dropped their keys: then all of it is computed again.
    result.reused_tokens = std::min(kept, sequence.n_computed());
    sampler.reset();
    for (const std::int32_t id : prompt) sampler.accept(id);

    std::optional<std::int32_t> drawn;
    std::vector<float> masked;
    if (options.ignore_eos) masked.reserve(engine.n_vocab());
    const LogitsSink draw = [&](std::size_t, std::size_t, std::span<const float> logits) {
        if (options.ignore_eos) {
            masked.assign(logits.begin(), logits.end());
            for (const std::int32_t id : stops)
                if (static_cast<std::size_t>(id) < masked.size())
                    masked[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
            logits = masked;
        }
        drawn = sampler.sample(logits);
    };
    const auto evaluate = [&](std::span<const std::int32_t> tokens) -> Status {
        drawn.reset();
        const Input input{&sequence, tokens, Logits::last};
        if (auto status = engine.evaluate({&input, 1}, draw, cancelled); !status) return status;
        if (!drawn)
            return fail(ErrorCode::invalid_file, "{}: the model's output is not a number",
                        engine.file().path());
        return {};
    };

    // Takes one more token; whether to go on.
    const auto take = [&](std::int32_t id) {
        result.ids.push_back(id);
        sampler.accept(id);
        if (!options.ignore_eos && ends_answer(id)) {
            result.finish = FinishReason::stop;
            return false;
        }
        show(matcher.push(decoder.push(id)));
        if (matcher.matched()) {
            result.finish = FinishReason::stop;
            return false;
        }
        if (!sink_open || (cancelled && cancelled())) {
            result.finish = FinishReason::cancelled;
            return false;
        }
        if (result.ids.size() == max_tokens) {
            result.finish = at_limit;
            return false;
        }
        return true;
    };

    Clock::time_point start = Clock::now();
    Status status = evaluate(prompt.subspan(kept));
    result.prompt_s = seconds_since(start);
    if (!status) result.prompt_tokens = std::max(sequence.n_computed(), kept);
    start = Clock::now();
    const auto banned = options.ignore_eos ? stops : std::span<const std::int32_t>();
    const bool by_device = engine.can_decode(sampler, banned.size());
    while (status && take(*drawn)) {
        if (by_device) {
            const Decoding decoding{&sequence, &sampler, result.ids.back(),
                                    max_tokens - result.ids.size(), banned};
            status = engine.decode(
                {&decoding, 1}, [&](std::size_t, std::int32_t id) { return take(id); }, cancelled);
            break;
        }
        status = evaluate({&result.ids.back(), 1});
    }
    if (!status && status.error().code == ErrorCode::cancelled) {
        result.finish = FinishReason::cancelled;
    } else if (!status) {
        return forward(status);
    }
    result.decode_s = seconds_since(start);
    show(matcher.push(decoder.finish()));
    show(matcher.finish());
    return result;
}

}  // namespace unicorn::engine
