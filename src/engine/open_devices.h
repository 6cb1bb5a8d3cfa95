#pragma once
// The one place that names back-ends.

#include <memory>
#include <string_view>

#include "device/device.h"

namespace unicorn::engine {

/// Opens the device called `name`: "auto" (the best there is) or "cpu" with `threads` threads.
/// Errors: unsupported, naming what is; out_of_memory.
Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads);

}  // namespace unicorn::engine
