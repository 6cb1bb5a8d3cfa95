// unicorn chat from a script, and on a terminal.

#include <gmock/gmock.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace unicorn::cli_tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Chat : public WithModel {
protected:
    static Outcome chat(const std::string& input, std::vector<std::string> arguments = {}) {
        arguments.insert(arguments.begin(), {"chat", "-m", model(), "--temp", "0", "-n", "8"});
        return unicorn(arguments,
                       {.input = input, .environment = {{"HOME", folder_->path("home")}}});
    }
};

TEST_F(Chat, AScriptGetsAnswersAndNothingElse) {
    const Outcome outcome = chat("Hello\n\nAnd now?\n");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_GE(count_lines(outcome.out), 2u);
    EXPECT_FALSE(std::filesystem::exists(path("home")));
    EXPECT_EQ(chat("Hello\n\nAnd now?").out, outcome.out) << "without a newline at the end";
}

TEST_F(Chat, CommandsAnswerOnStandardError) {
    const Outcome outcome =
        chat("/help\n/stats\n/nonsense\n/save\n/system Be kind\n/reset\n/quit\nnever read\n");
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("/load FILE"));
    EXPECT_THAT(outcome.err, HasSubstr("context 0 of 256 tokens"));
    EXPECT_THAT(outcome.err, HasSubstr("/nonsense is not a command"));
    EXPECT_THAT(outcome.err, HasSubstr("/save needs a file name"));
    EXPECT_THAT(outcome.err, HasSubstr("The system prompt is set."));
    EXPECT_THAT(outcome.err, HasSubstr("The conversation is forgotten."));
}

TEST_F(Chat, AConversationIsSavedAndGoesOn) {
    const std::string file = path("talk.json");
    const Outcome first = chat("Hello\n/save " + file + "\n", {"--system", "Be kind"});
    ASSERT_EQ(first.exit_code, 0) << first.err;
    const json saved = json::parse(contents(file));
    EXPECT_EQ(saved["system"], "Be kind");
    ASSERT_EQ(saved["messages"].size(), 2u);
    EXPECT_EQ(saved["messages"][0], (json{{"role", "user"}, {"content", "Hello"}}));
    EXPECT_EQ(saved["messages"][1]["role"], "assistant");

    const Outcome in_one = chat("Hello\nMore\n", {"--system", "Be kind"});
    const Outcome loaded = chat("/load " + file + "\nMore\n");
    const Outcome by_option = chat("More\n", {"--load", file});
    EXPECT_EQ(first.out + loaded.out, in_one.out);
    EXPECT_EQ(by_option.out, loaded.out);
    EXPECT_THAT(loaded.err, HasSubstr("Loaded 2 messages"));
    const Outcome absent = chat("/load " + path("absent.json") + "\n");
    EXPECT_EQ(absent.exit_code, 0);
    EXPECT_TRUE(is_one_error_line(absent.err)) << absent.err;
}

TEST_F(Chat, ResetForgetsAndTurnsAreKeptInMemory) {
    const Outcome once = chat("Hello\n");
    EXPECT_EQ(chat("Something else\n/reset\nHello\n").out, chat("Something else\n").out + once.out);
    const Outcome stats = chat("Hello\nMore\n", {"--stats"});
    EXPECT_THAT(stats.err, HasSubstr(" of them kept"));
}

TEST_F(Chat, ALineMayGoOnInTheNext) {
    const std::string file = path("lines.json");
    ASSERT_EQ(chat("one\\\ntwo\n//slash\n/save " + file + "\n").exit_code, 0);
    const json saved = json::parse(contents(file));
    EXPECT_EQ(saved["messages"][0]["content"], "one\ntwo");
    EXPECT_EQ(saved["messages"][2]["content"], "/slash");
}

TEST_F(Chat, ALastLineThatWasToGoOnIsAnswered) {
    const std::string expected = chat("one\n").out;
    EXPECT_GE(count_lines(expected), 1u);
    EXPECT_EQ(chat("one\\\n").out, expected);
    EXPECT_EQ(chat("one\\").out, expected) << "without a newline at the end";
}

TEST_F(Chat, AFullContextIsSaidAndSurvived) {
    const Outcome outcome = chat(std::string(300, 'x') + "\nHi\n", {"--ctx", "64"});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err, HasSubstr("The context of 64 tokens is full: /reset"));
    EXPECT_GE(count_lines(outcome.out), 1u) << "the next message is answered";
}

// A terminal: what is typed goes in, what is shown comes out.
class Terminal {
public:
    explicit Terminal(const std::vector<std::string>& arguments, const std::string& state_folder) {
        child_ = ::forkpty(&fd_, nullptr, nullptr, nullptr);
        if (child_ == 0) {
            ::setenv("XDG_STATE_HOME", state_folder.c_str(), 1);
            ::setenv("TERM", "xterm", 1);
            ::setenv("LC_ALL", "C.UTF-8", 1);
            std::vector<char*> argv{const_cast<char*>(UNICORN_BINARY)};
            for (const auto& argument : arguments)
                argv.push_back(const_cast<char*>(argument.c_str()));
            argv.push_back(nullptr);
            ::execv(UNICORN_BINARY, argv.data());
            ::_exit(127);
        }
    }
    ~Terminal() {
        if (child_ > 0) ::kill(child_, SIGKILL), ::waitpid(child_, nullptr, 0);
        ::close(fd_);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    void type(const std::string& keys) {
        EXPECT_EQ(::write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
    }
    /// Waits until the screen shows `text` after what was waited for before.
    bool shows(const std::string& text) {
        for (;;) {
            if (const std::size_t at = screen_.find(text, seen_); at != std::string::npos) {
                seen_ = at + text.size();
                return true;
            }
            if (!read_more()) return false;
        }
    }
    int wait() {
        while (read_more()) {
        }
        int status = 0;
        for (int tenths = 0; tenths < 50 && ::waitpid(child_, &status, WNOHANG) == 0; ++tenths) {
            ::usleep(100'000);
            if (tenths == 49) ::kill(child_, SIGKILL), ::waitpid(child_, &status, 0);
        }
        child_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    const std::string& screen() const { return screen_; }

private:
    bool read_more() {
        pollfd ready{fd_, POLLIN, 0};
        if (::poll(&ready, 1, 30'000) <= 0) return false;
        char buffer[4096];
        const ssize_t n = ::read(fd_, buffer, sizeof buffer);
        if (n > 0) screen_.append(buffer, static_cast<std::size_t>(n));
        return n > 0;
    }

    int fd_ = -1;
    pid_t child_ = -1;
    std::string screen_;
    std::size_t seen_ = 0;
};

TEST_F(Chat, CtrlCStopsTheAnswerAndNotTheProgram) {
    Terminal terminal({"chat", "-m", model(), "--temp", "0", "--ctx", "256"}, path("state"));
    ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
    terminal.type("half a line\x03");
    ASSERT_TRUE(terminal.shows("> ")) << "Ctrl-C drops the line\n" << terminal.screen();
    terminal.type("Hello\n");
    ASSERT_TRUE(terminal.shows("Hello"));
    terminal.type("\x03\x03\x03");
    ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
    terminal.type("/stats\n");
    ASSERT_TRUE(terminal.shows("of 256 tokens")) << terminal.screen();
    // Ctrl-D is lost unless the editor reads keys already, and its history shows that it does.
    terminal.type("\x10");
    ASSERT_TRUE(terminal.shows("/stats")) << terminal.screen();
    terminal.type("\x15\x04");
    EXPECT_EQ(terminal.wait(), 0) << terminal.screen();
}

TEST_F(Chat, HistoryIsKeptAndOffered) {
    const std::string state = path("state-history");
    {
        Terminal terminal({"chat", "-m", model(), "-n", "2"}, state);
        ASSERT_TRUE(terminal.shows("> "));
        terminal.type("/system Grüße\n");
        ASSERT_TRUE(terminal.shows("The system prompt is set."));
        terminal.type("/quit\n");
        EXPECT_EQ(terminal.wait(), 0);
    }
    const std::string history = state + "/unicorn/history";
    ASSERT_TRUE(std::filesystem::exists(history));
    EXPECT_EQ(std::filesystem::status(history).permissions() & std::filesystem::perms(077),
              std::filesystem::perms::none);
    Terminal terminal({"chat", "-m", model(), "-n", "2"}, state);
    ASSERT_TRUE(terminal.shows("> "));
    terminal.type("\x10\x10");  // Ctrl-P twice: past /quit
    ASSERT_TRUE(terminal.shows("/system Grüße")) << terminal.screen();
    terminal.type("\n");
    ASSERT_TRUE(terminal.shows("The system prompt is set."));
    terminal.type("/quit\n");
    EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, ALongPromptShowsHowFarItIs) {
    std::string prompt;
    while (prompt.size() < 60'000) prompt += "x, ";
    std::string ids = "2";
    while (ids.size() < 120'000) ids += ",9";
    const std::vector<std::vector<std::string>> commands{
        {"run", "-m", long_model(), "--raw", prompt, "-n", "1", "--ctx", "65536", "-t", "1"},
        {"logits", "-m", long_model(), "--tokens", ids, "-t", "1"}};
    for (const auto& arguments : commands) {
        SCOPED_TRACE(arguments[0]);
        Terminal terminal(arguments, path("state"));
        if (!terminal.shows("prompt [")) GTEST_SKIP() << "the prompt took less than two seconds";
        ASSERT_TRUE(terminal.shows(" of ")) << terminal.screen();
        terminal.type("\x03");
        EXPECT_EQ(terminal.wait(), 130);
        const std::string& screen = terminal.screen();
        EXPECT_NE(screen.find("\r\033[K", screen.rfind("prompt [")), std::string::npos)
            << "the bar is left on the screen";
    }
}

TEST_F(Chat, NoColourWhereItIsNotWanted) {
    ::setenv("NO_COLOR", "1", 1);
    Terminal plain({"inspect", model()}, path("state"));
    EXPECT_TRUE(plain.shows("bits a weight"));
    EXPECT_EQ(plain.wait(), 0);
    EXPECT_EQ(plain.screen().find('\033'), std::string::npos);
    ::unsetenv("NO_COLOR");
    Terminal coloured({"inspect", model()}, path("state"));
    EXPECT_TRUE(coloured.shows("bits a weight"));
    EXPECT_EQ(coloured.wait(), 0);
    EXPECT_NE(coloured.screen().find("\033[1m"), std::string::npos);
}

}  // namespace
}  // namespace unicorn::cli_tests
