// Completion scripts, from the same tree as --help.

#include <fmt/format.h>

#include "cli/app_tree.h"

namespace unicorn::cli {
namespace {

enum class Values { none, anything, choices, files, folders };

Values values_of(const OptionInfo& option) {
    if (option.value.empty()) return Values::none;
    if (!option.choices().empty()) return Values::choices;
    if (option.value == "FILE" || option.value == "OUT" || option.value == "MODEL")
        return Values::files;
    if (option.value == "DIR") return Values::folders;
    return Values::anything;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// For single quotes of a shell: ' becomes '\''.
std::string single_quoted(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out;
}

// For a description inside a zsh spec: brackets and colons have a meaning there.
std::string zsh_text(const std::string& text) {
    std::string out;
    for (const char c : first_line(text)) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
        out += c;
    }
    return single_quoted(out);
}

std::string zsh_action(const OptionInfo& option) {
    switch (values_of(option)) {
        case Values::choices: return fmt::format("({})", fmt::join(option.choices(), " "));
        case Values::files: return "_files";
        case Values::folders: return "_files -/";
        default: return " ";
    }
}

std::string fish_arguments(const OptionInfo& option) {
    switch (values_of(option)) {
        case Values::none: return "";
        case Values::choices: return fmt::format(" -x -a '{}'", fmt::join(option.choices(), " "));
        case Values::files: return " -r -F";
        case Values::folders: return " -x -a '(__fish_complete_directories)'";
        case Values::anything: return " -x";
    }
    return "";
}

}  // namespace

std::string bash_completion(const CommandInfo& program) {
    std::string commands, cases;
    const auto option_words = [](const std::vector<OptionInfo>& options) {
        std::string words;
        for (const auto& option : options)
            for (const auto& name : option.names) words += (words.empty() ? "" : " ") + name;
        return words;
    };
    const std::string global = option_words(program.options);
    for (const auto& command : program.commands) {
        commands += (commands.empty() ? "" : " ") + command.name;
        std::string previous;
        std::string positional = "COMPREPLY=()";
        for (const auto& option : command.options) {
            std::string reply;
            switch (values_of(option)) {
                case Values::none: continue;
                case Values::anything: reply = "COMPREPLY=()"; break;
                case Values::choices:
                    reply = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$word\"))",
                                        fmt::join(option.choices(), " "));
                    break;
                case Values::files: reply = "compopt -o default; COMPREPLY=()"; break;
                case Values::folders: reply = "compopt -o dirnames; COMPREPLY=()"; break;
            }
            if (option.positional()) {
                if (values_of(option) != Values::anything) positional = reply;
                continue;
            }
            previous +=
                fmt::format("        {}) {}; return ;;\n", fmt::join(option.names, "|"), reply);
        }
        cases += fmt::format(
            "    {})\n"
            "      case \"$before\" in\n{}      esac\n"
            "      case \"$word\" in\n"
            "        -*) COMPREPLY=($(compgen -W '{}' -- \"$word\")) ;;\n"
            "        *) {} ;;\n"
            "      esac ;;\n",
            command.name, previous, option_words(command.options), positional);
    }
    return fmt::format(
        "# bash completion for unicorn; written by 'unicorn completions bash'\n"
        "_unicorn() {{\n"
        "  local word=\"${{COMP_WORDS[COMP_CWORD]}}\" before=\"${{COMP_WORDS[COMP_CWORD-1]}}\" "
        "command='' i\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case \"${{COMP_WORDS[i]}}\" in -*) ;; *) command=\"${{COMP_WORDS[i]}}\"; break ;; "
        "esac\n"
        "  done\n"
        "  COMPREPLY=()\n"
        "  case \"$command\" in\n"
        "    '') COMPREPLY=($(compgen -W '{} {}' -- \"$word\")) ;;\n"
        "{}"
        "  esac\n"
        "}}\n"
        "complete -F _unicorn unicorn\n",
        commands, global, cases);
}

std::string zsh_completion(const CommandInfo& program) {
    const auto specs = [](const std::vector<OptionInfo>& options) {
        std::string text;
        for (const auto& option : options) {
            if (option.positional()) {
                text += fmt::format("        '{}:{}:{}' \\\n", option.repeats ? "*" : "",
                                    option.value, zsh_action(option));
                continue;
            }
            for (const auto& name : option.names) {
                const std::string value =
                    option.value.empty()
                        ? ""
                        : fmt::format(":{}:{}", zsh_text(option.value), zsh_action(option));
                text += fmt::format("        '{}[{}]{}' \\\n", name, zsh_text(option.text), value);
            }
        }
        return text;
    };
    std::string commands, cases;
    for (const auto& command : program.commands) {
        commands += fmt::format("    '{}:{}'\n", command.name, zsh_text(command.summary));
        cases += fmt::format("      {})\n        _arguments -s \\\n{}          && return 0 ;;\n",
                             command.name, specs(command.options));
    }
    return fmt::format(
        "#compdef unicorn\n"
        "# zsh completion for unicorn; written by 'unicorn completions zsh'\n"
        "_unicorn() {{\n"
        "  local curcontext=\"$curcontext\" state line\n"
        "  local -a commands=(\n{}  )\n"
        "  _arguments -C \\\n{}"
        "        '1:command:->command' \\\n"
        "        '*::argument:->argument' && return 0\n"
        "  case $state in\n"
        "    command) _describe command commands ;;\n"
        "    argument)\n"
        "      case $line[1] in\n{}"
        "      esac ;;\n"
        "  esac\n"
        "}}\n"
        "if [ \"$funcstack[1]\" = _unicorn ]; then _unicorn \"$@\"; else compdef _unicorn unicorn; "
        "fi\n",
        commands, specs(program.options), cases);
}

std::string fish_completion(const CommandInfo& program) {
    std::string out =
        "# fish completion for unicorn; written by 'unicorn completions fish'\ncomplete -c unicorn "
        "-f\n";
    const auto line = [&](const std::string& condition, const OptionInfo& option) {
        std::string names;
        for (const auto& name : option.names)
            names += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
        out += fmt::format("complete -c unicorn{}{}{} -d '{}'\n", condition, names,
                           fish_arguments(option), single_quoted(first_line(option.text)));
    };
    for (const auto& option : program.options) line(" -n __fish_use_subcommand", option);
    for (const auto& command : program.commands) {
        out += fmt::format("complete -c unicorn -n __fish_use_subcommand -a {} -d '{}'\n",
                           command.name, single_quoted(command.summary));
        const std::string seen = fmt::format(" -n '__fish_seen_subcommand_from {}'", command.name);
        for (const auto& option : command.options) {
            // A positional argument is a completion without a name; free text needs none.
            if (option.positional() && values_of(option) == Values::anything) continue;
            line(seen, option);
        }
    }
    return out;
}

}  // namespace unicorn::cli
