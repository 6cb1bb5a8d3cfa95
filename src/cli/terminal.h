#pragma once
// Standard output and standard error: answers go to the one, everything else to the other.

#include <fmt/format.h>
#include <sys/types.h>

#include <string_view>

#include "base/result.h"

namespace unicorn::cli {

/// Called first in main(): makes sure that descriptors 0 to 2 are taken, so that no file opened
/// later is mistaken for one of them, and that a closed pipe is an error instead of a signal.
void prepare_standard_streams();

/// Writes to standard output at once. Errors: io ("standard output: No space left on device");
/// cancelled when the reader has gone away, which is not worth a message.
Status write_out(std::string_view text);

/// Silences note().
void set_quiet(bool quiet);
bool quiet();

/// A remark on stderr, for people.
void note(std::string_view text);
template <typename... Args>
void note(fmt::format_string<Args...> format, Args&&... args) {
    note(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}

/// "unicorn: <message>" on stderr, in one line whatever the message holds; --quiet or not.
void print_error(std::string_view message);

bool is_terminal(int fd);
/// Whether escape sequences are welcome: a terminal that has them, and no NO_COLOR.
bool colour_wanted(int fd);

enum class SecondInterrupt { ends_program, does_nothing };

/// What Ctrl-C asks for, while one of these exists: requested() becomes true instead of the end
/// of the program. A second Ctrl-C before reset() ends it after all, or does nothing more.
class InterruptScope {
public:
    explicit InterruptScope(SecondInterrupt second = SecondInterrupt::ends_program);
    ~InterruptScope();
    InterruptScope(const InterruptScope&) = delete;
    InterruptScope& operator=(const InterruptScope&) = delete;

    static bool requested();
    static void reset();
};

/// As ::read() from standard input; fails with EINTR when Ctrl-C is requested() already, too, so
/// that one which comes just before the wait does not go unseen until the next key.
ssize_t read_or_interrupt(char* buffer, std::size_t size);

/// All of standard input. Errors: io; invalid_argument when it passes `max_bytes`.
Result<std::string> read_standard_input(std::size_t max_bytes);

}  // namespace unicorn::cli
