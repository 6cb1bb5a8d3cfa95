#pragma once
// Result<T>: a value, or an Error whose message is ready to be shown to a person.

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace unicorn {

enum class ErrorCode {
    invalid_argument,  // the caller's request makes no sense
    not_found,         // a file, a tensor or a key that is not there
    invalid_file,      // untrusted bytes that contradict themselves or our expectations
    unsupported,       // well-formed, but not something we do
    io,                // the operating system refused a read or a write
    out_of_memory,     // a budget or the machine is exhausted
    device_lost,       // a device stopped answering; nothing it held can be trusted
    cancelled,         // the user asked to stop
};

/// What went wrong, with the place and the numbers: one line, no trailing full stop or newline.
struct Error {
    ErrorCode code = ErrorCode::invalid_argument;
    std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// return fail(ErrorCode::invalid_file, "{}: tensor {} ends at {}", path, name, end);
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format,
                                         Args&&... args) {
    return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

/// Hands an error on to the caller: `if (!file) return forward(file);`
template <typename T>
[[nodiscard]] tl::unexpected<Error> forward(Result<T>& result) {
    return tl::unexpected<Error>(std::move(result.error()));
}

}  // namespace unicorn
