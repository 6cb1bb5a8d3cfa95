#pragma once
// Text from untrusted files: whether it is UTF-8, and how to show it in a message.

#include <string>
#include <string_view>

namespace unicorn::formats {

/// Well-formed UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF.
bool valid_utf8(std::string_view text);

/// `text` between single quotes, fit for a one-line message: control characters and bytes that are
/// not UTF-8 become \xNN, and anything past 100 bytes becomes "...".
std::string shown(std::string_view text);

}  // namespace unicorn::formats
