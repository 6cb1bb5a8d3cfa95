#include "formats/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <iterator>

namespace unicorn::formats {
namespace {

/// Length of the well-formed sequence at the front of `text` (not empty), or 0.
/// Source: The Unicode Standard, table 3-7.
std::size_t sequence_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return text.size() >= 2 && continues(1) ? 2 : 0;
    if (lead < 0xF0) {
        if (text.size() < 3 || !continues(1) || !continues(2)) return 0;
        if (lead == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
        if (lead == 0xED && byte(1) > 0x9F) return 0;  // surrogate
        return 3;
    }
    if (lead > 0xF4 || text.size() < 4 || !continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xF0 && byte(1) < 0x90) return 0;
    if (lead == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
}

}  // namespace

bool valid_utf8(std::string_view text) {
    while (!text.empty()) {
        if (text.size() >= 8) {  // most text is ASCII: eight bytes at a time
            std::uint64_t word = 0;
            std::memcpy(&word, text.data(), 8);
            if ((word & 0x8080808080808080u) == 0) {
                text.remove_prefix(8);
                continue;
            }
        }
        const std::size_t length = sequence_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string shown(std::string_view text) {
    constexpr std::size_t kShown = 100;
    std::string out = "'";
    while (!text.empty() && out.size() < kShown) {
        const std::size_t length = sequence_length(text);
        const auto lead = static_cast<unsigned char>(text[0]);
        if (length == 0 || lead < 0x20 || lead == 0x7F) {
            fmt::format_to(std::back_inserter(out), "\\x{:02X}", lead);
            text.remove_prefix(1);
        } else {
            out += text.substr(0, length);
            text.remove_prefix(length);
        }
    }
    if (!text.empty()) out += "...";
    return out + "'";
}

}  // namespace unicorn::formats
