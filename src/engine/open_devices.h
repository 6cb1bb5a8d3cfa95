#pragma once
// The one place that names back-ends.

#include <memory>
#include <string_view>

#include "device/device.h"
#include "plan/workload.h"

namespace unicorn::engine {

/// Opens the device called `name`: "auto" (the best there is) or "cpu" with `threads` threads.
/// What it allocates never exceeds `budget_bytes`.
/// Errors: unsupported, naming what is; out_of_memory.
Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads,
                                                    std::size_t budget_bytes);

/// Bytes that the CPU's programs of a forward pass take beside activations and cache.
std::uint64_t cpu_scratch_bytes(const plan::ModelSpec& model, const plan::Workload& workload,
                                std::size_t threads);

}  // namespace unicorn::engine
