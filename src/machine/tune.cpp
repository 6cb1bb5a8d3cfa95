#include "machine/tune.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/file.h"
#include "base/program_files.h"
#include "machine/root.h"

namespace unicorn::machine {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kCpufreq = "/sys/devices/system/cpu/cpufreq";
constexpr const char* kHugePages = "/sys/kernel/mm/transparent_hugepage/enabled";
// A model's pages are to stay, and so is what is known of its files: swapping is for emergencies.
constexpr const char* kSwappiness = "10";
constexpr const char* kCachePressure = "50";

bool has_word(std::string_view text, std::string_view word) {
    const auto all = words(text);
    return std::find(all.begin(), all.end(), word) != all.end();
}

class Tuner {
public:
    static Result<Tuner> open(const TuneOptions& options) {
        std::string path = options.sysfs_root;
        std::error_code error;
        if (!path.empty() && !std::filesystem::is_directory(path, error))
            return fail(ErrorCode::not_found, "{}: there is no such folder", path);
        while (path.ends_with('/')) path.pop_back();
        return Tuner(std::move(path), options.npu_driver);
    }

    std::vector<Setting> settings() {
        std::vector<Setting> list;
        const auto add = [&](std::string name, std::string path, std::string wanted) {
            if (!root_.exists(path)) return;
            Setting setting{
                .name = std::move(name), .path = std::move(path), .wanted = std::move(wanted)};
            setting.current = read(setting);
            if (setting.current.empty()) setting.problem = "cannot be read";
            list.push_back(std::move(setting));
        };
        // The preference first: under the governor "performance" the driver refuses to set it.
        for (const std::string& policy : policies())
            if (has_word(root_.text(file(policy, "energy_performance_available_preferences")),
                         "performance"))
                add("energy preference of " + policy, file(policy, "energy_performance_preference"),
                    "performance");
        for (const std::string& policy : policies())
            if (has_word(root_.text(file(policy, "scaling_available_governors")), "performance"))
                add("governor of " + policy, file(policy, "scaling_governor"), "performance");
        const std::string devices = "/sys/bus/pci/devices";
        for (const std::string& address : root_.names(devices)) {
            const std::string device = devices + "/" + address;
            const std::string driver = value_of(root_.text(device + "/uevent"), "DRIVER");
            if (driver == "amdgpu")
                add("performance level of GPU " + address,
                    device + "/power_dpm_force_performance_level", "high");
            if (driver == "amdxdna") add_npu(device, list);
        }
        add("vm.swappiness", "/proc/sys/vm/swappiness", kSwappiness);
        add("vm.vfs_cache_pressure", "/proc/sys/vm/vfs_cache_pressure", kCachePressure);
        // Weights ask for huge pages themselves, so anything but "never" serves.
        if (bracketed(root_.text(kHugePages)) == "always")
            add("transparent huge pages", kHugePages, "always");
        else
            add("transparent huge pages", kHugePages, "madvise");
        return list;
    }

    /// "" when there is nothing to read.
    std::string read(const Setting& setting) {
        if (!setting.npu) {
            std::string text = root_.text(setting.path, 4096);
            return setting.path == kHugePages ? bracketed(text) : text;
        }
        NpuDriver* const driver = npu_driver();
        if (driver == nullptr) return {};
        const auto mode = driver->power_mode(root_.at(setting.path).string());
        return mode ? std::string(name(*mode)) : std::string();
    }

    /// Sets it and reads it back.
    Change set(const Setting& setting, const std::string& value) {
        Change change{.name = setting.name, .before = read(setting), .after = {}, .problem = {}};
        change.problem = setting.npu ? set_npu(setting, value) : write(setting.path, value);
        change.after = read(setting);
        if (change.problem.empty() && change.after != value)
            change.problem = fmt::format("was set to {}, but reads {}", value,
                                         change.after.empty() ? "nothing" : change.after);
        return change;
    }

    std::string boot() const { return root_.text("/proc/sys/kernel/random/boot_id", 4096); }

private:
    Tuner(std::string path, NpuDriver* npu) : root_(std::move(path)), given_driver_(npu) {}

    std::vector<std::string> policies() const {
        std::vector<std::string> names = root_.names(kCpufreq);
        std::erase_if(names, [](const std::string& name) { return !name.starts_with("policy"); });
        return names;
    }
    static std::string file(const std::string& policy, const char* name) {
        return fmt::format("{}/{}/{}", kCpufreq, policy, name);
    }

    NpuDriver* npu_driver() {
        if (given_driver_ != nullptr) return given_driver_;
        return root_.is_this_machine() ? &amdxdna_ : nullptr;
    }

    void add_npu(const std::string& device, std::vector<Setting>& list) {
        for (const std::string& node : root_.names(device + "/accel")) {
            if (!node.starts_with("accel")) continue;
            Setting setting{.name = "power mode of NPU " + node,
                            .path = "/dev/accel/" + node,
                            .npu = true,
                            .wanted = std::string(name(NpuPowerMode::high))};
            setting.current = read(setting);
            if (npu_driver() == nullptr)
                setting.problem = "cannot be asked below another root";
            else if (setting.current.empty())
                setting.problem = "its driver does not tell";
            list.push_back(std::move(setting));
        }
    }

    std::string write(const std::string& path, const std::string& value) const {
        const int fd = ::open(root_.at(path).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
        if (fd < 0) return fmt::format("cannot be opened: {}", std::strerror(errno));
        const ssize_t n = ::write(fd, value.data(), value.size());
        const int code = errno;
        const bool closed = ::close(fd) == 0;
        if (n < 0) return fmt::format("cannot be set to {}: {}", value, std::strerror(code));
        if (static_cast<std::size_t>(n) != value.size() || !closed)
            return fmt::format("cannot be set to {}", value);
        return {};
    }

    std::string set_npu(const Setting& setting, const std::string& value) {
        NpuDriver* const driver = npu_driver();
        const auto mode = power_mode_from_name(value);
        if (driver == nullptr) return "cannot be set below another root";
        if (!mode) return fmt::format("there is no power mode {}", value);
        const auto status = driver->set_power_mode(root_.at(setting.path).string(), *mode);
        return status ? std::string() : status.error().message;
    }

    Root root_;
    NpuDriver* given_driver_;
    AmdxdnaDriver amdxdna_;
};

/// A setting with the value that it had.
struct Recorded {
    Setting setting;
    std::string value;
};

struct Record {
    std::string boot;
    std::vector<Recorded> values;

    bool holds(const Setting& setting) const {
        return std::any_of(values.begin(), values.end(), [&](const Recorded& recorded) {
            return recorded.setting.path == setting.path;
        });
    }
};

/// What the record is allowed to make a root process write to.
bool is_ours(const std::string& path) {
    if (path.find("/../") != std::string::npos) return false;
    return path.starts_with("/sys/devices/system/cpu/cpufreq/") ||
           path.starts_with("/sys/bus/pci/devices/") || path.starts_with("/dev/accel/") ||
           path == "/proc/sys/vm/swappiness" || path == "/proc/sys/vm/vfs_cache_pressure" ||
           path == kHugePages;
}

/// Errors: not_found, io, invalid_file.
Result<Record> load(const std::string& path) {
    auto text = read_file(path, 1 << 20);
    if (!text) return forward(text);
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    const auto damaged = [&] {
        return fail(ErrorCode::invalid_file,
                    "{}: is damaged; remove it, and restart to have the system's own settings",
                    path);
    };
    const auto is_text = [](const nlohmann::json& object, const char* key) {
        return object.contains(key) && object[key].is_string();
    };
    if (!json.is_object() || !is_text(json, "boot") || !json.contains("settings") ||
        !json["settings"].is_array())
        return damaged();
    Record record{.boot = json["boot"].get<std::string>(), .values = {}};
    for (const auto& entry : json["settings"]) {
        if (!entry.is_object() || !is_text(entry, "name") || !is_text(entry, "path") ||
            !is_text(entry, "value"))
            return damaged();
        Recorded recorded;
        recorded.setting.name = entry["name"].get<std::string>();
        recorded.setting.path = entry["path"].get<std::string>();
        recorded.setting.npu = recorded.setting.path.starts_with("/dev/accel/");
        recorded.value = entry["value"].get<std::string>();
        if (!is_ours(recorded.setting.path)) return damaged();
        record.values.push_back(std::move(recorded));
    }
    return record;
}

Status store(const std::string& path, const Record& record) {
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::filesystem::create_directories(folder, error);
    if (error)
        return fail(ErrorCode::io, "{}: cannot create: {}", folder.string(), error.message());
    Json json{{"boot", record.boot}, {"settings", Json::array()}};
    for (const Recorded& recorded : record.values)
        json["settings"].push_back({{"name", recorded.setting.name},
                                    {"path", recorded.setting.path},
                                    {"value", recorded.value}});
    auto file = FileWriter::create(path);
    if (!file) return forward(file);
    const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    if (auto status = file->write(text); !status) return forward(status);
    return file->commit();
}

}  // namespace

std::string tune_command(const std::string& options) {
    // Root may have another PATH, and a build folder is on nobody's.
    const std::string self = program_file().string();
    return fmt::format("sudo '{}' tune {}", self.empty() ? "unicorn" : self, options);
}

std::string tune_state_path(const TuneOptions& options) {
    return options.sysfs_root + "/var/lib/unicorn/tune.json";
}

Result<std::vector<Setting>> tunable_settings(const TuneOptions& options) {
    auto tuner = Tuner::open(options);
    if (!tuner) return forward(tuner);
    return tuner->settings();
}

Result<std::vector<Change>> apply_settings(const TuneOptions& options) {
    auto tuner = Tuner::open(options);
    if (!tuner) return forward(tuner);
    const std::string path = tune_state_path(options);
    Record record{.boot = tuner->boot(), .values = {}};
    // A record of an earlier boot is void: a restart has brought the system's own values back. One
    // that cannot be read may hold the only trace of what was, and is not written over.
    if (auto earlier = load(path)) {
        if (earlier->boot == record.boot) record = std::move(*earlier);
    } else if (earlier.error().code != ErrorCode::not_found) {
        return forward(earlier);
    }

    std::vector<Setting> to_set;
    std::vector<Change> changes;
    for (const Setting& setting : tuner->settings()) {
        if (!setting.problem.empty())
            changes.push_back({setting.name, setting.current, setting.current, setting.problem});
        else if (!setting.is_as_wanted())
            to_set.push_back(setting);
    }
    if (to_set.empty()) return changes;
    for (const Setting& setting : to_set)
        if (!record.holds(setting)) record.values.push_back({setting, setting.current});
    if (auto status = store(path, record); !status) return forward(status);
    for (const Setting& setting : to_set) changes.push_back(tuner->set(setting, setting.wanted));
    return changes;
}

Result<std::vector<Change>> restore_settings(const TuneOptions& options) {
    auto tuner = Tuner::open(options);
    if (!tuner) return forward(tuner);
    const std::string path = tune_state_path(options);
    auto record = load(path);
    if (!record) {
        if (record.error().code == ErrorCode::not_found)
            return fail(ErrorCode::not_found,
                        "nothing to restore: tune --apply has recorded no settings in {}", path);
        return forward(record);
    }
    if (record->boot != tuner->boot()) {
        if (::unlink(path.c_str()) != 0)
            return fail(ErrorCode::io, "{}: cannot remove: {}", path, std::strerror(errno));
        return fail(
            ErrorCode::not_found,
            "nothing to restore: the machine was restarted since tune --apply, which brought "
            "its own settings back");
    }
    std::vector<Change> changes;
    Record left{.boot = record->boot, .values = {}};
    for (auto recorded = record->values.rbegin(); recorded != record->values.rend(); ++recorded) {
        const std::string now = tuner->read(recorded->setting);
        if (now == recorded->value) {
            changes.push_back({recorded->setting.name, now, now, ""});
            continue;
        }
        changes.push_back(tuner->set(recorded->setting, recorded->value));
        if (!changes.back().problem.empty()) left.values.insert(left.values.begin(), *recorded);
    }
    if (left.values.empty()) {
        if (::unlink(path.c_str()) != 0)
            return fail(ErrorCode::io, "{}: cannot remove: {}", path, std::strerror(errno));
    } else if (auto status = store(path, left); !status) {
        return forward(status);
    }
    return changes;
}

}  // namespace unicorn::machine
