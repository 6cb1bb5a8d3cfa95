#pragma once
// One line on stderr for work that takes more than two seconds.

#include <chrono>
#include <cstdint>
#include <string>

namespace unicorn {

/// How `Progress` shows what it counts.
enum class ProgressUnit { bytes, items };

/// A progress bar with rate and time left: "load  [=====     ] 52 %  1.3 GB  2.1 GB/s  0:03 left".
/// Nothing is shown for the first two seconds, when stderr is not a terminal, or when `quiet`
/// was set by set_quiet(). Used by one thread at a time.
class Progress {
public:
    Progress(std::string label, std::uint64_t total, ProgressUnit unit);
    ~Progress();  // clears the line
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// `done` of the total so far; redraws at most ten times a second.
    void update(std::uint64_t done);

    /// For the whole process: no bars at all (--quiet).
    static void set_quiet(bool quiet);

    /// The line as it would be drawn; `elapsed_s` > 0. Public for tests.
    std::string line(std::uint64_t done, double elapsed_s) const;

private:
    std::string label_;
    std::uint64_t total_;
    ProgressUnit unit_;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point last_draw_;
    bool drawn_ = false;
};

/// 12345678 -> "12.3 MB"; decimal units, three significant digits.
std::string human_bytes(double bytes);

}  // namespace unicorn
