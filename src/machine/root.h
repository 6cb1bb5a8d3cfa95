#pragma once
// Reading what the kernel tells in small text files, below a root that tests choose.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace unicorn::machine {

/// The files of a machine: this one's ("") or those in a folder that stands for its root. What is
/// missing, unreadable, too long or no regular file reads as nothing: every fact is optional.
class Root {
public:
    explicit Root(std::string path) : path_(std::move(path)) {}

    bool is_this_machine() const { return path_.empty(); }
    /// Where the absolute path of a machine lies here: "/proc/meminfo" -> "<root>/proc/meminfo".
    std::filesystem::path at(std::string_view absolute) const;

    bool exists(std::string_view absolute) const;
    /// Whether this process may read and write it.
    bool is_accessible(std::string_view absolute) const;
    /// What the file holds, byte for byte; "" when it holds nothing or more than `max_bytes`.
    std::string bytes(std::string_view absolute, std::size_t max_bytes = 1 << 22) const;
    /// The same as printable(), without white space at its end.
    std::string text(std::string_view absolute, std::size_t max_bytes = 1 << 22) const;
    /// A whole number, decimal or after 0x hexadecimal.
    std::optional<std::uint64_t> number(std::string_view absolute) const;
    /// The names in a folder, sorted.
    std::vector<std::string> names(std::string_view folder) const;

private:
    std::string path_;
};

/// With '?' for control characters, which could play tricks on a terminal; new lines and tabs stay.
std::string printable(std::string text);
std::optional<std::uint64_t> parse_number(std::string_view text);
std::string_view trim(std::string_view text);
/// The lines of `text`, without their ends.
std::vector<std::string_view> lines(std::string_view text);
/// The words of `text`, split at spaces and tabs.
std::vector<std::string_view> words(std::string_view text);
/// What follows "KEY=" in a line of its own ("DRIVER=amdgpu"), without quotes; "" when it is not
/// there.
std::string value_of(std::string_view text, std::string_view key);
/// The word in brackets: "always [madvise] never" -> "madvise"; without brackets all of it.
std::string bracketed(std::string_view text);

}  // namespace unicorn::machine
