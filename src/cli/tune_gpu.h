#pragma once
// unicorn tune --gpu: shapes of the matrix shaders, by measurement.

#include <string>

#include "base/result.h"

namespace unicorn::cli {

struct TuneGpuOptions {
    std::string device = "vulkan";
    std::string model;  // "": the bundled one
    bool apply = false, restore = false;
};

/// Searches, shows what is faster and, with `apply`, keeps it for this GPU; with `restore` removes
/// what was kept. Gives the exit code. Errors: unsupported (built without Vulkan), those of opening
/// the device and the model, io.
Result<int> tune_gpu(const TuneGpuOptions& options);

}  // namespace unicorn::cli
