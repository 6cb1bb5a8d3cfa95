#include "machine/memory_modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "machine/root.h"

namespace unicorn::machine {
namespace {

/// More slots than any board has: bounds the work that a wrong count can cause.
constexpr std::size_t kMaxModules = 256;

unsigned small_number(std::string_view text) {
    const auto value = parse_number(text);
    return value && *value < 1'000'000 ? static_cast<unsigned>(*value) : 0;
}

std::string upper(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return result;
}

bool is_alnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

/// "P0 CHANNEL A", "Controller0-ChannelB-DIMM1" and "P0_Node0_Channel2_Dimm1" up to the channel's
/// own name; "" when the text names no channel.
std::string channel_in(std::string_view name) {
    const std::string text = upper(name);
    const std::size_t found = text.find("CHANNEL");
    if (found == std::string::npos) return {};
    std::size_t end = found + 7;
    while (end < text.size() && !is_alnum(text[end])) ++end;
    const std::size_t token = end;
    while (end < text.size() && is_alnum(text[end])) ++end;
    return end == token ? std::string() : text.substr(0, end);
}

/// "DIMM_A2", "DIMM A1" and "DIMMB1" -> "A", "A", "B"; "" for anything else.
std::string lettered_slot(std::string_view name) {
    const std::string text = upper(name);
    const std::size_t found = text.find("DIMM");
    if (found == std::string::npos) return {};
    std::size_t i = found + 4;
    if (i < text.size() && (text[i] == ' ' || text[i] == '_' || text[i] == '-')) ++i;
    if (i + 1 >= text.size() || text[i] < 'A' || text[i] > 'P') return {};
    if (std::isdigit(static_cast<unsigned char>(text[i + 1])) == 0) return {};
    return text.substr(i, 1);
}

std::string channel_of(const MemoryModule& module) {
    if (auto name = channel_in(module.bank); !name.empty()) return name;
    if (auto name = channel_in(module.locator); !name.empty()) return name;
    return lettered_slot(module.locator);
}

// SMBIOS 3.7, section 7.18, where the offsets in a structure of type 17 are from.
struct Structure {
    std::span<const std::byte> formatted;
    std::vector<std::string> strings;

    std::uint64_t value(std::size_t offset, std::size_t bytes) const {
        if (offset + bytes > formatted.size()) return 0;  // an older version ends before it
        std::uint64_t result = 0;
        for (std::size_t i = bytes; i-- > 0;)
            result = result << 8 | std::to_integer<std::uint64_t>(formatted[offset + i]);
        return result;
    }
    std::string text(std::size_t offset) const {
        const std::uint64_t index = value(offset, 1);
        return index == 0 || index > strings.size() ? std::string() : strings[index - 1];
    }
};

std::string type_name(std::uint64_t type) {
    switch (type) {
        case 0x18: return "DDR3";
        case 0x1A: return "DDR4";
        case 0x1D: return "LPDDR3";
        case 0x1E: return "LPDDR4";
        case 0x20: return "HBM";
        case 0x21: return "HBM2";
        case 0x22: return "DDR5";
        case 0x23: return "LPDDR5";
        default: return "";
    }
}

std::uint64_t module_bytes(const Structure& module) {
    const std::uint64_t size = module.value(0x0C, 2);
    if (size == 0 || size == 0xFFFF) return 0;  // empty, or not known
    if (size == 0x7FFF) return (module.value(0x1C, 4) & 0x7FFF'FFFF) << 20;
    return (size & 0x8000) != 0 ? (size & 0x7FFF) << 10 : size << 20;
}

unsigned speed(const Structure& module, std::size_t offset, std::size_t extended_offset) {
    const std::uint64_t value = module.value(offset, 2);
    return static_cast<unsigned>(value == 0xFFFF ? module.value(extended_offset, 4) & 0x7FFF'FFFF
                                                 : value);
}

MemoryModule as_module(const Structure& structure) {
    MemoryModule module;
    module.bytes = module_bytes(structure);
    const std::uint64_t bits = structure.value(0x0A, 2);
    module.data_bits = bits == 0xFFFF ? 0 : static_cast<unsigned>(bits);
    module.mt_s = speed(structure, 0x20, 0x58);
    if (module.mt_s == 0) module.mt_s = speed(structure, 0x15, 0x54);
    module.type = type_name(structure.value(0x12, 1));
    module.locator = structure.text(0x10);
    module.bank = structure.text(0x11);
    return module;
}

}  // namespace

std::vector<MemoryModule> parse_udev_memory(std::string_view text) {
    std::map<std::string, std::string, std::less<>> values;
    for (std::string_view line : lines(text)) {
        if (!line.starts_with("E:MEMORY_")) continue;
        const std::size_t sign = line.find('=');
        if (sign != std::string_view::npos)
            values.emplace(line.substr(2, sign - 2), line.substr(sign + 1));
    }
    const auto count = parse_number(values["MEMORY_ARRAY_NUM_DEVICES"]);
    std::vector<MemoryModule> modules;
    for (std::size_t i = 0; i < std::min<std::uint64_t>(count.value_or(0), kMaxModules); ++i) {
        const auto get = [&](const char* name) -> std::string {
            const auto found = values.find(fmt::format("MEMORY_DEVICE_{}_{}", i, name));
            return found == values.end() ? std::string() : found->second;
        };
        MemoryModule module;
        module.bytes = parse_number(get("SIZE")).value_or(0);
        if (module.bytes == 0) continue;
        module.data_bits = small_number(get("DATA_WIDTH"));
        module.mt_s = small_number(get("CONFIGURED_SPEED_MTS"));
        if (module.mt_s == 0) module.mt_s = small_number(get("SPEED_MTS"));
        module.type = get("TYPE");
        module.locator = get("LOCATOR");
        module.bank = get("BANK_LOCATOR");
        modules.push_back(std::move(module));
    }
    return modules;
}

std::vector<MemoryModule> parse_smbios_memory(std::span<const std::byte> table) {
    constexpr std::size_t kHeader = 4;
    constexpr unsigned kMemoryDevice = 17, kEndOfTable = 127;
    std::vector<MemoryModule> modules;
    while (table.size() >= kHeader && modules.size() < kMaxModules) {
        const auto type = std::to_integer<unsigned>(table[0]);
        const auto length = std::to_integer<std::size_t>(table[1]);
        if (type == kEndOfTable || length < kHeader || length > table.size()) break;
        Structure structure{.formatted = table.first(length), .strings = {}};
        // The strings follow, each with its zero; an empty one is the end.
        std::size_t at = length;
        std::string current;
        bool ended = false;
        for (; at < table.size() && !ended; ++at) {
            const char c = static_cast<char>(table[at]);
            if (c != '\0') {
                current += c;
                continue;
            }
            ended = current.empty();
            if (!ended) structure.strings.push_back(printable(std::exchange(current, {})));
        }
        if (!ended) break;
        // A structure without strings ends in two zeros, of which the loop has seen one.
        if (structure.strings.empty() && at < table.size() && table[at] == std::byte{0}) ++at;
        if (type == kMemoryDevice) {
            MemoryModule module = as_module(structure);
            if (module.bytes > 0) modules.push_back(std::move(module));
        }
        table = table.subspan(at);
    }
    return modules;
}

MemoryBus memory_bus(const std::vector<MemoryModule>& modules) {
    MemoryBus bus;
    std::map<std::string, unsigned> channels;  // and their widths
    bool width_known = !modules.empty();
    for (std::size_t i = 0; i < modules.size(); ++i) {
        std::string channel = channel_of(modules[i]);
        if (channel.empty()) channel = fmt::format("module {}", i);  // one each, for all we know
        channels[channel] = std::max(channels[channel], modules[i].data_bits);
        width_known = width_known && modules[i].data_bits > 0;
        bus.mt_s = i == 0 ? modules[i].mt_s : std::min(bus.mt_s, modules[i].mt_s);
    }
    bus.n_channels = channels.size();
    if (width_known)
        for (const auto& [name, bits] : channels) bus.bits += bits;
    return bus;
}

}  // namespace unicorn::machine
