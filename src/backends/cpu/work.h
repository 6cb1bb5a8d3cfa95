#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace unicorn::backends::cpu {

/// Calls body(first, last) for turns of at most `turn` of `n` items until none are left. The
/// threads of a team share `next`, which is 0 at the start: who is ahead does more.
template <typename Body>
void take_turns(std::atomic<std::size_t>& next, std::size_t n, std::size_t turn, Body&& body) {
    for (;;) {
        const std::size_t first = next.fetch_add(turn, std::memory_order_relaxed);
        if (first >= n) return;
        body(first, std::min(n, first + turn));
    }
}

}  // namespace unicorn::backends::cpu
