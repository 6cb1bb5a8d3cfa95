#pragma once

#include "base/result.h"
#include "machine/machine.h"

namespace unicorn::cli {

/// Measures how fast the primary GPU reads its memory tiers, into machine.measured. Takes about a
/// second, and a quarter of a GiB of each. Errors: unsupported (built without Vulkan, or a device
/// that lacks something), not_found (Vulkan does not know this GPU); those of measure_tiers().
Status measure_gpu(machine::Machine& machine);

}  // namespace unicorn::cli
