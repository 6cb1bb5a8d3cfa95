#include "cli/program.h"

#include <fmt/format.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <string>

#include "cli/app_tree.h"
#include "cli/terminal.h"

namespace unicorn::cli {
namespace {

int report(const Error& error) {
    // A reader that has gone away (| head) wants no message.
    if (error.code != ErrorCode::cancelled) print_error(error.message);
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

}  // namespace

Program::Program()
    : app_(
          "Run Gemma 3 models on your own machine\n\n"
          "Every command says more with --help: unicorn run --help. Where a model is left out, "
          "the\n"
          "bundled one is used. Answers and tables go to standard output, everything else to\n"
          "standard error.",
          "unicorn") {
    app_.footer(
        "Examples:\n"
        "  unicorn run \"Tell me a story about a lighthouse\"\n"
        "  unicorn chat -m gemma-3-4b-it-q4_0.gguf\n"
        "  unicorn bench -m gemma-3-1b-it-q4_0.gguf\n"
        "  unicorn convert ./gemma-3-1b-it gemma-3-1b-it-q8_0.gguf --type q8_0");
    app_.set_help_flag("-h,--help", "Show this page");
    app_.set_version_flag("--version", "unicorn " UNICORN_VERSION, "Show the version");
    app_.add_flag("--quiet", quiet_, "No progress bars or remarks, only results and errors");
    app_.require_subcommand(0, 1);
    app_.fallthrough();
    for (const auto add : {add_run, add_chat, add_inspect, add_tokenize, add_logits, add_bench,
                           add_synth, add_convert, add_completions, add_man_pages})
        commands_.push_back(add(app_));
}

int Program::run(int argc, char** argv) {
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
