#include "cli/measure_gpu.h"

#include <algorithm>

#ifdef UNICORN_VULKAN
#include "backends/vulkan/tier_bandwidth.h"
#endif

namespace unicorn::cli {

#ifdef UNICORN_VULKAN

Status measure_gpu(machine::Machine& machine) {
    using namespace backends::vulkan;
    const machine::Gpu* const gpu = machine.primary_gpu();
    if (gpu == nullptr) return fail(ErrorCode::not_found, "there is no GPU with a driver");
    auto instance = VulkanInstance::open();
    if (!instance) return forward(instance);
    const auto devices = (*instance)->devices();
    const auto found = std::ranges::find_if(devices, [&](const DeviceDescription& device) {
        return device.vendor_id == gpu->vendor_id && device.device_id == gpu->device_id;
    });
    if (found == devices.end())
        return fail(ErrorCode::not_found, "Vulkan does not know {}", gpu->name);
    auto device =
        VulkanDevice::open(**instance, fmt::format("vulkan:{}", found - devices.begin()), {});
    if (!device) return forward(device);
    auto tiers = measure_tiers(**device);
    if (!tiers) return forward(tiers);
    for (const TierBandwidth& tier : *tiers) {
        if (tier.tier == memory::Tier::vram) machine.measured.vram_gb_s = tier.bytes_per_s / 1e9;
        if (tier.tier == memory::Tier::gtt) machine.measured.gtt_gb_s = tier.bytes_per_s / 1e9;
    }
    return {};
}

#else

Status measure_gpu(machine::Machine&) {
    return fail(ErrorCode::unsupported, "this program was built without Vulkan");
}

#endif

}  // namespace unicorn::cli
