#pragma once
// Checks of our own mistakes. The outside world's mistakes are Errors (result.h).

namespace unicorn {
/// Prints the condition and its place to stderr and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace unicorn

/// Holds in every build; for everything off the hot path.
#define UNICORN_CHECK(condition)            \
    (static_cast<bool>(condition) ? void(0) \
                                  : ::unicorn::check_failed(#condition, __FILE__, __LINE__))

/// Holds in debug builds; for the hot path.
#ifdef NDEBUG
#define UNICORN_DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define UNICORN_DCHECK(condition) UNICORN_CHECK(condition)
#endif
