#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "machine/parts.h"

namespace unicorn::machine {
namespace {

namespace fs = std::filesystem;

struct Mount {
    std::string point, file_system, source;
};

/// "\040" -> " ", as mountinfo writes white space.
std::string unescape(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto digit = [&](std::size_t k) { return text[k] >= '0' && text[k] <= '7'; };
        if (text[i] == '\\' && i + 3 < text.size() && digit(i + 1) && digit(i + 2) &&
            digit(i + 3)) {
            result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                        (text[i + 3] - '0'));
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

bool lies_below(const std::string& path, const std::string& point) {
    if (point == "/") return path.starts_with('/');
    return path.starts_with(point) && (path.size() == point.size() || path[point.size()] == '/');
}

/// The mount that holds `path`: the longest mount point above it, the last of equal ones.
Mount mount_of(const Root& root, const std::string& path) {
    Mount best;
    const std::string text = root.text("/proc/self/mountinfo");
    for (std::string_view line : lines(text)) {
        // id, parent, device, root, point, options, any number of tags, "-", type, source, ...
        const auto parts = words(line);
        std::size_t dash = 6;
        while (dash < parts.size() && parts[dash] != "-") ++dash;
        if (dash + 2 >= parts.size()) continue;
        std::string point = unescape(parts[4]);
        if (!lies_below(path, point) || point.size() < best.point.size()) continue;
        best = {.point = std::move(point),
                .file_system = std::string(parts[dash + 1]),
                .source = unescape(parts[dash + 2])};
    }
    return best;
}

/// Where a partition's or a disk's entry lies, with its links followed; "" when there is none.
std::string block_entry(const Root& root, const std::string& name) {
    std::error_code error;
    const fs::path entry = fs::canonical(root.at("/sys/class/block/" + name), error);
    return error ? std::string() : entry.string();
}

/// The name that the kernel has for "/dev/mapper/vg-root" or "/dev/nvme0n1p2".
std::string block_name(const Root& root, const std::string& source) {
    if (!source.starts_with("/dev/")) return {};
    std::error_code error;
    const fs::path device = fs::canonical(root.at(source), error);
    return (error ? fs::path(source) : device).filename().string();
}

/// Whether reads past the page cache work there: for a file by opening it so, for a folder with a
/// file that has no name.
std::optional<bool> direct_io(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return {};
    const int fd = S_ISDIR(info.st_mode)
                       ? ::open(path.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600)
                       : ::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        ::close(fd);
        return true;
    }
    if (errno == EINVAL) return false;
    return {};
}

}  // namespace

Disk detect_disk(const Root& root, const std::string& path) {
    Disk disk;
    std::error_code error;
    const fs::path absolute = fs::weakly_canonical(path, error);
    disk.path = error ? path : absolute.string();
    const Mount mount = mount_of(root, disk.path);
    disk.file_system = mount.file_system;
    disk.device = block_name(root, mount.source);
    if (const std::string entry = block_entry(root, disk.device);
        !disk.device.empty() && !entry.empty()) {
        const Root absolute_root("");
        // A partition has no queue of its own; the disk that it lies in has.
        auto rotational = absolute_root.number(entry + "/queue/rotational");
        if (!rotational) rotational = absolute_root.number(entry + "/../queue/rotational");
        if (rotational) disk.rotational = *rotational != 0;
        const auto sectors = absolute_root.number(entry + "/size");
        if (sectors && *sectors < (kUnlimited >> 9)) disk.total_bytes = *sectors << 9;
    }
    if (!root.is_this_machine()) return disk;
    struct statvfs space {};
    if (::statvfs(disk.path.c_str(), &space) == 0) {
        disk.total_bytes = std::uint64_t{space.f_blocks} * space.f_frsize;
        disk.available_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
    }
    disk.direct_io = direct_io(disk.path);
    return disk;
}

}  // namespace unicorn::machine
