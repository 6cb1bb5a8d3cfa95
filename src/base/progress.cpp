#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

namespace unicorn {
namespace {

std::atomic<bool> g_quiet{false};
constexpr double kShowAfterSeconds = 2.0;
constexpr std::chrono::milliseconds kRedrawEvery{100};
constexpr int kBarWidth = 24;

}  // namespace

std::string human_bytes(double bytes) {
    constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1000;
        ++unit;
    }
    if (unit == 0) return fmt::format("{:.0f} B", bytes);
    const int digits = bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0;
    return fmt::format("{:.{}f} {}", bytes, digits, kUnits[unit]);
}

Progress::Progress(std::string label, std::uint64_t total, ProgressUnit unit)
    : label_(std::move(label)),
      total_(total),
      unit_(unit),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_) {}

Progress::~Progress() {
    if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::set_quiet(bool quiet) { g_quiet = quiet; }

void Progress::update(std::uint64_t done) {
    const auto now = std::chrono::steady_clock::now();
    const double elapsed_s = std::chrono::duration<double>(now - start_).count();
    if (elapsed_s < kShowAfterSeconds || now - last_draw_ < kRedrawEvery) return;
    if (g_quiet || isatty(STDERR_FILENO) == 0) return;
    last_draw_ = now;
    drawn_ = true;
    fmt::print(stderr, "\r\033[K{}", line(done, elapsed_s));
    std::fflush(stderr);
}

std::string Progress::line(std::uint64_t done, double elapsed_s) const {
    const double share =
        total_ == 0 ? 1.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    const int filled = static_cast<int>(share * kBarWidth);
    const double rate = static_cast<double>(done) / elapsed_s;
    const double left_s =
        rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
    const auto left = static_cast<long>(left_s + 0.5);
    const std::string amount =
        unit_ == ProgressUnit::bytes
            ? human_bytes(static_cast<double>(done)) + "  " + human_bytes(rate) + "/s"
            : fmt::format("{} of {}  {:.0f}/s", done, total_, rate);
    return fmt::format("{} [{}{}] {:.0f} %  {}  {}:{:02} left", label_, std::string(filled, '='),
                       std::string(kBarWidth - filled, ' '), share * 100, amount, left / 60,
                       left % 60);
}

}  // namespace unicorn
