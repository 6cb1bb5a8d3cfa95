// Every command and option must appear in every page and script made from the tree.

#include "cli/app_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "cli/program.h"

namespace unicorn::cli {
namespace {

using ::testing::HasSubstr;

CommandInfo program() {
    static const Program instance;
    return describe(instance.app());
}

std::string without_backslashes(std::string text) {
    std::erase(text, '\\');
    return text;
}

TEST(AppTree, HasTheCommandsOfTheDesign) {
    std::vector<std::string> names;
    for (const auto& command : program().commands) names.push_back(command.name);
    EXPECT_THAT(names, ::testing::ElementsAre("run", "chat", "inspect", "tokenize", "logits",
                                              "bench", "plan", "synth", "convert", "doctor", "tune",
                                              "completions", "help"));
}

TEST(AppTree, EverythingIsExplained) {
    for (const auto& command : program().commands) {
        SCOPED_TRACE(command.name);
        EXPECT_FALSE(command.summary.empty());
        EXPECT_FALSE(command.details.empty());
        EXPECT_THAT(command.examples, ::testing::StartsWith("Examples:\n"));
        EXPECT_THAT(command.examples, HasSubstr("  unicorn " + command.name));
        for (const auto& option : command.options)
            EXPECT_FALSE(option.text.empty()) << option.syntax();
    }
}

TEST(AppTree, EveryCommandHasTheGlobalOptions) {
    const CommandInfo all = program();
    ASSERT_THAT(grouped_options(all), ::testing::SizeIs(1));
    for (const auto& command : all.commands) {
        SCOPED_TRACE(command.name);
        const OptionGroup last = grouped_options(command).back();
        EXPECT_EQ(last.heading, kGlobalGroup);
        std::set<std::string> names;
        for (const auto& option : last.options)
            names.insert(option.names.begin(), option.names.end());
        EXPECT_THAT(names, ::testing::ElementsAre("--help", "--quiet", "--version", "-h"));
    }
}

TEST(AppTree, HelpAndManPagesShowEveryOption) {
    const CommandInfo all = program();
    std::vector<CommandInfo> pages = all.commands;
    pages.push_back(all);
    for (const auto& command : pages) {
        SCOPED_TRACE(command.name);
        const std::string help = help_page(command);
        const std::string man = without_backslashes(man_page(all, command, "1"));
        for (const auto& group : grouped_options(command)) {
            EXPECT_THAT(help, HasSubstr("\n" + group.heading + ":\n"));
            EXPECT_THAT(man, HasSubstr("\n.SS " + group.heading + "\n"));
        }
        for (const auto& option : command.options) {
            EXPECT_THAT(help, HasSubstr(option.syntax()));
            EXPECT_THAT(help, HasSubstr(option.text.substr(0, option.text.find('\n'))));
            for (const auto& name : option.names) EXPECT_THAT(man, HasSubstr("fB" + name + "fR"));
            EXPECT_THAT(man, HasSubstr(option.text));
        }
        for (const auto& child : command.commands) {
            EXPECT_THAT(help, HasSubstr("\n  " + child.name + " "));
            EXPECT_THAT(man, HasSubstr("fB" + child.name + "fR\n" + child.summary));
        }
    }
}

TEST(AppTree, CompletionsKnowEveryCommandOptionAndChoice) {
    const CommandInfo all = program();
    const std::string bash = bash_completion(all), zsh = zsh_completion(all),
                      fish = fish_completion(all);
    for (const auto& command : all.commands) {
        SCOPED_TRACE(command.name);
        EXPECT_THAT(bash, HasSubstr("\n    " + command.name + ")\n"));
        EXPECT_THAT(zsh, HasSubstr("\n      " + command.name + ")\n"));
        EXPECT_THAT(fish, HasSubstr("-a " + command.name + " "));
        // The part of each script that belongs to this command.
        const std::string in_bash = bash.substr(bash.find("\n    " + command.name + ")\n"));
        const std::string in_zsh = zsh.substr(zsh.find("\n      " + command.name + ")\n"));
        for (const auto& option : command.options) {
            for (const auto& name : option.names) {
                EXPECT_TRUE(std::regex_search(in_bash.substr(0, in_bash.find("esac ;;\n")),
                                              std::regex("[ '|]" + name + "[ '|)]")))
                    << name;
                EXPECT_THAT(in_zsh.substr(0, in_zsh.find("return 0 ;;")),
                            HasSubstr("'" + name + "["));
                const bool is_long = name.starts_with("--");
                const std::string flag =
                    is_long ? " -l " + name.substr(2) + " " : " -s " + name.substr(1) + " ";
                EXPECT_TRUE(std::regex_search(
                    fish, std::regex("seen_subcommand_from " + command.name + "'[^\n]*" + flag)))
                    << name;
            }
            for (const auto& choice : option.choices()) {
                EXPECT_THAT(in_bash.substr(0, in_bash.find("esac ;;\n")), HasSubstr(choice));
                EXPECT_THAT(in_zsh.substr(0, in_zsh.find("return 0 ;;")), HasSubstr(choice));
                EXPECT_THAT(fish, HasSubstr(choice));
            }
        }
    }
}

TEST(AppTree, ExamplesUseOptionsThatExist) {
    const CommandInfo all = program();
    std::set<std::string> known;
    for (const auto& option : all.options) known.insert(option.names.begin(), option.names.end());
    for (const auto& command : all.commands)
        for (const auto& option : command.options)
            known.insert(option.names.begin(), option.names.end());
    std::vector<CommandInfo> pages = all.commands;
    pages.push_back(all);
    const std::regex option_in_text(R"((?:^|\s)(--[a-z][a-z-]*))");
    for (const auto& command : pages) {
        const std::string text = command.examples + command.details;
        for (std::sregex_iterator it(text.begin(), text.end(), option_in_text), end; it != end;
             ++it)
            EXPECT_TRUE(known.contains((*it)[1])) << command.name << ": " << (*it)[1];
    }
}

TEST(AppTree, AHiddenCommandHasItsOwnExamples) {
    static const Program instance;
    const CommandInfo hidden = describe(*instance.app().get_subcommand("man-pages"));
    EXPECT_THAT(hidden.examples, HasSubstr("  unicorn man-pages "));
    EXPECT_THAT(hidden.examples, ::testing::Not(HasSubstr("unicorn run")));
}

TEST(AppTree, AMistypedCommandIsGuessedWhenItIsClose) {
    const Program instance;
    const std::string end = "' is not a command (see unicorn --help)";
    EXPECT_EQ(instance.not_a_command("rum"), "'rum" + end + "; did you mean run?");
    EXPECT_EQ(instance.not_a_command("caht"), "'caht" + end + "; did you mean chat?");
    EXPECT_EQ(instance.not_a_command("benchmark"), "'benchmark" + end);
    EXPECT_EQ(instance.not_a_command("tokenise"), "'tokenise" + end + "; did you mean tokenize?");
    EXPECT_EQ(instance.not_a_command("Tell me"), "'Tell me" + end);
    EXPECT_EQ(instance.not_a_command(""), "'" + end);
}

TEST(AppTree, LinesFitATerminal) {
    const CommandInfo all = program();
    std::vector<CommandInfo> pages = all.commands;
    pages.push_back(all);
    for (const auto& command : pages) {
        std::istringstream page(help_page(command));
        for (std::string line; std::getline(page, line);) EXPECT_LE(line.size(), 100u) << line;
    }
}

}  // namespace
}  // namespace unicorn::cli
