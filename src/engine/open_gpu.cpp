#include "backends/vulkan/compute_device.h"
#include "engine/open_devices.h"

namespace unicorn::engine {

Result<std::unique_ptr<device::Device>> open_gpu(std::string_view name, std::size_t budget_bytes,
                                                 const GpuOptions& options) {
    auto gpu = backends::vulkan::ComputeDevice::open(
        name,
        {.budget_bytes = budget_bytes, .time_steps = options.time_steps, .lose = options.lose});
    if (!gpu) return forward(gpu);
    return std::unique_ptr<device::Device>(std::move(*gpu));
}

}  // namespace unicorn::engine
