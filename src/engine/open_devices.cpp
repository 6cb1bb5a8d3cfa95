#include "engine/open_devices.h"

#include "backends/cpu/cpu_device.h"
#include "memory/host_allocator.h"

namespace unicorn::engine {

Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads) {
    if (name == "auto" || name == "cpu") {
        auto cpu = backends::cpu::CpuDevice::open(threads, memory::available_memory_bytes());
        if (!cpu) return forward(cpu);
        return std::unique_ptr<device::Device>(std::move(*cpu));
    }
    return fail(ErrorCode::unsupported, "device \"{}\" is not supported; supported: auto, cpu",
                name);
}

}  // namespace unicorn::engine
