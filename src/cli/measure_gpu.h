#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "machine/machine.h"

namespace unicorn::cli {

/// Measures how fast the primary GPU reads its memory tiers, into machine.measured. Takes about a
/// second, and a quarter of a GiB of each. Errors: unsupported (built without Vulkan, or a device
/// that lacks something), not_found (Vulkan does not know this GPU); those of measure_tiers().
Status measure_gpu(machine::Machine& machine);

/// A GPU's own memory, in GB/s (1e9 bytes).
struct GpuMemorySpeed {
    double read_gb_s = 0;
    double copy_gb_s = 0;  // read and written
};

/// Measures the memory in which a Vulkan device keeps weights, beside whatever else has opened it.
class GpuMemoryProbe {
public:
    /// `device`: "vulkan", "vulkan:NAME", ... Errors: as measure_gpu().
    static Result<GpuMemoryProbe> open(const std::string& device);
    GpuMemoryProbe(GpuMemoryProbe&&) noexcept;
    ~GpuMemoryProbe();

    /// Takes a few milliseconds, and up to 1 GiB meanwhile. Errors: those of measure_tiers().
    Result<GpuMemorySpeed> measure();

private:
    struct State;
    explicit GpuMemoryProbe(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace unicorn::cli
