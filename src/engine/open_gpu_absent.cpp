// In place of open_gpu.cpp where the program is built without Vulkan.

#include "engine/open_devices.h"

namespace unicorn::engine {

Result<std::unique_ptr<device::Device>> open_gpu(std::string_view name,
                                                 std::size_t /*budget_bytes*/,
                                                 const GpuOptions& /*gpu*/) {
    return fail(ErrorCode::not_found,
                "device \"{}\": this program was built without Vulkan (UNICORN_VULKAN=OFF)", name);
}

}  // namespace unicorn::engine
