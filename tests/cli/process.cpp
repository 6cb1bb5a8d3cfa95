#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace unicorn::cli_tests {
namespace {

// A program that hangs fails its test; one that is slow under a sanitizer on a busy machine does
// not.
constexpr int kMostSilentMs = 300'000;

struct Pipe {
    int read = -1, write = -1;
    Pipe() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        read = ends[0];
        write = ends[1];
    }
    ~Pipe() {
        close_read();
        close_write();
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close_read() { close_end(read); }
    void close_write() { close_end(write); }

private:
    static void close_end(int& fd) {
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
};

// Feeds the input and collects both outputs until the program has closed them.
void exchange(Pipe& in, Pipe& out, Pipe& err, pid_t child, const Streams& streams,
              Outcome& outcome) {
    std::size_t sent = 0;
    bool interrupted = false;
    if (streams.input.empty()) in.close_write();
    if (streams.hang_up) out.close_read();
    while (out.read >= 0 || err.read >= 0) {
        pollfd fds[3] = {{out.read, POLLIN, 0}, {err.read, POLLIN, 0}, {in.write, POLLOUT, 0}};
        if (::poll(fds, 3, kMostSilentMs) <= 0) {
            ::kill(child, SIGKILL);
            throw std::runtime_error("unicorn was silent for five minutes");
        }
        char buffer[4096];
        if (fds[0].revents != 0) {
            const ssize_t n = ::read(out.read, buffer, sizeof buffer);
            if (n > 0) outcome.out.append(buffer, static_cast<std::size_t>(n));
            if (n <= 0) out.close_read();
        }
        if (fds[1].revents != 0) {
            const ssize_t n = ::read(err.read, buffer, sizeof buffer);
            if (n > 0) outcome.err.append(buffer, static_cast<std::size_t>(n));
            if (n <= 0) err.close_read();
        }
        if (fds[2].revents != 0) {
            const ssize_t n =
                ::write(in.write, streams.input.data() + sent, streams.input.size() - sent);
            if (n > 0) sent += static_cast<std::size_t>(n);
            if (n <= 0 || sent == streams.input.size()) in.close_write();
        }
        if (streams.interrupt_after && !interrupted &&
            outcome.out.find(*streams.interrupt_after) != std::string::npos) {
            interrupted = true;
            ::kill(child, SIGINT);
        }
    }
}

}  // namespace

Outcome run_program(const std::string& path, const std::vector<std::string>& arguments,
                    const Streams& streams) {
    ::signal(SIGPIPE, SIG_IGN);
    Pipe in, out, err;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in.read, 0);
    if (streams.close_out) {
        ::posix_spawn_file_actions_addclose(&actions, 1);
    } else if (!streams.out_path.empty()) {
        ::posix_spawn_file_actions_addopen(&actions, 1, streams.out_path.c_str(), O_WRONLY, 0);
    } else {
        ::posix_spawn_file_actions_adddup2(&actions, out.write, 1);
    }
    ::posix_spawn_file_actions_adddup2(&actions, err.write, 2);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::sigaddset(&defaults, SIGINT);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

    std::map<std::string, std::string> variables{{"PATH", "/usr/bin:/bin"},
                                                 {"LC_ALL", "C.UTF-8"},
                                                 {"TERM", "xterm"},
                                                 {"UNICORN_DEVICE", "cpu"}};
    for (const char* kept :
         {"ASAN_OPTIONS", "UBSAN_OPTIONS", "UNICORN_ISA", "UNICORN_DEVICE", "TMPDIR"})
        if (const char* value = std::getenv(kept)) variables[kept] = value;
    for (const auto& [name, value] : streams.environment) variables[name] = value;
    std::vector<std::string> settings;
    for (const auto& [name, value] : variables) settings.push_back(name + "=" + value);
    std::vector<char*> environment, argv{const_cast<char*>(path.c_str())};
    for (auto& setting : settings) environment.push_back(setting.data());
    environment.push_back(nullptr);
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);

    pid_t child = 0;
    const int failed =
        ::posix_spawn(&child, path.c_str(), &actions, &attributes, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failed != 0) throw std::runtime_error("cannot run " + path);
    in.close_read();
    out.close_write();
    err.close_write();
    Outcome outcome;
    exchange(in, out, err, child, streams, outcome);
    int status = 0;
    rusage usage{};
    ::wait4(child, &status, 0, &usage);
    outcome.peak_rss_kib = usage.ru_maxrss;
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
}

Outcome unicorn(const std::vector<std::string>& arguments, const Streams& streams) {
    return run_program(UNICORN_BINARY, arguments, streams);
}

std::string find_program(const std::string& name) {
    for (const char* folder : {"/usr/bin/", "/bin/", "/usr/local/bin/"})
        if (std::filesystem::exists(folder + name)) return folder + name;
    return {};
}

std::size_t count_lines(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

bool is_one_error_line(const std::string& text) {
    return text.starts_with("unicorn: ") && text.ends_with('\n') && count_lines(text) == 1;
}

}  // namespace unicorn::cli_tests
