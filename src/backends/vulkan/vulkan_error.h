#pragma once
// Where the driver's codes become Errors.

#include <string_view>

#include "backends/vulkan/volk.h"
#include "base/result.h"

namespace unicorn::backends::vulkan {

/// "VK_ERROR_DEVICE_LOST"; "VkResult -42" for a code this program does not know.
std::string name(VkResult result);

/// The Error for a call that gave `result`: "<what>: VK_ERROR_OUT_OF_DEVICE_MEMORY". Codes:
/// device_lost, out_of_memory and unsupported where the driver says so, else io.
tl::unexpected<Error> failed(VkResult result, std::string_view what);

}  // namespace unicorn::backends::vulkan
