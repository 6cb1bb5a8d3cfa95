#pragma once
// The memory modules that the firmware lists (SMBIOS, type 17).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace unicorn::machine {

struct MemoryModule {
    std::uint64_t bytes = 0;
    unsigned data_bits = 0;    // width of its bus; 0: not told
    unsigned mt_s = 0;         // transfers a second as configured, 1e6; 0: not told
    std::string type = {};     // "DDR5"
    std::string locator = {};  // "DIMM 0"
    std::string bank = {};     // "P0 CHANNEL A"
};

/// From the properties that udev keeps for everyone to read (/run/udev/data/+dmi:id; systemd 248
/// and later). Empty slots are left out.
std::vector<MemoryModule> parse_udev_memory(std::string_view text);

/// From the firmware's table itself (/sys/firmware/dmi/tables/DMI, for root only). Untrusted: a
/// structure that runs out of the table ends it.
std::vector<MemoryModule> parse_smbios_memory(std::span<const std::byte> table);

/// How the modules share the bus, as far as their names tell.
struct MemoryBus {
    std::size_t n_channels = 0;
    unsigned bits = 0;  // of all channels together; 0: not told
    unsigned mt_s = 0;  // of the slowest module; 0: not told
    /// The most that the bus can carry, in GB/s (1e9 bytes); 0: not told.
    double peak_gb_s() const { return bits / 8.0 * mt_s / 1000.0; }
};
MemoryBus memory_bus(const std::vector<MemoryModule>& modules);

}  // namespace unicorn::machine
