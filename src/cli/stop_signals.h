#pragma once
// Signals that ask a program to end, for commands that have something to clean up first.

#include <signal.h>

#include <array>
#include <atomic>

namespace unicorn::cli {

/// While one of these exists, SIGINT (Ctrl-C), SIGTERM and SIGHUP set requested() instead of
/// ending the program, however often they come. A signal that was ignored (nohup) stays ignored.
/// One at a time.
class StopSignals {
public:
    StopSignals() {
        received = 0;
        struct sigaction action {};
        action.sa_handler = [](int signal) { received = signal; };
        action.sa_flags = SA_RESTART;
        ::sigemptyset(&action.sa_mask);
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            ::sigaction(kSignals[i], nullptr, &previous_[i]);
            if (previous_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
        }
    }
    ~StopSignals() {
        for (std::size_t i = 0; i < kSignals.size(); ++i)
            ::sigaction(kSignals[i], &previous_[i], nullptr);
    }
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

    static bool requested() { return received != 0; }
    /// What a shell shows for a program that the signal ended: 130 after Ctrl-C.
    static int exit_code() { return 128 + received; }

private:
    static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
    static inline std::atomic<int> received{0};
    static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");

    std::array<struct sigaction, kSignals.size()> previous_{};
};

}  // namespace unicorn::cli
