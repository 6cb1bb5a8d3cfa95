#pragma once

#include <compare>
#include <string>
#include <string_view>

namespace unicorn::machine {

/// The first two numbers of a version, and the text that they came from ("6.14.0-29-generic").
struct Version {
    unsigned major = 0, minor = 0;
    std::string text = {};

    std::strong_ordering operator<=>(const Version& other) const {
        if (const auto order = major <=> other.major; order != 0) return order;
        return minor <=> other.minor;
    }
    bool operator==(const Version& other) const {
        return major == other.major && minor == other.minor;
    }
};

/// Takes the first "N.N" in the text; 0.0 without one.
Version parse_version(std::string_view text);

}  // namespace unicorn::machine
