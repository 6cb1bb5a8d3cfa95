// The program on every case: exit code 1, one line on stderr with place and reason, less than
// 100 MiB of memory. UNICORN_PROGRAM is the path of the binary that was built.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "cases.h"
#include "formats/testing.h"

extern char** environ;

namespace unicorn::malformed {
namespace {

constexpr long kMaxKib = 100 * 1024;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

struct Outcome {
    int status = 0;  // as wait4 gives it
    long max_rss_kib = 0;
    std::string err;
};

/// Runs the program with `arguments`; standard output is dropped, standard error kept in `log`.
Outcome run(std::vector<std::string> arguments, const std::string& log) {
    arguments.insert(arguments.begin(), UNICORN_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t child = 0;
    const int failed = posix_spawn(&child, UNICORN_PROGRAM, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(failed, 0) << std::strerror(failed);
    if (failed != 0) return {.status = -1, .err = "not started"};
    Outcome outcome;
    rusage usage{};
    EXPECT_EQ(wait4(child, &outcome.status, 0, &usage), child);
    outcome.max_rss_kib = usage.ru_maxrss;
    outcome.err = read_file(log, 1u << 20).value();
    return outcome;
}

class CommandTest : public testing::TestWithParam<Case> {};

TEST_P(CommandTest, EndsWithOneLineAndExitCode1) {
    const Case& malformed = GetParam();
    const formats::TempFolder folder;
    const std::string path = write_case(malformed, folder.path());
    std::vector<std::vector<std::string>> commands;
    if (malformed.kind == Kind::folder) {
        commands.push_back({"convert", path, folder.file("out.gguf")});
    } else {
        commands.push_back({"run", "-m", path, "-p", "hello", "-n", "1"});
        if (malformed.kind == Kind::container) commands.push_back({"inspect", path});
    }
    for (const auto& command : commands) {
        const Outcome outcome = run(command, folder.file("stderr"));
        EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 1) << command[0] << " ended with status " << outcome.status;
        EXPECT_THAT(outcome.err, testing::HasSubstr(malformed.message)) << command[0];
        EXPECT_THAT(outcome.err, testing::HasSubstr(folder.path())) << command[0];
        EXPECT_TRUE(outcome.err.ends_with('\n') && std::ranges::count(outcome.err, '\n') == 1) << outcome.err;
        if (!kSanitized) {
            EXPECT_LT(outcome.max_rss_kib, kMaxKib) << command[0];
        }
    }
    EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf")));
}

/// A case's name as GoogleTest wants it.
std::string test_name(const testing::TestParamInfo<Case>& parameter) {
    std::string name = parameter.param.name;
    std::ranges::replace(name, '-', '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(All, CommandTest, testing::ValuesIn(all_cases()), test_name);

}  // namespace
}  // namespace unicorn::malformed
