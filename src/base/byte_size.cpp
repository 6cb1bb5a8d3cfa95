#include "base/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

namespace unicorn {
namespace {

constexpr double kMostBytes = 0x1p62;  // what sums of a few sizes cannot overflow

/// Bytes of a unit in lower case; 0 for one that is none.
double unit_bytes(std::string_view unit) {
    if (unit.empty() || unit == "b") return 1;
    constexpr std::string_view kPrefixes = "kmgt";
    const std::size_t power = kPrefixes.find(unit.front());
    if (power == std::string_view::npos) return 0;
    const std::string_view rest = unit.substr(1);
    const double base = rest == "b" ? 1000 : rest.empty() || rest == "ib" ? 1024 : 0;
    return std::pow(base, static_cast<double>(power + 1));
}

}  // namespace

Result<std::uint64_t> parse_byte_size(std::string_view text) {
    double number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
    std::string unit(rest, end);
    unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
    std::transform(unit.begin(), unit.end(), unit.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const double bytes = error == std::errc() ? number * unit_bytes(unit) : 0;
    const bool zero = error == std::errc() && number == 0 && unit_bytes(unit) > 0;
    if (!zero && !(bytes >= 1 && bytes <= kMostBytes))
        return fail(ErrorCode::invalid_argument, "'{}' is not a size such as 2GiB, 512MiB or 40GB",
                    text);
    return static_cast<std::uint64_t>(bytes);
}

}  // namespace unicorn
