#pragma once
// What the planner knows of a machine: physical memory, the tiers that draw on it, and the devices
// that compute. Detected (machine/profile.h) or read from a TOML file, so that a plan for a machine
// can be made and tested on any other.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/allocator.h"

namespace unicorn::plan {

/// Physical memory. No two pools share a byte.
struct Pool {
    std::string name;                   // "system", "carveout", "gpu0"
    std::uint64_t capacity_bytes = 0;   // what is installed
    std::uint64_t available_bytes = 0;  // what a plan may use now; at most the capacity
};

/// A way to use memory, and how fast it is read. Several tiers may draw on one pool: on an APU,
/// gtt, npu and host are all the system's DIMMs.
struct TierProfile {
    memory::Tier tier = memory::Tier::host;
    std::string pool;                  // empty for the disk, which draws on none
    std::uint64_t capacity_bytes = 0;  // at most this much of the pool, by the tier's own limit
    double read_gb_s = 0;              // 1e9 bytes a second; 0: not measured
    bool measured = false;  // else read_gb_s is an estimate, and says so where it is shown
};

enum class DeviceKind { cpu, gpu, npu };

/// Something that runs steps.
struct DeviceProfile {
    DeviceKind kind = DeviceKind::cpu;
    std::string name;                 // "AMD Ryzen 9 8945HS", "AMD Radeon 780M"
    bool integrated = false;          // a GPU whose memory is the system's
    bool software = false;            // a GPU that is the CPU (lavapipe): never chosen unasked
    std::uint64_t threads = 0;        // of a CPU: hardware threads to use; 0: not known
    double int8_tops = 0;             // 1e12 multiply-adds counted twice; 0: not known
    std::vector<memory::Tier> tiers;  // that it reads without a copy
};

struct HardwareProfile {
    std::string name;  // "ryzen-8945hs-96gb"
    std::vector<Pool> pools;
    std::vector<TierProfile> tiers;  // at most one of each tier
    std::vector<DeviceProfile> devices;

    const Pool* pool(std::string_view pool_name) const;
    const TierProfile* tier(memory::Tier which) const;
};

/// Whether a profile makes sense: every tier's pool exists, no name twice, nothing available beyond
/// its capacity, no tier twice, rates not negative, one CPU and a host tier at least.
/// Errors: invalid_argument, naming what is wrong.
Status validate(const HardwareProfile& profile);

/// A profile as TOML, and back. Sizes are written in bytes or with a unit ("96 GiB", "40 GB").
/// Errors: invalid_file, with `source`, the line and the reason: unknown keys, wrong types, and
/// what validate() finds.
Result<HardwareProfile> parse_profile(const std::string& toml, const std::string& source);
std::string to_toml(const HardwareProfile& profile);

/// A file's path (anything with a '/' or ending in .toml), or the name of a profile that ships:
/// looked up beside the bundled model. Errors: not_found (with the names there are), invalid_file.
Result<HardwareProfile> load_profile(const std::string& file_or_name);

/// A machine of which only the CPU is used: one pool of system memory, one tier.
HardwareProfile cpu_only_profile(std::uint64_t capacity_bytes, std::uint64_t available_bytes);

}  // namespace unicorn::plan
