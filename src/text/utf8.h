#pragma once
// UTF-8, one character at a time; Unicode 15, table 3-7 (no surrogates, nothing overlong).

#include <cstddef>
#include <string_view>

namespace unicorn::text {

enum class Utf8State {
    valid,       // `length` bytes are one character
    incomplete,  // the text ends inside what could still become a character
    invalid,     // `length` bytes (at least one) can never become a character
};

struct Utf8Step {
    Utf8State state = Utf8State::invalid;
    std::size_t length = 1;
};

/// What `text` (not empty) begins with. An invalid sequence is as long as Unicode's "maximal
/// subpart": the bytes that one U+FFFD stands for.
inline Utf8Step utf8_step(std::string_view text) noexcept {
    const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return {Utf8State::valid, 1};
    if (first < 0xC2 || first > 0xF4) return {Utf8State::invalid, 1};
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    // Only the second byte's range depends on the first.
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    for (std::size_t i = 1; i < length; ++i) {
        if (i == text.size()) return {Utf8State::incomplete, i};
        if (byte(i) < low || byte(i) > high) return {Utf8State::invalid, i};
        low = 0x80;
        high = 0xBF;
    }
    return {Utf8State::valid, length};
}

/// The bytes of the valid character at the beginning of `text`, or 0 if there is none.
inline std::size_t utf8_length(std::string_view text) noexcept {
    const Utf8Step step = utf8_step(text);
    return step.state == Utf8State::valid ? step.length : 0;
}

}  // namespace unicorn::text
