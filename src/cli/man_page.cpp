// Man pages, from the same tree as --help.

#include <fmt/format.h>

#include <algorithm>

#include "cli/app_tree.h"

namespace unicorn::cli {
namespace {

// Text as troff takes it: no line begins with a control character, backslashes and hyphens stay
// what they are (a bare "-" may be set as a Unicode hyphen, which cannot be copied into a shell).
std::string troff(std::string_view text) {
    std::string out;
    bool line_start = true;
    for (const char c : text) {
        if (line_start && (c == '.' || c == '\'')) out += "\\&";
        line_start = c == '\n';
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-') {
            out += "\\-";
        } else {
            out += c;
        }
    }
    return out;
}

// Paragraphs are filled; whatever is indented stays as it is.
std::string body(const std::string& text) {
    std::string out;
    bool verbatim = false;
    std::size_t begin = 0;
    while (begin < text.size()) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string line = text.substr(begin, end - begin);
        begin = end + 1;
        const bool indented = line.starts_with("  ");
        if (indented != verbatim && !line.empty()) {
            out += indented ? ".PP\n.nf\n" : ".fi\n.PP\n";
            verbatim = indented;
        }
        out += line.empty() ? ".PP\n" : troff(line) + "\n";
    }
    return out + (verbatim ? ".fi\n" : "");
}

std::string option_entry(const OptionInfo& option) {
    std::string head;
    if (option.positional()) {
        head = "\\fI" + troff(option.value) + "\\fR" + (option.repeats ? "..." : "");
    } else {
        for (const auto& name : option.names)
            head += (head.empty() ? "\\fB" : ", \\fB") + troff(name) + "\\fR";
        if (!option.value.empty()) head += " \\fI" + troff(option.value) + "\\fR";
    }
    return ".TP\n" + head + "\n" + troff(option.text) + "\n";
}

}  // namespace

std::string man_page(const CommandInfo& program, const CommandInfo& command,
                     const std::string& version) {
    const bool whole = command.name == program.name;
    const std::string title = whole ? program.name : program.name + "-" + command.name;
    std::string upper = title;
    std::transform(upper.begin(), upper.end(), upper.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    std::string page = fmt::format(".TH \"{}\" 1 \"\" \"{} {}\" \"User commands\"\n", troff(upper),
                                   program.name, version);
    page += fmt::format(".SH NAME\n{} \\- {}\n", troff(title), troff(command.summary));
    page += ".SH SYNOPSIS\n" + troff(command.usage()) + "\n";
    if (!command.details.empty()) page += ".SH DESCRIPTION\n" + body(command.details);
    if (!command.commands.empty()) {
        page += ".SH COMMANDS\n";
        for (const auto& child : command.commands)
            page += fmt::format(".TP\n\\fB{}\\fR\n{}\n", troff(child.name), troff(child.summary));
    }
    if (!command.options.empty()) {
        page += ".SH OPTIONS\n";
        for (const auto& group : grouped_options(command)) {
            page += ".SS " + troff(group.heading) + "\n";
            for (const auto& option : group.options) page += option_entry(option);
        }
    }
    if (!command.examples.empty()) {
        const std::string heading = "Examples:\n";
        const bool has_heading = command.examples.starts_with(heading);
        page += ".SH EXAMPLES\n" +
                body(has_heading ? command.examples.substr(heading.size()) : command.examples);
    }
    page +=
        ".SH EXIT STATUS\n0 on success, 1 on failure, 2 when the command line makes no sense, 130 "
        "after Ctrl\\-C, unless the description says otherwise.\n";
    page +=
        ".SH ENVIRONMENT\n"
        ".TP\n\\fBUNICORN_MODEL\\fR\nThe model used when none is given.\n"
        ".TP\n\\fBUNICORN_ISA\\fR\nForces the form of the CPU kernels: scalar, avx2 or avx512.\n"
        ".TP\n\\fBNO_COLOR\\fR\nWhen set, nothing is coloured.\n";
    std::vector<std::string> others;
    if (!whole) others.push_back(program.name);
    for (const auto& child : program.commands)
        if (child.name != command.name) others.push_back(program.name + "-" + child.name);
    for (auto& other : others) other = "\\fB" + troff(other) + "\\fR(1)";
    page += fmt::format(".SH SEE ALSO\n{}\n", fmt::join(others, ",\n"));
    return page;
}

}  // namespace unicorn::cli
