#pragma once
// The tree of commands, and what the program does with a command line.

#include <CLI/App.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"

namespace unicorn::cli {

class Program {
public:
    Program();
    /// Parses, runs the command, reports errors; the exit code.
    int run(int argc, char** argv);
    const CLI::App& app() const { return app_; }
    /// What is wrong with `word` as a command, and which one may have been meant.
    std::string not_a_command(const std::string& word) const;

private:
    CLI::App app_;
    std::vector<std::unique_ptr<Command>> commands_;
    bool quiet_ = false;
};

}  // namespace unicorn::cli
