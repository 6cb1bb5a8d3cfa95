#pragma once
// How fast the GPU reads and copies in each of its memory tiers: the yardstick of its decode speed.

#include <cstddef>
#include <optional>
#include <vector>

#include "backends/vulkan/vulkan_device.h"

namespace unicorn::backends::vulkan {

struct TierProbe {
    // Read at once; rounded down to 64 bytes, at most a quarter of the tier's heap. Larger than
    // the last caches of today's GPUs (256 MiB is four times an H200's, 128 times a 780M's).
    std::size_t bytes = std::size_t{256} << 20;
    std::size_t repeats = 7;                // >= 1, after one that is not counted
    std::optional<memory::Tier> only = {};  // this tier alone
    bool copies = false;                    // copy, too
};

struct TierBandwidth {
    memory::Tier tier = memory::Tier::vram;
    std::uint32_t heap_index = 0;
    std::size_t bytes = 0;       // read at once
    double bytes_per_s = 0;      // median
    double min_bytes_per_s = 0;  // the slowest and the fastest repeat
    double max_bytes_per_s = 0;
    double copy_bytes_per_s = 0;  // read and written, by a shader; median, if asked for
    bool gpu_clock = false;       // timed by the GPU's timestamps, else from submission to end
};

/// Reads each tier of the device (Capabilities::tiers) with all of the GPU and times it. Tiers that
/// are the same memory are read once and reported alike. Takes a second or less, and memory for
/// one buffer at a time; nothing else should run on the device.
/// Errors: out_of_memory, device_lost; io, when the GPU summed up what it read wrongly.
Result<std::vector<TierBandwidth>> measure_tiers(VulkanDevice& device, const TierProbe& probe = {});

}  // namespace unicorn::backends::vulkan
