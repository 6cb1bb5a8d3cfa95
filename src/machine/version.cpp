#include "machine/version.h"

#include <charconv>

namespace unicorn::machine {

Version parse_version(std::string_view text) {
    Version version{.text = std::string(text)};
    const char* const end = text.data() + text.size();
    for (std::size_t i = text.find_first_of("0123456789"); i < text.size();
         i = text.find_first_of("0123456789", i + 1)) {
        unsigned major = 0, minor = 0;
        const auto first = std::from_chars(text.data() + i, end, major);
        if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') continue;
        if (std::from_chars(first.ptr + 1, end, minor).ec != std::errc()) continue;
        version.major = major;
        version.minor = minor;
        break;
    }
    return version;
}

}  // namespace unicorn::machine
