#include "machine/root.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace unicorn::machine {

namespace fs = std::filesystem;

fs::path Root::at(std::string_view absolute) const { return path_ + std::string(absolute); }

bool Root::exists(std::string_view absolute) const {
    std::error_code error;
    return fs::exists(at(absolute), error);
}

bool Root::is_accessible(std::string_view absolute) const {
    return ::access(at(absolute).c_str(), R_OK | W_OK) == 0;
}

std::string Root::bytes(std::string_view absolute, std::size_t max_bytes) const {
    // O_NONBLOCK: a FIFO must not make us wait for a writer before it can be refused.
    const int fd = ::open(at(absolute).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return {};
    std::string text;
    struct stat info {};
    if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        char buffer[1 << 14];
        for (;;) {  // the size that sysfs and procfs give is no help: read to the end
            const ssize_t n = ::read(fd, buffer, sizeof buffer);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 || text.size() > max_bytes) text.clear();
            if (n <= 0 || text.size() > max_bytes) break;
            text.append(buffer, static_cast<std::size_t>(n));
        }
        if (text.size() > max_bytes) text.clear();
    }
    ::close(fd);
    return text;
}

std::string Root::text(std::string_view absolute, std::size_t max_bytes) const {
    std::string text = bytes(absolute, max_bytes);
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\0'))
        text.pop_back();
    return printable(std::move(text));
}

std::optional<std::uint64_t> Root::number(std::string_view absolute) const {
    return parse_number(text(absolute, 4096));
}

std::vector<std::string> Root::names(std::string_view folder) const {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(at(folder), error), end; !error && entry != end;
         entry.increment(error))
        names.push_back(entry->path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

std::string printable(std::string text) {
    for (char& c : text)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F) c = '?';
    return text;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
    text = trim(text);
    int base = 10;
    if (text.starts_with("0x")) {
        text.remove_prefix(2);
        base = 16;
    }
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return {};
    return value;
}

std::string_view trim(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::vector<std::string_view> lines(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        lines.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

std::vector<std::string_view> words(std::string_view text) {
    std::vector<std::string_view> words;
    for (;;) {
        const std::size_t first = text.find_first_not_of(" \t");
        if (first == std::string_view::npos) return words;
        text.remove_prefix(first);
        const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
        words.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
}

std::string value_of(std::string_view text, std::string_view key) {
    for (std::string_view line : lines(text)) {
        if (!line.starts_with(key) || line.substr(key.size(), 1) != "=") continue;
        std::string_view value = trim(line.substr(key.size() + 1));
        if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
            value = value.substr(1, value.size() - 2);
        return std::string(value);
    }
    return {};
}

std::string bracketed(std::string_view text) {
    const std::size_t open = text.find('[');
    const std::size_t close = text.find(']', open == std::string_view::npos ? 0 : open);
    if (open == std::string_view::npos || close == std::string_view::npos)
        return std::string(trim(text));
    return std::string(text.substr(open + 1, close - open - 1));
}

}  // namespace unicorn::machine
