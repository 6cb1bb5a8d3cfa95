// The program on every case: exit code 1, one line on stderr with place and reason, less than
// 100 MiB of memory. UNICORN_PROGRAM and MALFORMED_FILES are the paths of the built binaries.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
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
    std::string out, err;
};

/// Runs a program to its end. A child's peak memory starts at that of the process which starts it,
/// so this one stays small: the cases are made by a program of their own.
Outcome run(std::vector<std::string> arguments, const formats::TempFolder& folder) {
    const std::string out = folder.file("stdout");
    const std::string err = folder.file("stderr");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t child = 0;
    const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(failed, 0) << arguments[0] << ": " << std::strerror(failed);
    Outcome outcome;
    outcome.status = -1;
    if (failed != 0) return outcome;
    rusage usage{};
    EXPECT_EQ(wait4(child, &outcome.status, 0, &usage), child);
    outcome.max_rss_kib = usage.ru_maxrss;
    outcome.out = read_file(out, 1u << 20).value();
    outcome.err = read_file(err, 1u << 20).value();
    return outcome;
}

TEST(MalformedCommandsTest, EndWithOneLineAndExitCode1) {
    const formats::TempFolder files;
    const formats::TempFolder scratch;
    const Outcome made = run({MALFORMED_FILES, files.path()}, scratch);
    ASSERT_TRUE(WIFEXITED(made.status) && WEXITSTATUS(made.status) == 0) << made.err;
    std::istringstream lines(made.out);
    std::string kind, path, message;
    std::size_t n_cases = 0;
    while (std::getline(lines, kind, '\t') && std::getline(lines, path, '\t') &&
           std::getline(lines, message)) {
        ++n_cases;
        std::vector<std::vector<std::string>> commands;
        if (kind == "folder") {
            commands.push_back({UNICORN_PROGRAM, "convert", path, scratch.file("out.gguf")});
        } else {
            if (kind != "vocabulary")
                commands.push_back({UNICORN_PROGRAM, "run", "-m", path, "-p", "hello", "-n", "1"});
            if (kind != "model")
                commands.push_back({UNICORN_PROGRAM, "tokenize", "-m", path, "hello"});
            if (kind == "container") commands.push_back({UNICORN_PROGRAM, "inspect", path});
        }
        for (const auto& command : commands) {
            SCOPED_TRACE(fmt::format("unicorn {} {}", command[1], path));
            const Outcome outcome = run(command, scratch);
            EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 1)
                << "status " << outcome.status;
            EXPECT_THAT(outcome.err, testing::HasSubstr(message));
            EXPECT_THAT(outcome.err, testing::HasSubstr(files.path()));
            EXPECT_TRUE(outcome.err.ends_with('\n') && std::ranges::count(outcome.err, '\n') == 1)
                << outcome.err;
            if (!kSanitized) {
                EXPECT_LT(outcome.max_rss_kib, kMaxKib);
            }
        }
    }
    EXPECT_GE(n_cases, 40U);
    EXPECT_FALSE(std::filesystem::exists(scratch.file("out.gguf")));
}

}  // namespace
}  // namespace unicorn::malformed
