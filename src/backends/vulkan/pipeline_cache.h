#pragma once
// Compiled pipelines on disk: a driver takes seconds to compile what it reads back in milliseconds.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace unicorn::backends::vulkan {

/// "<folder>/vulkan-<uuid in hexadecimal>.cache"; "" when `folder` is. The UUID is the driver's
/// own: it changes with the GPU, the driver's build and what else makes compiled code invalid.
std::string pipeline_cache_path(const std::string& folder, std::span<const std::uint8_t> uuid);

/// What store_pipeline_cache() wrote to `path`; empty when there is no such file, or when it is
/// not whole (drivers crash on damaged caches).
std::vector<std::byte> load_pipeline_cache(const std::string& path);

/// Replaces the file, and makes its folder. Errors: io.
Status store_pipeline_cache(const std::string& path, std::span<const std::byte> data);

}  // namespace unicorn::backends::vulkan
