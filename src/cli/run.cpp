// unicorn run: one prompt, one answer.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/prompt.h"
#include "cli/terminal.h"
#include "engine/generator.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxPrompt = std::size_t{64} << 20;

class RunCommand : public Command {
public:
    explicit RunCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "run",
            "Answer one prompt\n\n"
            "The answer goes to standard output as it is made. A model with a chat template gets "
            "the\n"
            "prompt as the user's turn of a conversation; any other model continues it as plain "
            "text.\n"
            "--chat and --raw choose one of the two. A prompt of - is read from standard input, "
            "less\n"
            "one newline at its end. Ctrl-C stops, keeps what there is, and exits with 130.");
        app->add_option("PROMPT", words_, "The prompt; - reads standard input");
        app->add_option("-p,--prompt", prompt_, "The same, as an option")->type_name("TEXT");
        add_model_option(*app, model_);
        add_count(*app, "-n,--tokens", generate_.max_tokens, 1, kMaxTokens,
                  "Tokens in the answer at most, 1 or more; default:\nuntil the model stops or the "
                  "context is full");
        app->add_option("--system", system_, "System prompt, for models with a chat template")
            ->type_name("TEXT");
        app->add_flag("--chat", chat_, "Use the chat template");
        app->add_flag("--raw", raw_, "Continue the prompt as plain text");
        app->add_flag("--special", special_, "With --raw: recognise control tokens in the prompt");
        app->add_option("--stop", generate_.stops, "End the answer before this text; repeatable")
            ->type_name("TEXT")
            ->allow_extra_args(false);
        app->add_flag("--ignore-eos", generate_.ignore_eos, "Never let the model end its answer");
        app->add_flag("--json", json_,
                      "Print one JSON object at the end: text, prompt_tokens,\ntokens, ids, "
                      "prompt_tok_s, tok_s, finish (stop, length, context or\ncancelled), seed");
        app->add_flag("--stats", stats_, "Report speeds and memory on standard error");
        sampling_.add_to(*app);
        add_engine_options(*app, engine_);
        app->footer(
            "Examples:\n"
            "  unicorn run \"Tell me a story about a lighthouse\"\n"
            "  unicorn run --raw \"Once upon a time\" -n 100 --stats\n"
            "  unicorn run --temp 0 \"Name three rivers\"             # the same answer every "
            "time\n"
            "  unicorn run --seed 7 --json \"A haiku, please\" | jq -r .text\n"
            "  unicorn run --system \"Answer in French\" - < question.txt");
    }

    Result<int> run() override {
        const bool has_option = app->count("--prompt") > 0;
        if (auto s = at_most_one({{!words_.empty(), "PROMPT"}, {has_option, "--prompt"}}); !s)
            return forward(s);
        if (auto s = at_most_one({{chat_, "--chat"}, {raw_, "--raw"}}); !s) return forward(s);
        if (auto s = at_most_one({{!system_.empty(), "--system"}, {raw_, "--raw"}}); !s)
            return forward(s);
        if (words_.empty() && !has_option) {
            return fail(ErrorCode::invalid_argument,
                        "no prompt: give one as an argument, with -p, or - to read standard input");
        }
        auto sampler_options = sampling_.finish();
        if (!sampler_options) return forward(sampler_options);
        std::string prompt = has_option ? prompt_ : fmt::format("{}", fmt::join(words_, " "));
        if (prompt == "-") {
            auto read = read_standard_input(kMaxPrompt);
            if (!read) return forward(read);
            prompt = std::move(*read);
            if (prompt.ends_with('\n')) prompt.pop_back();
        }
        if (prompt.empty()) return fail(ErrorCode::invalid_argument, "the prompt is empty");

        auto engine = open_engine(model_, engine_);
        if (!engine) return forward(engine);
        note("plan: {}", plan_line((*engine)->plan()));
        sampler_options = sampling_.with_suggestions(*sampler_options, **engine);
        if (!sampler_options) return forward(sampler_options);
        auto ids = prompt_ids(**engine, prompt);
        if (!ids) return forward(ids);
        auto sampler = engine::Sampler::create(*sampler_options, (*engine)->n_vocab());
        if (!sampler) return forward(sampler);
        auto sequence = (*engine)->create_sequence();
        if (!sequence) return forward(sequence);

        const InterruptScope interrupt;
        PromptProgress progress(*sequence, ids->size());
        Status written;
        const auto show = [&](std::string_view text) {
            progress.clear();
            if (!json_) written = write_out(text);
            return written.has_value();
        };
        auto answer = engine::generate(**engine, *sequence, *ids, *sampler, generate_, show, [&] {
            progress.update();
            return InterruptScope::requested();
        });
        progress.clear();
        if (!answer) return forward(answer);
        if (!written) return forward(written);
        if (auto status = write_out(ending(*answer, sampler_options->seed)); !status)
            return forward(status);
        if (stats_) fmt::print(stderr, "{}", stats_text(**engine, *answer, sampler_options->seed));
        if (answer->finish == engine::FinishReason::context) {
            note(
                "unicorn: the answer ends here because the context of {} tokens is full (--ctx "
                "sets it)",
                (*engine)->options().context);
        }
        return InterruptScope::requested() ? kInterrupted : kSuccess;
    }

private:
    Result<std::vector<std::int32_t>> prompt_ids(const engine::Engine& engine,
                                                 const std::string& prompt) const {
        bool chat = chat_;
        if (!chat_ && !raw_) {
            auto offered = engine.chat_template();
            if (!offered)
                return fail(offered.error().code, "{} (--raw continues plain text)",
                            offered.error().message);
            chat = *offered != nullptr;
        }
        if (!chat && !system_.empty())
            return fail(ErrorCode::unsupported, "{}: --system needs a model with a chat template",
                        engine.file().path());
        if (!chat) return raw_prompt(engine, prompt, special_);
        std::vector<text::Message> messages;
        if (!system_.empty()) messages.push_back({"system", system_});
        messages.push_back({"user", prompt});
        return chat_prompt(engine, messages);
    }

    // What follows the streamed text: a newline if it lacks one, or all of --json.
    std::string ending(const engine::Generation& answer, std::uint64_t seed) const {
        if (!json_) return answer.text.ends_with('\n') ? "" : "\n";
        Json out;
        out["text"] = answer.text;
        out["prompt_tokens"] = answer.prompt_tokens;
        out["tokens"] = answer.ids.size();
        out["ids"] = answer.ids;
        out["prompt_tok_s"] = answer.prompt_tok_s();
        out["tok_s"] = answer.tok_s();
        out["finish"] = engine::name(answer.finish);
        out["seed"] = seed;
        return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }

    std::vector<std::string> words_;
    std::string prompt_, model_, system_;
    engine::GenerateOptions generate_;
    SamplingOptions sampling_;
    engine::EngineOptions engine_;
    bool chat_ = false, raw_ = false, special_ = false, json_ = false, stats_ = false;
};

}  // namespace

std::unique_ptr<Command> add_run(CLI::App& parent) { return std::make_unique<RunCommand>(parent); }

}  // namespace unicorn::cli
