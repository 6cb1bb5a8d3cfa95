#include "cli/measure_gpu.h"

#include <algorithm>
#include <utility>

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

struct GpuMemoryProbe::State {
    std::unique_ptr<backends::vulkan::VulkanInstance> instance;
    std::unique_ptr<backends::vulkan::VulkanDevice> device;
};

Result<GpuMemoryProbe> GpuMemoryProbe::open(const std::string& device) {
    auto state = std::make_unique<State>();
    auto instance = backends::vulkan::VulkanInstance::open();
    if (!instance) return forward(instance);
    state->instance = std::move(*instance);
    auto opened = backends::vulkan::VulkanDevice::open(*state->instance, device);
    if (!opened) return forward(opened);
    state->device = std::move(*opened);
    return GpuMemoryProbe(std::move(state));
}

Result<GpuMemorySpeed> GpuMemoryProbe::measure() {
    // A software device's memory is the CPU's, and takes longer to read.
    const bool software = state_->device->capabilities().description.is_software();
    const std::size_t most = std::size_t{software ? 64U : 1024U} << 20;
    const auto heap = state_->device->capabilities().tier(memory::Tier::vram)->heap_bytes / 16;
    // Beside a model that nearly fills the memory, with less.
    constexpr std::size_t kLeast = std::size_t{64} << 20;
    for (std::size_t bytes = std::min<std::size_t>(most, heap);; bytes /= 2) {
        auto tiers =
            backends::vulkan::measure_tiers(*state_->device, {.bytes = bytes,
                                                              .repeats = software ? 1U : 7U,
                                                              .only = memory::Tier::vram,
                                                              .copies = true});
        if (tiers) {
            return GpuMemorySpeed{.read_gb_s = tiers->front().bytes_per_s / 1e9,
                                  .copy_gb_s = tiers->front().copy_bytes_per_s / 1e9};
        }
        if (tiers.error().code != ErrorCode::out_of_memory || bytes <= kLeast)
            return forward(tiers);
    }
}

#else

struct GpuMemoryProbe::State {};

Result<GpuMemoryProbe> GpuMemoryProbe::open(const std::string&) {
    return fail(ErrorCode::unsupported, "this program was built without Vulkan");
}

Result<GpuMemorySpeed> GpuMemoryProbe::measure() {
    return fail(ErrorCode::unsupported, "this program was built without Vulkan");
}

Status measure_gpu(machine::Machine&) {
    return fail(ErrorCode::unsupported, "this program was built without Vulkan");
}

#endif

GpuMemoryProbe::GpuMemoryProbe(std::unique_ptr<State> state) : state_(std::move(state)) {}
GpuMemoryProbe::GpuMemoryProbe(GpuMemoryProbe&&) noexcept = default;
GpuMemoryProbe::~GpuMemoryProbe() = default;

}  // namespace unicorn::cli
