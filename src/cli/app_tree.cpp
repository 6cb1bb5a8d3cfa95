#include "cli/app_tree.h"

#include <fmt/format.h>

#include <algorithm>

namespace unicorn::cli {
namespace {

constexpr std::size_t kTextColumn = 30;

OptionInfo describe_option(const CLI::Option& option) {
    OptionInfo info;
    for (const auto& name : option.get_snames()) info.names.push_back("-" + name);
    for (const auto& name : option.get_lnames()) info.names.push_back("--" + name);
    const bool takes_value = option.get_items_expected_max() > 0;
    if (info.names.empty()) {
        info.value = option.get_name(true);
    } else if (takes_value) {
        info.value = option.get_type_name();
    }
    if (takes_value) info.type = option.get_type_name();
    info.text = option.get_description();
    info.group = option.get_group();
    info.required = option.get_required();
    info.repeats = info.names.empty() && option.get_items_expected_max() > 1;
    return info;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::size_t begin = 0;
    while (begin <= text.size()) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

void append_entry(std::string& page, const std::string& left, const std::string& text) {
    std::string line = "  " + left;
    for (const std::string& part : lines_of(text)) {
        if (line.size() + 2 > kTextColumn) {
            page += line + "\n";
            line.clear();
        }
        line.resize(kTextColumn, ' ');
        page += line + part + "\n";
        line.clear();
    }
}

}  // namespace

std::vector<std::string> OptionInfo::choices() const {
    std::vector<std::string> list;
    if (type.find('|') == std::string::npos) return list;
    std::size_t begin = 0;
    while (begin <= type.size()) {
        const std::size_t end = std::min(type.find('|', begin), type.size());
        list.push_back(type.substr(begin, end - begin));
        begin = end + 1;
    }
    return list;
}

std::string OptionInfo::syntax() const {
    if (positional()) return value + (repeats ? "..." : "");
    std::string all = fmt::format("{}", fmt::join(names, ", "));
    if (names.front().starts_with("--")) all = "    " + all;
    return value.empty() ? all : all + " " + value;
}

std::string CommandInfo::usage() const {
    std::string line = name == "unicorn" ? "unicorn" : "unicorn " + name;
    if (!commands.empty()) return line + " COMMAND [OPTIONS]";
    line += " [OPTIONS]";
    for (const auto& option : options)
        if (option.positional())
            line += option.required ? " " + option.syntax() : " [" + option.syntax() + "]";
    return line;
}

CommandInfo describe(const CLI::App& app) {
    CommandInfo info;
    info.name = app.get_name();
    const std::string description = app.get_description();
    const std::size_t first_line = std::min(description.find('\n'), description.size());
    info.summary = description.substr(0, first_line);
    info.details = description.substr(
        std::min(description.find_first_not_of('\n', first_line), description.size()));
    info.examples = app.get_footer();
    for (const CLI::Option* option : app.get_options())
        if (!option->get_group().empty()) info.options.push_back(describe_option(*option));
    std::stable_partition(info.options.begin(), info.options.end(),
                          [](const OptionInfo& option) { return option.positional(); });
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
        if (!command->get_group().empty()) info.commands.push_back(describe(*command));
    return info;
}

std::string help_page(const CommandInfo& command) {
    std::string page = command.summary + "\n\nUsage: " + command.usage() + "\n";
    if (!command.details.empty()) page += "\n" + command.details + "\n";
    if (!command.commands.empty()) {
        page += "\nCommands:\n";
        for (const auto& child : command.commands) append_entry(page, child.name, child.summary);
    }
    // Positional arguments, then each group in the order of its first option; the unnamed one of
    // CLI11 ("Options") comes first.
    std::vector<std::string> groups;
    for (const auto& option : command.options) {
        const std::string group = option.positional() ? "Arguments" : option.group;
        if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
    }
    for (const auto& group : groups) {
        page += "\n" + group + ":\n";
        for (const auto& option : command.options) {
            if ((option.positional() ? "Arguments" : option.group) != group) continue;
            append_entry(page, option.syntax(), option.text);
        }
    }
    if (!command.examples.empty()) page += "\n" + command.examples + "\n";
    return page;
}

}  // namespace unicorn::cli
