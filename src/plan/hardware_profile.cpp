#include "plan/hardware_profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <system_error>

#include "base/byte_size.h"
#include "base/file.h"
#include "base/program_files.h"

namespace unicorn::plan {
namespace fs = std::filesystem;
namespace {

using memory::Tier;

constexpr std::size_t kMaxProfileBytes = std::size_t{1} << 20;

std::string_view name_of(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::cpu: return "cpu";
        case DeviceKind::gpu: return "gpu";
        case DeviceKind::npu: return "npu";
    }
    return "unknown";
}

/// One table of the file, its keys read one after the other; remembers the first error.
class Table {
public:
    Table(const toml::table& table, const std::string& source, std::string what)
        : table_(table), source_(source), what_(std::move(what)) {}

    void text(const char* key, std::string& out, bool required = true) {
        if (const toml::node* node = find(key, required)) {
            if (const auto* value = node->as_string()) {
                out = value->get();
            } else {
                wrong(*node, key, "a text");
            }
        }
    }
    void flag(const char* key, bool& out) {
        if (const toml::node* node = find(key, false)) {
            if (const auto* value = node->as_boolean()) {
                out = value->get();
            } else {
                wrong(*node, key, "true or false");
            }
        }
    }
    void number(const char* key, double& out) {
        if (const toml::node* node = find(key, false)) {
            if (const auto value = node->value<double>(); value && node->is_number()) {
                out = *value;
            } else {
                wrong(*node, key, "a number");
            }
        }
    }
    void count(const char* key, std::uint64_t& out) {
        const toml::node* node = find(key, false);
        if (node == nullptr) return;
        const auto* value = node->as_integer();
        if (value == nullptr || value->get() < 0) return wrong(*node, key, "a whole number");
        out = static_cast<std::uint64_t>(value->get());
    }
    void size(const char* key, std::uint64_t& out, bool required = true) {
        const toml::node* node = find(key, required);
        if (node == nullptr) return;
        if (const auto* value = node->as_integer(); value != nullptr && value->get() >= 0) {
            out = static_cast<std::uint64_t>(value->get());
            return;
        }
        if (const auto* value = node->as_string()) {
            if (const auto bytes = parse_byte_size(value->get())) {
                out = *bytes;
                return;
            }
        }
        wrong(*node, key, "a size such as \"96 GiB\"");
    }
    /// A text, or each text of an array, that must be one of `values`, by name.
    template <typename T, typename Name>
    void one_of(const char* key, T& out, std::initializer_list<T> values, Name name) {
        if (const toml::node* node = find(key, true)) match(*node, key, out, values, name);
    }
    template <typename T, typename Name>
    void some_of(const char* key, std::vector<T>& out, std::initializer_list<T> values, Name name) {
        const toml::node* node = find(key, true);
        if (node == nullptr) return;
        const toml::array* array = node->as_array();
        if (array == nullptr) return wrong(*node, key, "an array");
        for (const toml::node& element : *array) {
            T value{};
            match(element, key, value, values, name);
            out.push_back(value);
        }
    }
    /// The tables of [[key]].
    std::vector<const toml::table*> tables(const char* key) {
        std::vector<const toml::table*> found;
        const toml::node* node = find(key, true);
        const toml::array* array = node == nullptr ? nullptr : node->as_array();
        if (node != nullptr && (array == nullptr || array->empty()))
            wrong(*node, key, "tables ([[...]])");
        if (array == nullptr) return found;
        for (const toml::node& element : *array) {
            if (element.is_table()) {
                found.push_back(element.as_table());
            } else {
                wrong(element, key, "tables ([[...]])");
            }
        }
        return found;
    }

    /// Once every key has been asked for: the first error, or a key that nobody asked for.
    Status finish() {
        for (const auto& [key, node] : table_) {
            if (known_.count(std::string(key.str())) == 0)
                error(node, fmt::format("{} is not a key of {}", key.str(), what_));
        }
        if (error_) return tl::unexpected(*error_);
        return {};
    }

private:
    const toml::node* find(const char* key, bool required) {
        known_.insert(key);
        const toml::node* node = table_.get(key);
        if (node == nullptr && required) error(table_, fmt::format("{} has no {}", what_, key));
        return node;
    }
    template <typename T, typename Name>
    void match(const toml::node& node, const char* key, T& out, std::initializer_list<T> values,
               Name name) {
        const auto* text = node.as_string();
        std::vector<std::string_view> names;
        for (const T value : values) {
            names.push_back(name(value));
            if (text == nullptr || text->get() != names.back()) continue;
            out = value;
            return;
        }
        wrong(node, key, fmt::format("one of {}", fmt::join(names, ", ")));
    }
    void wrong(const toml::node& node, const char* key, std::string_view expected) {
        error(node, fmt::format("{} of {} is not {}", key, what_, expected));
    }
    void error(const toml::node& node, const std::string& reason) {
        if (error_) return;
        error_ = Error{ErrorCode::invalid_file,
                       fmt::format("{}: line {}: {}", source_, node.source().begin.line, reason)};
    }

    const toml::table& table_;
    const std::string& source_;
    std::string what_;
    std::set<std::string> known_;
    std::optional<Error> error_;
};

Result<HardwareProfile> read_profile(const toml::table& root, const std::string& source) {
    HardwareProfile profile;
    Table top(root, source, "the profile");
    top.text("name", profile.name);
    const auto pools = top.tables("pools");
    const auto tiers = top.tables("tiers");
    const auto devices = top.tables("devices");
    if (auto status = top.finish(); !status) return forward(status);
    const auto tier_name = [](Tier tier) { return memory::name(tier); };
    for (const toml::table* entry : pools) {
        Pool pool;
        Table table(*entry, source, "a pool");
        table.text("name", pool.name);
        table.size("capacity", pool.capacity_bytes);
        pool.available_bytes = pool.capacity_bytes;
        table.size("available", pool.available_bytes, false);
        if (auto status = table.finish(); !status) return forward(status);
        profile.pools.push_back(std::move(pool));
    }
    for (const toml::table* entry : tiers) {
        TierProfile tier;
        Table table(*entry, source, "a tier");
        table.one_of("tier", tier.tier, {Tier::vram, Tier::gtt, Tier::npu, Tier::host, Tier::disk},
                     tier_name);
        table.text("pool", tier.pool, false);
        table.size("capacity", tier.capacity_bytes);
        table.number("read_gb_s", tier.read_gb_s);
        table.flag("measured", tier.measured);
        if (auto status = table.finish(); !status) return forward(status);
        profile.tiers.push_back(std::move(tier));
    }
    for (const toml::table* entry : devices) {
        DeviceProfile device;
        Table table(*entry, source, "a device");
        table.one_of("kind", device.kind, {DeviceKind::cpu, DeviceKind::gpu, DeviceKind::npu},
                     name_of);
        table.text("name", device.name);
        table.flag("integrated", device.integrated);
        table.flag("software", device.software);
        table.count("threads", device.threads);
        table.number("int8_tops", device.int8_tops);
        table.some_of("tiers", device.tiers,
                      {Tier::vram, Tier::gtt, Tier::npu, Tier::host, Tier::disk}, tier_name);
        if (auto status = table.finish(); !status) return forward(status);
        profile.devices.push_back(std::move(device));
    }
    if (auto status = validate(profile); !status)
        return fail(ErrorCode::invalid_file, "{}: {}", source, status.error().message);
    return profile;
}

/// Bytes as parse_byte_size() reads them back exactly.
std::string size_text(std::uint64_t bytes) {
    constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
    std::string text = fmt::format("{}", bytes);
    for (const char* unit : kUnits) {
        if (bytes == 0 || bytes % 1024 != 0) break;
        bytes /= 1024;
        text = fmt::format("\"{} {}\"", bytes, unit);
    }
    return text;
}

/// A TOML basic string.
std::string toml_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
        } else {
            out += c;
        }
    }
    return out + "\"";
}

fs::path shipped_profiles() { return shared_folder() / "profiles"; }

std::string names_in(const fs::path& folder) {
    std::error_code error;
    std::set<std::string> names;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        if (it->path().extension() == ".toml") names.insert(it->path().stem());
    return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

const Pool* HardwareProfile::pool(std::string_view pool_name) const {
    const auto found = std::ranges::find(pools, pool_name, &Pool::name);
    return found == pools.end() ? nullptr : &*found;
}

const TierProfile* HardwareProfile::tier(Tier which) const {
    const auto found = std::ranges::find(tiers, which, &TierProfile::tier);
    return found == tiers.end() ? nullptr : &*found;
}

Status validate(const HardwareProfile& profile) {
    const auto wrong = [](std::string reason) {
        return fail(ErrorCode::invalid_argument, "{}", reason);
    };
    const auto is_rate = [](double value) { return value >= 0 && std::isfinite(value); };
    if (profile.name.empty()) return wrong("the profile has no name");
    for (const Pool& pool : profile.pools) {
        if (pool.name.empty()) return wrong("a pool has no name");
        if (profile.pool(pool.name) != &pool)
            return wrong(fmt::format("two pools are called {}", pool.name));
        if (pool.available_bytes > pool.capacity_bytes) {
            return wrong(fmt::format("pool {}: {} bytes available are more than its {}", pool.name,
                                     pool.available_bytes, pool.capacity_bytes));
        }
    }
    for (const TierProfile& tier : profile.tiers) {
        const std::string_view name = memory::name(tier.tier);
        if (profile.tier(tier.tier) != &tier) return wrong(fmt::format("tier {} twice", name));
        if (tier.tier == Tier::disk ? !tier.pool.empty() : profile.pool(tier.pool) == nullptr) {
            return wrong(tier.tier == Tier::disk
                             ? fmt::format("tier disk draws on no pool, not on {}", tier.pool)
                             : fmt::format("tier {}: there is no pool '{}'", name, tier.pool));
        }
        if (!is_rate(tier.read_gb_s))
            return wrong(fmt::format("tier {}: read_gb_s is {}", name, tier.read_gb_s));
    }
    if (profile.tier(Tier::host) == nullptr) return wrong("there is no tier host");
    for (const DeviceProfile& device : profile.devices) {
        if (device.name.empty()) return wrong("a device has no name");
        if (!is_rate(device.int8_tops))
            return wrong(fmt::format("{}: int8_tops is {}", device.name, device.int8_tops));
        for (const Tier tier : device.tiers) {
            if (profile.tier(tier) == nullptr)
                return wrong(
                    fmt::format("{}: there is no tier {}", device.name, memory::name(tier)));
        }
    }
    const auto is_cpu = [](const DeviceProfile& d) { return d.kind == DeviceKind::cpu; };
    if (std::ranges::count_if(profile.devices, is_cpu) != 1)
        return wrong("a machine has one device of kind cpu");
    return {};
}

Result<HardwareProfile> parse_profile(const std::string& text, const std::string& source) {
    try {
        return read_profile(toml::parse(text), source);
    } catch (const toml::parse_error& error) {
        return fail(ErrorCode::invalid_file, "{}: line {}: {}", source, error.source().begin.line,
                    error.description());
    }
}

std::string to_toml(const HardwareProfile& profile) {
    std::string out = fmt::format("name = {}\n", toml_string(profile.name));
    for (const Pool& pool : profile.pools) {
        out += fmt::format("\n[[pools]]\nname = {}\ncapacity = {}\navailable = {}\n",
                           toml_string(pool.name), size_text(pool.capacity_bytes),
                           size_text(pool.available_bytes));
    }
    for (const TierProfile& tier : profile.tiers) {
        out += fmt::format("\n[[tiers]]\ntier = \"{}\"\n", memory::name(tier.tier));
        if (!tier.pool.empty()) out += fmt::format("pool = {}\n", toml_string(tier.pool));
        out += fmt::format("capacity = {}\nread_gb_s = {:#}\nmeasured = {}\n",
                           size_text(tier.capacity_bytes), tier.read_gb_s, tier.measured);
    }
    for (const DeviceProfile& device : profile.devices) {
        std::vector<std::string> tiers;
        for (const Tier tier : device.tiers)
            tiers.push_back(fmt::format("\"{}\"", memory::name(tier)));
        out += fmt::format(
            "\n[[devices]]\nkind = \"{}\"\nname = {}\nintegrated = {}\nsoftware = {}\n"
            "threads = {}\nint8_tops = {:#}\ntiers = [{}]\n",
            name_of(device.kind), toml_string(device.name), device.integrated, device.software,
            device.threads, device.int8_tops, fmt::join(tiers, ", "));
    }
    return out;
}

Result<HardwareProfile> load_profile(const std::string& file_or_name) {
    std::string path = file_or_name;
    if (path.find('/') == std::string::npos && !path.ends_with(".toml")) {
        const fs::path folder = shipped_profiles();
        path = folder / (file_or_name + ".toml");
        if (std::error_code error; !fs::is_regular_file(path, error)) {
            return fail(ErrorCode::not_found, "no hardware profile is called '{}'; there are: {}",
                        file_or_name, names_in(folder));
        }
    }
    auto text = read_file(path, kMaxProfileBytes);
    if (!text) return forward(text);
    return parse_profile(*text, path);
}

HardwareProfile cpu_only_profile(std::uint64_t capacity_bytes, std::uint64_t available_bytes) {
    HardwareProfile profile;
    profile.name = "cpu-only";
    profile.pools = {{"system", std::max(capacity_bytes, available_bytes), available_bytes}};
    profile.tiers = {{Tier::host, "system", std::max(capacity_bytes, available_bytes), 0, false}};
    DeviceProfile cpu;
    cpu.name = "CPU";
    cpu.tiers = {Tier::host};
    profile.devices = {std::move(cpu)};
    return profile;
}

}  // namespace unicorn::plan
