#pragma once
// What CLI11 knows of the commands and options, as plain data. Help pages, man pages and
// completions are all written from it, so that none of them can go stale.

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace unicorn::cli {

/// The group of the options that every command takes: help, version and what main() acts upon.
inline constexpr const char* kGlobalGroup = "Global";

struct OptionInfo {
    std::vector<std::string> names;  // "-m", "--model"; empty for a positional argument
    std::string value;  // "FILE", "auto|cpu"; of a positional its name; empty for a flag
    std::string type;   // what CLI11 calls the type: "FILE", "bash|zsh|fish"
    std::string text;   // may have several lines
    std::string group;
    bool required = false;
    bool repeats = false;  // a positional that takes any number of words

    bool positional() const { return names.empty(); }
    /// The values to choose from, when `type` lists them.
    std::vector<std::string> choices() const;
    /// "-m, --model FILE", "PROMPT..."
    std::string syntax() const;
};

struct CommandInfo {
    std::string name;                 // "run"; "unicorn" for the program itself
    std::string summary;              // one line
    std::string details;              // paragraphs, empty lines between them
    std::string examples;             // the footer
    std::vector<OptionInfo> options;  // positional ones first, those of kGlobalGroup last
    std::vector<CommandInfo> commands;

    /// "unicorn run [OPTIONS] [PROMPT...]"
    std::string usage() const;
};

/// Options under one heading of a page.
struct OptionGroup {
    std::string heading;
    std::vector<OptionInfo> options;
};

/// The positional arguments ("Arguments"), then each group in the order of its first option.
std::vector<OptionGroup> grouped_options(const CommandInfo& command);

/// A command gets its parent's options of kGlobalGroup, too. Leaves out whatever is in the empty
/// group: that is how CLI11 hides things.
CommandInfo describe(const CLI::App& app);

/// The page that --help prints.
std::string help_page(const CommandInfo& command);

/// A man page of section 1 (man macros).
std::string man_page(const CommandInfo& program, const CommandInfo& command,
                     const std::string& version);

// Scripts that complete commands, options, choices and file names.
std::string bash_completion(const CommandInfo& program);
std::string zsh_completion(const CommandInfo& program);
std::string fish_completion(const CommandInfo& program);

}  // namespace unicorn::cli
