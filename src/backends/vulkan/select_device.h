#pragma once
// Which device "vulkan:..." means.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace unicorn::backends::vulkan {

enum class DeviceType { other, integrated, discrete, virtual_gpu, cpu };  // as Vulkan numbers them

/// What is known of a device before it is opened.
struct DeviceDescription {
    std::string name;         // "AMD Radeon 780M (RADV PHOENIX)"
    std::string driver_name;  // "radv"; "llvmpipe" for Mesa's software driver, lavapipe
    std::string driver_info;  // "Mesa 25.0.7"
    DeviceType type = DeviceType::other;
    std::uint32_t vendor_id = 0, device_id = 0;
    std::uint32_t api_version = 0;  // as Vulkan packs it

    /// A driver that computes on the CPU; used only when asked for by name.
    bool is_software() const { return type == DeviceType::cpu; }
};

/// The index in `devices` of what `wanted` asks for:
///   "vulkan"        the first discrete GPU, else the first integrated, virtual or other one
///   "vulkan:1"      the device of that index
///   "vulkan:radeon" the first whose name or driver contains this, in any case; GPUs come before
///                   software devices. "lavapipe" finds llvmpipe.
/// Software devices are found by name only.
/// Errors: invalid_argument ("vulkan:" or something else before it), not_found, with the devices
/// there are.
Result<std::size_t> select_device(std::span<const DeviceDescription> devices,
                                  std::string_view wanted);

}  // namespace unicorn::backends::vulkan
