#pragma once
// Waiting for another thread: first awake, then asleep.

#include <immintrin.h>

#include <atomic>
#include <chrono>

namespace unicorn {

// Waiting threads burn at most this long before they park in the kernel: longer than the gap
// between two steps, far shorter than the gap between two requests.
inline constexpr std::chrono::microseconds kSpin{50};

/// Waits until `value` differs from `old` and returns the new value: spins, then parks. Whoever
/// changes `value` calls notify afterwards.
template <typename T>
T wait_for_change(const std::atomic<T>& value, T old) {
    // One look at the clock for this many pauses (about 40 cycles each on recent cores).
    constexpr int kPausesPerLook = 64;
    const auto give_up = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < kPausesPerLook; ++i) {
            const T now = value.load(std::memory_order_acquire);
            if (now != old) return now;
            _mm_pause();
        }
    } while (std::chrono::steady_clock::now() < give_up);
    for (;;) {
        const T now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        value.wait(old, std::memory_order_acquire);
    }
}

}  // namespace unicorn
