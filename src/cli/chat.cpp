// unicorn chat: a conversation.

#include <fmt/format.h>

#include <optional>

#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/line_editor.h"
#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/prompt.h"
#include "cli/terminal.h"
#include "engine/generator.h"

namespace unicorn::cli {
namespace {

constexpr const char* kHelp =
    "/help          this list\n"
    "/reset         forget the conversation, keep the system prompt\n"
    "/system TEXT   set the system prompt (nothing: remove it); holds from the next answer on\n"
    "/stats         speeds and memory of the last answer, and how full the context is\n"
    "/save FILE     write the conversation as JSON\n"
    "/load FILE     go on with a conversation saved before\n"
    "/quit          leave; so does Ctrl-D\n"
    "A line that ends in \\ goes on in the next one. A text that begins with / is written //.\n"
    "Ctrl-C stops an answer, or drops the line being typed.";

std::string trimmed(const std::string& text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string::npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

class ChatCommand : public Command {
public:
    explicit ChatCommand(CLI::App& parent) {
        app = parent.add_subcommand("chat",
                                    "Talk with a model\n\n"
                                    "Each line is a message. What was said before stays in the "
                                    "model's memory, so only new text\n"
                                    "is processed. Ctrl-C stops an answer and not the program. "
                                    "Commands begin with a slash:\n\n  " +
                                        indented(kHelp) +
                                        "\n\nLines are edited with cursor keys and remembered in "
                                        "$XDG_STATE_HOME/unicorn/history. When\n"
                                        "standard input is not a terminal, its lines are the "
                                        "user's messages and no prompt is shown.");
        add_model_option(*app, model_);
        add_count(*app, "-n,--tokens", generate_.max_tokens, 1, kMaxTokens,
                  "Tokens in an answer at most, 1 or more; default:\nuntil the model stops or the "
                  "context is full");
        app->add_option("--system", conversation_.system, "System prompt")->type_name("TEXT");
        app->add_option("--load", load_, "Go on with a conversation saved by /save")
            ->type_name("FILE");
        app->add_flag("--stats", stats_, "Report speeds and memory after each answer");
        sampling_.add_to(*app);
        add_engine_options(*app, engine_options_);
        app->footer(
            "Examples:\n"
            "  unicorn chat\n"
            "  unicorn chat -m gemma-3-4b-it-q4_0.gguf --system \"You are a patient teacher\"\n"
            "  printf '%s\\n' \"My name is Ada\" \"What is my name?\" | unicorn chat --temp 0");
    }

    Result<int> run() override {
        auto sampler_options = sampling_.finish();
        if (!sampler_options) return forward(sampler_options);
        if (!load_.empty()) {
            auto loaded = Conversation::load(load_);
            if (!loaded) return forward(loaded);
            if (!conversation_.system.empty()) loaded->system = conversation_.system;
            conversation_ = std::move(*loaded);
        }
        auto engine = open_engine(model_, engine_options_);
        if (!engine) return forward(engine);
        engine_ = std::move(*engine);
        sampler_options = sampling_.with_suggestions(*sampler_options, *engine_);
        if (!sampler_options) return forward(sampler_options);
        if (auto chat_template = need_chat_template(*engine_); !chat_template)
            return forward(chat_template);
        auto sampler = engine::Sampler::create(*sampler_options, engine_->n_vocab());
        if (!sampler) return forward(sampler);
        sampler_ = std::move(*sampler);
        auto sequence = engine_->create_sequence();
        if (!sequence) return forward(sequence);
        sequence_ = std::move(*sequence);

        // However often Ctrl-C is pressed: a conversation is not to be lost.
        const InterruptScope interrupt(SecondInterrupt::does_nothing);
        LineEditor editor(default_history_path());
        if (editor.interactive()) {
            note("plan: {}", plan_line(engine_->plan()));
            note("{}. /help lists the commands, /quit leaves.", engine_->device_name());
        }
        const std::string prompt = editor.interactive() ? "> " : "";
        std::string message;
        for (std::string line;;) {
            const auto event = editor.read(message.empty() ? prompt : "  ", line);
            if (event == LineEditor::Event::interrupted) {
                message.clear();
                fmt::print(stderr, "\n");
                continue;
            }
            const bool at_end = event == LineEditor::Event::end;
            if (at_end && message.empty()) break;
            if (line.ends_with('\\')) {
                line.back() = '\n';
                message += line;
                continue;
            }
            message += line;
            // The input ended where a line was to go on.
            if (at_end) message.erase(message.find_last_not_of('\n') + 1);
            const std::string text = trimmed(message);
            message.clear();
            if (text.empty()) continue;
            if (text.starts_with('/') && !text.starts_with("//")) {
                if (!command(text)) return kSuccess;
                InterruptScope::reset();  // the next line is not what Ctrl-C was meant for
            } else if (auto s = answer(text.starts_with("//") ? text.substr(1) : text); !s) {
                return forward(s);
            }
        }
        if (editor.interactive()) fmt::print(stderr, "\n");
        return kSuccess;
    }

private:
    static std::string indented(std::string_view text) {
        std::string out;
        for (const char c : text) out += c == '\n' ? std::string("\n  ") : std::string(1, c);
        return out;
    }

    // A remark of the program amid the conversation; --quiet or not, since it was asked for.
    static void say(std::string_view text) { fmt::print(stderr, "{}\n", text); }

    // Mistakes are reported and the conversation goes on. Errors: only when the answer cannot be
    // written, or nothing can be computed any more.
    Status answer(const std::string& text) {
        conversation_.turns.push_back({"user", text});
        auto ids = chat_prompt(*engine_, conversation_.messages());
        if (!ids) return give_up_turn(ids.error());
        PromptProgress progress(*sequence_, ids->size());
        Status written;
        const auto show = [&](std::string_view piece) {
            progress.clear();
            written = write_out(piece);
            return written.has_value();
        };
        auto result = engine::generate(*engine_, *sequence_, *ids, *sampler_, generate_, show, [&] {
            progress.update();
            return InterruptScope::requested();
        });
        progress.clear();
        if (!result) return give_up_turn(result.error());
        if (!written) return written;
        if (!result->text.empty() || result->finish != engine::FinishReason::cancelled)
            if (auto s = write_out(result->text.ends_with('\n') ? "" : "\n"); !s) return s;
        InterruptScope::reset();
        last_ = std::move(*result);
        if (last_->finish == engine::FinishReason::context) say(context_full());
        if (stats_)
            fmt::print(stderr, "{}", stats_text(*engine_, *last_, sampler_->options().seed));
        if (last_->text.empty() && last_->finish == engine::FinishReason::cancelled) {
            conversation_.turns.pop_back();  // stopped before anything was said: as if never asked
        } else {
            conversation_.turns.push_back({"assistant", last_->text});
        }
        return {};
    }

    Status give_up_turn(const Error& error) {
        InterruptScope::reset();
        conversation_.turns.pop_back();
        // After these no answer can come any more: the device is gone, or the model's file.
        if (error.code == ErrorCode::device_lost || error.code == ErrorCode::io)
            return tl::unexpected(error);
        if (error.code == ErrorCode::out_of_memory) {
            say(context_full());
        } else {
            print_error(error.message);
        }
        return {};
    }

    std::string context_full() const {
        return fmt::format(
            "The context of {} tokens is full: /reset forgets the conversation, /save keeps it in "
            "a file, and a\n"
            "larger --ctx holds more.",
            engine_->options().context);
    }

    // False to leave.
    bool command(const std::string& line) {
        const std::size_t space = std::min(line.find(' '), line.size());
        const std::string name = line.substr(0, space);
        const std::string argument = trimmed(line.substr(space));
        if (name == "/quit" || name == "/exit") return false;
        if (name == "/help") {
            say(kHelp);
        } else if (name == "/reset") {
            conversation_.turns.clear();
            say("The conversation is forgotten.");
        } else if (name == "/system") {
            conversation_.system = argument;
            say(argument.empty() ? "No system prompt from now on." : "The system prompt is set.");
        } else if (name == "/stats") {
            if (last_)
                fmt::print(stderr, "{}", stats_text(*engine_, *last_, sampler_->options().seed));
            say(fmt::format("context {} of {} tokens", sequence_->length(),
                            engine_->options().context));
        } else if (name == "/save" || name == "/load") {
            if (argument.empty()) {
                say(name + " needs a file name");
            } else if (name == "/save") {
                auto status = conversation_.save(argument);
                status ? say("Saved to " + argument) : print_error(status.error().message);
            } else if (auto loaded = Conversation::load(argument); loaded) {
                conversation_ = std::move(*loaded);
                say(fmt::format("Loaded {} messages from {}", conversation_.turns.size(),
                                argument));
            } else {
                print_error(loaded.error().message);
            }
        } else {
            say(name + " is not a command; /help lists them");
        }
        return true;
    }

    std::string model_, load_;
    bool stats_ = false;
    Conversation conversation_;
    engine::GenerateOptions generate_;
    SamplingOptions sampling_;
    engine::EngineOptions engine_options_;
    // Set by run(); the sequence goes before its engine.
    std::unique_ptr<engine::Engine> engine_;
    std::optional<engine::Sampler> sampler_;
    std::optional<engine::Sequence> sequence_;
    std::optional<engine::Generation> last_;
};

}  // namespace

std::unique_ptr<Command> add_chat(CLI::App& parent) {
    return std::make_unique<ChatCommand>(parent);
}

}  // namespace unicorn::cli
