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
    if (app.get_parent() != nullptr) {
        for (const CLI::Option* option : app.get_parent()->get_options()) {
            if (option->get_group() != kGlobalGroup) continue;
            OptionInfo global = describe_option(*option);
            const bool known =
                std::any_of(info.options.begin(), info.options.end(),
                            [&](const OptionInfo& own) { return own.names == global.names; });
            if (!known) info.options.push_back(std::move(global));
        }
    }
    const auto rank = [](const OptionInfo& option) {
        return option.positional() ? 0 : option.group == kGlobalGroup ? 2 : 1;
    };
    std::stable_sort(info.options.begin(), info.options.end(),
                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
        if (!command->get_group().empty()) info.commands.push_back(describe(*command));
    return info;
}

std::vector<OptionGroup> grouped_options(const CommandInfo& command) {
    std::vector<OptionGroup> groups;
    for (const auto& option : command.options) {
        const std::string heading = option.positional() ? "Arguments" : option.group;
        auto group = std::find_if(groups.begin(), groups.end(), [&](const OptionGroup& known) {
            return known.heading == heading;
        });
        if (group == groups.end()) group = groups.insert(group, {heading, {}});
        group->options.push_back(option);
    }
    return groups;
}

std::string help_page(const CommandInfo& command) {
    std::string page = command.summary + "\n\nUsage: " + command.usage() + "\n";
    if (!command.details.empty()) page += "\n" + command.details + "\n";
    if (!command.commands.empty()) {
        page += "\nCommands:\n";
        for (const auto& child : command.commands) append_entry(page, child.name, child.summary);
    }
    for (const auto& group : grouped_options(command)) {
        page += "\n" + group.heading + ":\n";
        for (const auto& option : group.options) append_entry(page, option.syntax(), option.text);
    }
    if (!command.examples.empty()) page += "\n" + command.examples + "\n";
    return page;
}

}  // namespace unicorn::cli
