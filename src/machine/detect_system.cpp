#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "machine/parts.h"

namespace unicorn::machine {
namespace {

/// Debian's and Ubuntu's list of packages: some megabytes.
constexpr std::size_t kMaxPackageList = std::size_t{64} << 20;

std::optional<Version> installed_mesa(const Root& root) {
    const std::string list = root.text("/var/lib/dpkg/status", kMaxPackageList);
    std::size_t begin = 0;
    while (begin < list.size()) {
        const std::size_t end = std::min(list.find("\n\n", begin), list.size());
        const std::string_view package = std::string_view(list).substr(begin, end - begin);
        begin = end + 2;
        if (!package.starts_with("Package: mesa-vulkan-drivers\n") ||
            package.find(" installed\n") == std::string_view::npos)
            continue;
        for (std::string_view line : lines(package))
            if (line.starts_with("Version: ")) return parse_version(line.substr(9));
    }
    return {};
}

std::optional<bool> on_battery(const Root& root) {
    const std::string folder = "/sys/class/power_supply";
    std::optional<bool> battery;
    for (const std::string& name : root.names(folder)) {
        if (root.text(folder + "/" + name + "/type") != "Mains") continue;
        const auto online = root.number(folder + "/" + name + "/online");
        if (online && *online != 0) return false;
        if (online) battery = true;
    }
    return battery;
}

/// The number at the end of "Max locked memory   8388608   8388608   bytes": the soft limit.
std::optional<std::uint64_t> memlock(const Root& root) {
    constexpr std::string_view kKey = "Max locked memory";
    const std::string text = root.text("/proc/self/limits");
    for (std::string_view line : lines(text)) {
        if (!line.starts_with(kKey)) continue;
        const auto parts = words(line.substr(kKey.size()));
        if (parts.empty()) return {};
        return parts[0] == "unlimited" ? kUnlimited : parse_number(parts[0]);
    }
    return {};
}

std::string after(std::string_view text, std::string_view key) {
    for (std::string_view line : lines(text))
        if (line.starts_with(key)) return std::string(trim(line.substr(key.size())));
    return {};
}

}  // namespace

System detect_system(const Root& root) {
    System system;
    system.kernel = parse_version(root.text("/proc/sys/kernel/osrelease"));
    const std::string release = root.text("/etc/os-release");
    system.os_id = value_of(release, "ID");
    system.os_version = value_of(release, "VERSION_ID");
    system.os_name = value_of(release, "PRETTY_NAME");
    const std::string vendor = root.text("/sys/class/dmi/id/sys_vendor");
    const std::string product = root.text("/sys/class/dmi/id/product_name");
    system.product =
        fmt::format("{}{}{}", vendor, vendor.empty() || product.empty() ? "" : " ", product);
    system.command_line = root.text("/proc/cmdline");
    system.power_profile = root.text("/sys/firmware/acpi/platform_profile");
    system.on_battery = on_battery(root);
    system.iommu = !root.names("/sys/class/iommu").empty();
    system.mesa_package = installed_mesa(root);
    return system;
}

User detect_user(const Root& root) {
    User user;
    std::map<std::string, std::string, std::less<>> names;  // by id
    for (const std::string text = root.text("/etc/group"); std::string_view line : lines(text)) {
        const std::size_t first = line.find(':');
        if (first == std::string_view::npos) continue;
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string_view::npos) continue;
        const std::size_t third = std::min(line.find(':', second + 1), line.size());
        const std::string name(line.substr(0, first));
        names.emplace(line.substr(second + 1, third - second - 1), name);
        if (name == "render" || name == "video") user.device_groups.push_back(name);
    }
    std::sort(user.device_groups.begin(), user.device_groups.end());
    const std::string status = root.text("/proc/self/status");
    const std::string uid = after(status, "Uid:");
    const auto uids = words(uid);  // real, effective, ...
    user.root = uids.size() > 1 && uids[1] == "0";
    std::set<std::string> groups;
    for (const std::string& line : {after(status, "Gid:"), after(status, "Groups:")})
        for (std::string_view id : words(line))
            if (const auto found = names.find(id); found != names.end())
                groups.insert(found->second);
    user.groups.assign(groups.begin(), groups.end());
    user.memlock_bytes = memlock(root);
    return user;
}

VulkanFacts installed_vulkan(const Root& root) {
    VulkanFacts facts;
    for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64",
                               "/usr/lib", "/usr/local/lib"})
        facts.loader_installed =
            facts.loader_installed || root.exists(fmt::format("{}/libvulkan.so.1", folder));
    for (const char* folder : {"/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"})
        for (const std::string& name : root.names(folder))
            if (name.ends_with(".json")) facts.drivers.push_back(name);
    return facts;
}

}  // namespace unicorn::machine
