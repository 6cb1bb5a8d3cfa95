#include "cli/program.h"

#include <fmt/format.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/app_tree.h"
#include "cli/terminal.h"

namespace unicorn::cli {
namespace {

int report(const Error& error) {
    // A reader that has gone away (| head) wants no message.
    if (error.code != ErrorCode::cancelled) print_error(error.message);
    if (error.code == ErrorCode::cancelled && InterruptScope::requested()) return kInterrupted;
    return error.code == ErrorCode::invalid_argument ? kUsage : kFailure;
}

int print(const std::string& text) {
    auto status = write_out(text);
    return status ? kSuccess : report(status.error());
}

// CLI11's parse errors, --help among them.
int report(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* command = &app;
    while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
    if (dynamic_cast<const CLI::CallForHelp*>(&error) != nullptr)
        return print(help_page(describe(*command)));
    if (dynamic_cast<const CLI::CallForVersion*>(&error) != nullptr)
        return print(std::string(error.what()) + "\n");
    const std::string name = command == &app ? "" : " " + command->get_name();
    print_error(fmt::format("{} (see unicorn{} --help)", error.what(), name));
    return kUsage;
}

// Letters to insert, leave out, replace or swap with their neighbour to make `b` of `a`.
std::size_t typing_errors(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1), previous, before_previous;
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        before_previous = std::exchange(previous, row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({previous[j] + 1, row[j - 1] + 1,
                               previous[j - 1] + static_cast<std::size_t>(a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before_previous[j - 2] + 1);
        }
    }
    return row.back();
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
    const auto found =
        app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
    return found.empty() ? nullptr : found.front();
}

// The first word, when it takes the place of a command; nullptr when the parser says it better.
const char* command_word(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--quiet") continue;
        return argv[i][0] == '-' ? nullptr : argv[i];
    }
    return nullptr;
}

class HelpCommand : public Command {
public:
    HelpCommand(CLI::App& parent, const Program& program) : program_(program) {
        std::string names;
        for (const auto& command : describe(parent).commands) names += command.name + "|";
        app = parent.add_subcommand("help",
                                    "Show the page of a command\n\n"
                                    "The same as COMMAND --help; without a command, the page that "
                                    "lists them all.");
        app->add_option("COMMAND", command_, "Which one; default: all of them")
            ->type_name(names + "help");
        app->footer(
            "Examples:\n"
            "  unicorn help\n"
            "  unicorn help run");
    }

    Result<int> run() override {
        const CLI::App* chosen = app->get_parent();
        if (app->count("COMMAND") > 0) {
            chosen = find_command(*app->get_parent(), command_);
            if (chosen == nullptr)
                return fail(ErrorCode::invalid_argument, "{}", program_.not_a_command(command_));
        }
        return print(help_page(describe(*chosen)));
    }

private:
    const Program& program_;
    std::string command_;
};

}  // namespace

Program::Program()
    : app_(
          "Run Gemma 3 models on your own machine\n\n"
          "Every command says more with --help: unicorn run --help. Where a model is left out, "
          "the\n"
          "bundled one is used. Answers and tables go to standard output, everything else to\n"
          "standard error.",
          "unicorn") {
    app_.set_help_flag("-h,--help", "Show this page")->group(kGlobalGroup);
    app_.set_version_flag("--version", "unicorn " UNICORN_VERSION, "Show the version")
        ->group(kGlobalGroup);
    app_.add_flag("--quiet", quiet_, "No progress bars or remarks, only results and errors")
        ->group(kGlobalGroup);
    app_.require_subcommand(0, 1);
    app_.fallthrough();
    for (const auto add :
         {add_run, add_chat, add_inspect, add_tokenize, add_logits, add_bench, add_plan, add_synth,
          add_convert, add_doctor, add_tune, add_completions, add_man_pages})
        commands_.push_back(add(app_));
    commands_.push_back(std::make_unique<HelpCommand>(app_, *this));
    for (const auto& command : commands_) command->app->get_help_ptr()->group(kGlobalGroup);
    // Last: a command begins with the footer that its parent has at that moment.
    app_.footer(
        "Examples:\n"
        "  unicorn run \"Tell me a story about a lighthouse\"\n"
        "  unicorn chat -m gemma-3-4b-it-q4_0.gguf\n"
        "  unicorn bench -m gemma-3-1b-it-q4_0.gguf\n"
        "  unicorn convert ./gemma-3-1b-it gemma-3-1b-it-q8_0.gguf --type q8_0");
}

std::string Program::not_a_command(const std::string& word) const {
    std::string message = fmt::format("'{}' is not a command (see unicorn --help)", word);
    std::size_t least = word.size() < 5 ? 2 : 3;  // more errors than that, and it is a guess
    std::string nearest;
    for (const auto& command : describe(app_).commands) {
        const std::size_t errors = typing_errors(word, command.name);
        if (errors >= std::min(least, command.name.size())) continue;
        least = errors;
        nearest = command.name;
    }
    return nearest.empty() ? message : fmt::format("{}; did you mean {}?", message, nearest);
}

int Program::run(int argc, char** argv) {
    if (const char* word = command_word(argc, argv);
        word != nullptr && find_command(app_, word) == nullptr) {
        print_error(not_a_command(word));
        return kUsage;
    }
    try {
        app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return report(app_, error);
    }
    set_quiet(quiet_);
    const auto chosen = std::find_if(commands_.begin(), commands_.end(),
                                     [](const auto& command) { return command->app->parsed(); });
    if (chosen == commands_.end()) {
        fmt::print(stderr, "{}", help_page(describe(app_)));
        return kUsage;
    }
    const Result<int> result = (*chosen)->run();
    return result ? *result : report(result.error());
}

}  // namespace unicorn::cli
