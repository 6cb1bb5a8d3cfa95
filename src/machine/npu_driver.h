#pragma once
// What is asked of the NPU's kernel driver: a seam, so that tests can answer in its place.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace unicorn::machine {

/// As the driver numbers them.
enum class NpuPowerMode : std::uint8_t { automatic = 0, low = 1, medium = 2, high = 3, turbo = 4 };

std::string_view name(NpuPowerMode mode);
std::optional<NpuPowerMode> power_mode_from_name(std::string_view name);

/// What a driver says of its NPU; a query that it does not know leaves its answer empty.
struct NpuAnswers {
    std::string driver_version = {};              // of its interface: "0.6"
    std::string firmware = {};                    // "1.5.2.380"
    std::optional<std::uint32_t> columns = {};    // of the array
    std::optional<std::uint32_t> clock_mhz = {};  // of the array now
    std::optional<NpuPowerMode> power_mode = {};
};

class NpuDriver {
public:
    virtual ~NpuDriver() = default;
    /// Errors: not_found, io (the node cannot be opened or answers nothing); the message names it.
    virtual Result<NpuAnswers> query(const std::string& node) = 0;
    /// Errors: as query(); unsupported when the driver does not know power modes.
    virtual Result<NpuPowerMode> power_mode(const std::string& node) = 0;
    /// Needs root. Errors: as query(), and io with what the driver said.
    virtual Status set_power_mode(const std::string& node, NpuPowerMode mode) = 0;
};

/// The kernel's amdxdna driver by its own ioctls (Linux 6.14 and later). Written after its
/// interface header; it has not yet run on the real device.
class AmdxdnaDriver final : public NpuDriver {
public:
    Result<NpuAnswers> query(const std::string& node) override;
    Result<NpuPowerMode> power_mode(const std::string& node) override;
    Status set_power_mode(const std::string& node, NpuPowerMode mode) override;
};

}  // namespace unicorn::machine
