// Mistakes on the command line, help, completions and man pages.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "process.h"
#include "testing/tiny_model.h"

namespace unicorn::cli_tests {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Usage, MistakesExitWithTwoAndOneLine) {
    const std::vector<std::vector<std::string>> mistakes{
        {"fly"},
        {"run"},
        {"run", "--no-such-option", "hello"},
        {"run", "hello", "-p", "hello"},
        {"run", "hello", "--raw", "--chat"},
        {"run", "hello", "--temp", "-1"},
        {"run", "hello", "--temp", "warm"},
        {"run", "hello", "--top-p", "0"},
        {"run", "hello", "--logit-bias", "7"},
        {"run", "hello", "--kv-type", "q4_0"},
        {"chat", "--kv-type", ""},
        {"bench", "--kv-type"},
        {"logits", "--tokens", "2", "--kv-type", "Q8_0"},
        {"run", "hello", "--tokens"},
        {"tokenize"},
        {"tokenize", "--decode"},
        {"logits"},
        {"logits", "--tokens", "2,x"},
        {"bench", "-r", "0"},
        {"bench", "-r", "-1"},
        {"run", "hello", "-n", "0"},
        {"run", "hello", "-n", "-5"},
        {"run", "hello", "-n", "12x"},
        {"run", "hello", "--top-k", "-3"},
        {"run", "hello", "--repeat-last-n", "-1"},
        {"run", "hello", "--repeat-last-n", "1048577"},
        {"run", "hello", "--ctx", "-5"},
        {"run", "hello", "--ctx", "0"},
        {"run", "hello", "--seed", "-1"},
        {"run", "hello", "--threads", "1025"},
        {"run", ""},
        {"run", "--raw", ""},
        {"run", "-p", ""},
        {"run", "-"},
        {"chat", "-n", "0"},
        {"chat", "--ctx", "18446744073709551616"},
        {"logits", "--tokens", "2", "--top", "-1"},
        {"synth", "1b", "/no/such/out.gguf", "-t", "-1"},
        {"synth", "1b", "/no/such/out.gguf", "--seed", "-1"},
        {"convert", "folder", "out.gguf", "-t", "-1"},
        {"bench", "-p", "0", "-n", "0"},
        {"bench", "-p", "-5"},
        {"bench", "--format", "xml"},
        {"bench", "--json", "--format", "csv"},
        {"synth", "3b", "out.gguf"},
        {"synth", "1b"},
        {"synth"},
        {"synth", "1b", "out.gguf", "--type", "q9"},
        {"synth", "1b", "out.gguf", "--type", "q4_0", "--recipe", "mixed"},
        {"convert", "folder"},
        {"convert", "folder", "out.gguf", "--type", "q2_k"},
        {"completions", "tcsh"},
        {"inspect", "a.gguf", "-m", "b.gguf"},
        {"plan", "a.gguf", "-m", "b.gguf"},
        {"plan", "a.gguf", "--shape", "1b"},
        {"plan", "--shape", "3b"},
        {"plan", "--recipe", "mixed"},
        {"plan", "--shape", "1b", "--recipe", "q9"},
        {"plan", "--shape", "1b", "--policy", "lru"},
        {"plan", "--shape", "1b", "--batch", "0"},
        {"plan", "--shape", "1b", "--hardware", "cpu-only-16gb", "--ctx", "40000"},
        {"run", "hello", "--policy", "fastest"},
        {"run", "hello", "--memory-limit", "2 Gi"},
        {"run", "hello", "--memory-limit", "0"},
        {"bench", "--memory-limit", "-1"},
    };
    for (const auto& arguments : mistakes) {
        const Outcome outcome = unicorn(arguments);
        std::string line = "unicorn";
        for (const auto& argument : arguments) line += " " + argument;
        EXPECT_EQ(outcome.exit_code, 2) << line << "\n" << outcome.err;
        EXPECT_EQ(outcome.out, "") << line;
        EXPECT_TRUE(is_one_error_line(outcome.err)) << line << "\n" << outcome.err;
    }
}

TEST(Usage, ACountOutsideItsRangeIsNamedWithTheRange) {
    EXPECT_EQ(unicorn({"run", "hello", "--threads", "-1"}).err,
              "unicorn: --threads: '-1' is not a whole number from 0 to 1024 (see unicorn run "
              "--help)\n");
    EXPECT_EQ(unicorn({"bench", "-r", "-1"}).err,
              "unicorn: --repetitions: '-1' is not a whole number from 1 to 100000 (see unicorn "
              "bench --help)\n");
}

TEST(Usage, AnEmptyPromptIsAnErrorBeforeAnyModelIsOpened) {
    const std::string expected = "unicorn: the prompt is empty\n";
    EXPECT_EQ(unicorn({"run", "--raw", ""}).err, expected);
    EXPECT_EQ(unicorn({"run", "--chat", ""}).err, expected);
    EXPECT_EQ(unicorn({"run", "-p", ""}).err, expected);
    EXPECT_EQ(unicorn({"run", "-"}).err, expected);
    EXPECT_EQ(unicorn({"run", "-"}, {.input = "\n"}).err, expected);
}

TEST(Usage, WithoutACommandTheHelpGoesToStandardError) {
    const Outcome outcome = unicorn({});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("Commands:\n"));
}

TEST(Usage, HelpAndVersionGoToStandardOutput) {
    EXPECT_THAT(unicorn({"--help"}).out, HasSubstr("Commands:\n"));
    const Outcome version = unicorn({"--version"});
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_THAT(version.out, ::testing::MatchesRegex("unicorn [0-9]+\\.[0-9]+\\.[0-9]+\n"));
    for (const char* command : {"run", "chat", "inspect", "tokenize", "logits", "bench", "plan",
                                "synth", "convert", "doctor", "tune", "completions"}) {
        const Outcome help = unicorn({command, "--help"});
        EXPECT_EQ(help.exit_code, 0) << command;
        EXPECT_EQ(help.err, "") << command;
        EXPECT_THAT(help.out, HasSubstr(std::string("Usage: unicorn ") + command)) << command;
        EXPECT_THAT(help.out, HasSubstr("Examples:\n")) << command;
    }
}

TEST(Usage, ACommandsNameMayBeAPrompt) {
    // Not taken for a second command: the model that is not there is what fails.
    const Outcome outcome = unicorn({"run", "inspect", "-m", "/no/such/model.gguf"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, StartsWith("unicorn: /no/such/model.gguf: "));
}

TEST(Usage, WritingToAFullDiskOrNowhereFails) {
    const Outcome full = unicorn({"--help"}, {.out_path = "/dev/full"});
    EXPECT_EQ(full.exit_code, 1);
    EXPECT_EQ(full.err, "unicorn: standard output: No space left on device\n");
    const Outcome closed = unicorn({"--help"}, {.close_out = true});
    EXPECT_EQ(closed.exit_code, 1);
    EXPECT_EQ(closed.err, "unicorn: standard output: Bad file descriptor\n");
}

TEST(Completions, BashCompletesCommandsOptionsAndChoices) {
    const std::string bash = find_program("bash");
    if (bash.empty()) GTEST_SKIP() << "bash is not installed";
    const std::string script = unicorn({"completions", "bash"}).out;
    const auto complete = [&](const std::string& words, int index) {
        const std::string code = script + "\nCOMP_WORDS=(" + words +
                                 "); COMP_CWORD=" + std::to_string(index) +
                                 "; _unicorn 2>/dev/null; echo \"${COMPREPLY[@]}\"";
        const Outcome outcome = run_program(bash, {"-c", code});
        EXPECT_EQ(outcome.err, "");
        return outcome.out;
    };
    EXPECT_EQ(complete("unicorn ru", 1), "run\n");
    EXPECT_EQ(complete("unicorn run --min", 2), "--min-p\n");
    EXPECT_EQ(complete("unicorn run --qu", 2), "--quiet\n");
    EXPECT_EQ(complete("unicorn bench --format j", 3), "json\n");
    EXPECT_EQ(complete("unicorn completions f", 2), "fish\n");
    EXPECT_EQ(complete("unicorn run --seed ''", 3), "\n");
}

TEST(Completions, ScriptsAreWellFormed) {
    const testing::TemporaryFolder folder;
    for (const char* shell : {"bash", "zsh", "fish"}) {
        const Outcome script = unicorn({"completions", shell});
        EXPECT_EQ(script.exit_code, 0);
        EXPECT_GT(script.out.size(), 2000u) << shell;
        const std::string program = find_program(shell);
        if (program.empty()) continue;  // the text itself is tested in app_tree_test.cpp
        EXPECT_EQ(run_program(program, {"-n", "/dev/stdin"}, {.input = script.out}).err, "")
            << shell;
    }
}

TEST(ManPages, OneForEachCommandWithoutWarnings) {
    const testing::TemporaryFolder folder;
    const Outcome made = unicorn({"man-pages", folder.path("man")});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const std::string groff = find_program("groff");
    for (const char* page :
         {"unicorn", "unicorn-run", "unicorn-chat", "unicorn-inspect", "unicorn-tokenize",
          "unicorn-logits", "unicorn-bench", "unicorn-synth", "unicorn-convert", "unicorn-doctor",
          "unicorn-tune", "unicorn-completions"}) {
        const std::string path = folder.path(std::string("man/") + page + ".1");
        EXPECT_TRUE(std::filesystem::exists(path));
        if (groff.empty()) continue;
        const Outcome shown = run_program(groff, {"-man", "-ww", "-Tutf8", path});
        EXPECT_EQ(shown.exit_code, 0) << page;
        EXPECT_EQ(shown.err, "") << page;
        EXPECT_TRUE(shown.out.find("130") != std::string::npos) << page << ": no exit codes";
    }
}

TEST(ManPages, AFolderThatCannotBeMadeFails) {
    const Outcome outcome = unicorn({"man-pages", "/dev/null/man"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
}

}  // namespace
}  // namespace unicorn::cli_tests
