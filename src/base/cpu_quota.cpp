#include "base/cpu_quota.h"

#include <charconv>
#include <filesystem>
#include <fstream>

namespace unicorn {
namespace {

/// A positive number, or nothing.
std::optional<double> positive(const std::string& text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value > 0)) return {};
    return value;
}

std::optional<double> quotient(const std::string& quota, const std::string& period) {
    const auto q = positive(quota);  // "max" and -1 are no number above 0
    const auto p = positive(period);
    if (!q || !p) return {};
    return *q / *p;
}

std::string first_word(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

std::optional<double> quota_of(const std::filesystem::path& group) {
    std::ifstream file(group / "cpu.max");
    std::string quota, period;
    if (file >> quota >> period) return quotient(quota, period);
    return quotient(first_word(group / "cpu.cfs_quota_us"),
                    first_word(group / "cpu.cfs_period_us"));
}

/// Whether the comma-separated `list` holds `name`.
bool holds(const std::string& list, const std::string& name) {
    return ("," + list + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

std::optional<double> cpu_quota(const std::string& root) {
    // Lines are "id:controllers:path"; v2 has id 0 and no controllers. In a container the path may
    // be the host's, which is not there: then the mount itself is the group.
    std::optional<double> tightest;
    const auto look = [&](const std::filesystem::path& group) {
        const auto quota = quota_of(group);
        if (quota && (!tightest || *quota < *tightest)) tightest = quota;
    };
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (!controllers.empty() && !holds(controllers, "cpu")) continue;
        // Version 1 has the controllers in either order, and a link with the name of each.
        const std::filesystem::path mount =
            root + "/sys/fs/cgroup" + (controllers.empty() ? "" : "/cpu");
        std::filesystem::path path = line.substr(second + 1);
        path = path.relative_path().lexically_normal();
        if (path.begin() != path.end() && *path.begin() == "..") path.clear();  // not our tree's
        for (; !path.empty() && path != "."; path = path.parent_path()) look(mount / path);
        look(mount);
    }
    return tightest;
}

}  // namespace unicorn
