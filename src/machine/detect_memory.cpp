#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "machine/parts.h"

namespace unicorn::machine {
namespace {

namespace fs = std::filesystem;

/// "MemTotal:  32768 kB" as bytes.
std::optional<std::uint64_t> kib_line(std::string_view text, std::string_view key) {
    for (std::string_view line : lines(text)) {
        const auto parts = words(line);
        if (parts.size() < 2 || parts[0] != key) continue;
        const auto kib = parse_number(parts[1]);
        if (!kib || *kib > (kUnlimited >> 10)) return {};
        return *kib << 10;
    }
    return {};
}

/// The value after `key` in a cgroup's memory.stat.
std::uint64_t stat_value(std::string_view text, std::string_view key) {
    for (std::string_view line : lines(text)) {
        const auto parts = words(line);
        if (parts.size() == 2 && parts[0] == key) return parse_number(parts[1]).value_or(0);
    }
    return 0;
}

void tighten(std::optional<std::uint64_t>& least, std::uint64_t value) {
    if (!least || value < *least) least = value;
}

/// A group's own limit and what it leaves, into `memory`. cgroup v1 writes a number near 2^63 for
/// no limit, v2 writes "max".
void look_at_group(const Root& root, const std::string& group, bool v2, std::uint64_t total,
                   Memory& memory) {
    std::optional<std::uint64_t> limit;
    const auto look_at_limit = [&](const char* name) {
        if (const auto value = root.number(group + name)) tighten(limit, *value);
    };
    if (v2) {
        look_at_limit("/memory.max");
        look_at_limit("/memory.high");
    } else {
        look_at_limit("/memory.limit_in_bytes");
    }
    if (!limit || *limit >= total) return;
    tighten(memory.cgroup_limit_bytes, *limit);
    const auto used = root.number(group + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    // The page cache counts as used, but gives way.
    const std::string stat = root.text(group + "/memory.stat");
    const std::uint64_t cache = stat_value(stat, v2 ? "inactive_file" : "total_inactive_file") +
                                stat_value(stat, v2 ? "active_file" : "total_active_file");
    const std::uint64_t held = used.value_or(0) > cache ? *used - cache : 0;
    tighten(memory.cgroup_available_bytes, *limit > held ? *limit - held : 0);
}

bool holds(std::string_view list, std::string_view name) {
    const std::string padded = fmt::format(",{},", list);
    return padded.find(fmt::format(",{},", name)) != std::string::npos;
}

/// Every group that holds this process, its own and those above; as base/cpu_quota.cpp does.
void look_at_groups(const Root& root, Memory& memory) {
    const std::string text = root.text("/proc/self/cgroup");
    for (std::string_view line : lines(text)) {
        const std::size_t first = line.find(':');
        if (first == std::string_view::npos) continue;
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string_view::npos) continue;
        const std::string controllers(line.substr(first + 1, second - first - 1));
        const bool v2 = controllers.empty();
        if (!v2 && !holds(controllers, "memory")) continue;
        const std::string mount = "/sys/fs/cgroup" + (v2 ? "" : "/" + controllers);
        fs::path path = line.substr(second + 1);
        for (path = path.relative_path().lexically_normal(); !path.empty() && path != ".";
             path = path.parent_path())
            look_at_group(root, mount + "/" + path.string(), v2, memory.total_bytes, memory);
        look_at_group(root, mount, v2, memory.total_bytes, memory);
    }
}

std::vector<MemoryModule> detect_modules(const Root& root) {
    auto modules = parse_udev_memory(root.text("/run/udev/data/+dmi:id"));
    if (!modules.empty()) return modules;
    const std::string table = root.bytes("/sys/firmware/dmi/tables/DMI");
    return parse_smbios_memory(std::as_bytes(std::span(table)));
}

}  // namespace

std::uint64_t Memory::usable_bytes() const {
    return std::min(available_bytes, cgroup_available_bytes.value_or(kUnlimited));
}

Result<Memory> detect_memory(const Root& root) {
    Memory memory;
    const std::string text = root.text("/proc/meminfo");
    const auto total = kib_line(text, "MemTotal:");
    if (!total || *total == 0)
        return fail(ErrorCode::invalid_file, "{}: does not tell MemTotal",
                    root.at("/proc/meminfo").string());
    memory.total_bytes = *total;
    const auto available = kib_line(text, "MemAvailable:");  // Linux 3.14 and later
    memory.available_bytes =
        std::min(available ? *available : kib_line(text, "MemFree:").value_or(0), *total);
    memory.swap_bytes = kib_line(text, "SwapTotal:").value_or(0);
    look_at_groups(root, memory);
    memory.modules = detect_modules(root);
    memory.transparent_huge_pages =
        bracketed(root.text("/sys/kernel/mm/transparent_hugepage/enabled"));
    memory.swappiness = root.number("/proc/sys/vm/swappiness");
    memory.vfs_cache_pressure = root.number("/proc/sys/vm/vfs_cache_pressure");
    memory.ttm_pages_limit = root.number("/sys/module/ttm/parameters/pages_limit");
    memory.ttm_page_pool_size = root.number("/sys/module/ttm/parameters/page_pool_size");
    return memory;
}

}  // namespace unicorn::machine
