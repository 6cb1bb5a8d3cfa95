#include "backends/vulkan/select_device.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>

namespace unicorn::backends::vulkan {
namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

bool answers_to(const DeviceDescription& device, const std::string& part) {
    std::string text = device.name + "\n" + device.driver_name;
    if (device.driver_name == "llvmpipe") text += "\nlavapipe";
    return lower(text).find(part) != std::string::npos;
}

// "0: AMD Radeon 780M; 1: llvmpipe (software, by name only)"
std::string list(std::span<const DeviceDescription> devices) {
    if (devices.empty()) return "none";
    std::string text;
    for (std::size_t i = 0; i < devices.size(); ++i) {
        text += fmt::format("{}{}: {}{}", i == 0 ? "" : "; ", i, devices[i].name,
                            devices[i].is_software() ? " (software, by name only)" : "");
    }
    return text;
}

template <typename Predicate>
std::optional<std::size_t> first(std::span<const DeviceDescription> devices, Predicate matches) {
    const auto found = std::find_if(devices.begin(), devices.end(), matches);
    if (found == devices.end()) return std::nullopt;
    return static_cast<std::size_t>(found - devices.begin());
}

}  // namespace

Result<std::size_t> select_device(std::span<const DeviceDescription> devices,
                                  std::string_view wanted) {
    constexpr std::string_view kPrefix = "vulkan:";
    if (wanted == "vulkan") {
        constexpr std::array kOrder = {DeviceType::discrete, DeviceType::integrated,
                                       DeviceType::virtual_gpu, DeviceType::other};
        for (const DeviceType type : kOrder) {
            if (auto i = first(devices, [&](const auto& d) { return d.type == type; })) return *i;
        }
        return fail(ErrorCode::not_found, "no Vulkan GPU; devices: {}", list(devices));
    }
    if (!wanted.starts_with(kPrefix) || wanted == kPrefix) {
        return fail(ErrorCode::invalid_argument,
                    "\"{}\" names no Vulkan device; use vulkan, vulkan:INDEX or vulkan:NAME",
                    wanted);
    }
    const std::string_view which = wanted.substr(kPrefix.size());
    if (std::all_of(which.begin(), which.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        std::size_t index = 0;
        const auto parsed = std::from_chars(which.data(), which.data() + which.size(), index);
        if (parsed.ec != std::errc() || index >= devices.size()) {
            return fail(ErrorCode::not_found, "no Vulkan device {}; devices: {}", which,
                        list(devices));
        }
        if (devices[index].is_software()) {
            return fail(ErrorCode::not_found,
                        "Vulkan device {} is {}, a software device: ask for it by name, "
                        "vulkan:{}",
                        index, devices[index].name, devices[index].driver_name);
        }
        return index;
    }
    const std::string part = lower(which);
    for (const bool software : {false, true}) {
        if (auto i = first(devices, [&](const auto& d) {
                return d.is_software() == software && answers_to(d, part);
            }))
            return *i;
    }
    return fail(ErrorCode::not_found, "no Vulkan device named \"{}\"; devices: {}", which,
                list(devices));
}

}  // namespace unicorn::backends::vulkan
