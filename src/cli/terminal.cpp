#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/progress.h"

namespace unicorn::cli {
namespace {

std::atomic<bool> g_quiet{false};
std::atomic<bool> g_interrupted{false};
std::atomic<bool> g_second_ends{true};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");
struct sigaction g_previous_action {};

void on_interrupt(int) {
    if (g_interrupted.exchange(true) && g_second_ends) {
        // Nobody has looked at the first one: stop politely no longer.
        constexpr char kReset[] = "\n";
        [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kReset, sizeof kReset - 1);
        ::_exit(130);
    }
}

}  // namespace

void prepare_standard_streams() {
    ::signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd <= 2; ++fd) {
        if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        // Opened the wrong way round on purpose, so that using it is an error, as it would have
        // been.
        const int opened = ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        if (opened != fd) ::_exit(1);
    }
}

Status write_out(std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
        if (n >= 0) {
            text.remove_prefix(static_cast<std::size_t>(n));
        } else if (errno == EPIPE) {
            return fail(ErrorCode::cancelled, "standard output: {}", std::strerror(errno));
        } else if (errno != EINTR) {
            return fail(ErrorCode::io, "standard output: {}", std::strerror(errno));
        }
    }
    return {};
}

void set_quiet(bool quiet) {
    g_quiet = quiet;
    Progress::set_quiet(quiet);
}

bool quiet() { return g_quiet; }

void note(std::string_view text) {
    if (!g_quiet) fmt::print(stderr, "{}\n", text);
}

void print_error(std::string_view message) {
    std::string line(message);
    for (char& c : line)
        if (c == '\n' || c == '\r') c = ' ';
    fmt::print(stderr, "unicorn: {}\n", line);
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

bool colour_wanted(int fd) {
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return is_terminal(fd) && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
           std::strcmp(term, "dumb") != 0;
}

InterruptScope::InterruptScope(SecondInterrupt second) {
    g_interrupted = false;
    g_second_ends = second == SecondInterrupt::ends_program;
    struct sigaction action {};
    action.sa_handler = on_interrupt;  // no SA_RESTART: a read that waits for a line returns
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &g_previous_action);
}

InterruptScope::~InterruptScope() { ::sigaction(SIGINT, &g_previous_action, nullptr); }

bool InterruptScope::requested() { return g_interrupted; }

void InterruptScope::reset() { g_interrupted = false; }

ssize_t read_or_interrupt(char* buffer, std::size_t size) {
    // SIGINT is let in only while ppoll() waits: between the question and the wait it would be
    // lost.
    sigset_t interrupt, before;
    ::sigemptyset(&interrupt);
    ::sigaddset(&interrupt, SIGINT);
    ::sigprocmask(SIG_BLOCK, &interrupt, &before);
    pollfd input{STDIN_FILENO, POLLIN, 0};
    int ready = -1;
    if (InterruptScope::requested()) {
        errno = EINTR;
    } else {
        ready = ::ppoll(&input, 1, nullptr, &before);
    }
    const int error = ready < 0 ? errno : EINTR;
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (ready < 0 || InterruptScope::requested()) {  // before what was typed after it
        errno = error;
        return -1;
    }
    return ::read(STDIN_FILENO, buffer, size);
}

Result<std::string> read_standard_input(std::size_t max_bytes) {
    std::string text;
    char buffer[1 << 16];
    for (;;) {
        const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (n == 0) return text;
        if (n < 0 && errno == EINTR && !InterruptScope::requested()) continue;
        if (n < 0) return fail(ErrorCode::io, "standard input: {}", std::strerror(errno));
        text.append(buffer, static_cast<std::size_t>(n));
        if (text.size() > max_bytes)
            return fail(ErrorCode::invalid_argument, "standard input is longer than {} bytes",
                        max_bytes);
    }
}

}  // namespace unicorn::cli
