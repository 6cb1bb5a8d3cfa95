#pragma once
// What main() knows of a command: its place in CLI11's tree, and how to run it.

#include <CLI/App.hpp>
#include <memory>

#include "base/result.h"

namespace unicorn::cli {

/// What the shell sees.
enum ExitCode : int { kSuccess = 0, kFailure = 1, kUsage = 2, kInterrupted = 130 };

/// A command holds the values of its options; CLI11 writes them while parsing.
class Command {
public:
    virtual ~Command() = default;
    /// The exit code of a run that came to an end, or what went wrong: main() prints it and exits
    /// with 2 for invalid_argument (the request makes no sense) and 1 for everything else.
    virtual Result<int> run() = 0;

    CLI::App* app = nullptr;  // owned by the tree
};

// One for each command, in the file of its name. Each adds a subcommand to `parent`. The
// description's first line is the summary; the footer holds the examples.
std::unique_ptr<Command> add_run(CLI::App& parent);
std::unique_ptr<Command> add_chat(CLI::App& parent);
std::unique_ptr<Command> add_bench(CLI::App& parent);
std::unique_ptr<Command> add_logits(CLI::App& parent);
std::unique_ptr<Command> add_tokenize(CLI::App& parent);
std::unique_ptr<Command> add_inspect(CLI::App& parent);
std::unique_ptr<Command> add_convert(CLI::App& parent);
std::unique_ptr<Command> add_synth(CLI::App& parent);
std::unique_ptr<Command> add_plan(CLI::App& parent);
std::unique_ptr<Command> add_doctor(CLI::App& parent);
std::unique_ptr<Command> add_tune(CLI::App& parent);
std::unique_ptr<Command> add_completions(CLI::App& parent);
std::unique_ptr<Command> add_man_pages(CLI::App& parent);

}  // namespace unicorn::cli
