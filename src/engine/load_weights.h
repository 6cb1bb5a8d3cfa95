#pragma once

#include "device/device.h"
#include "formats/gguf.h"
#include "memory/allocator.h"
#include "model/weights.h"

namespace unicorn::engine {

/// Weights where a device's steps want them.
struct LoadedWeights {
    model::Weights weights;
    memory::Allocation memory;
    std::size_t read_bytes = 0;  // what multiplying by every matrix once reads
};

/// Hands every matrix to the device, gives the file's pages back as it reads them, so that nothing
/// is held twice, and shows progress.
/// Errors: out_of_memory, naming the file and what there is.
Result<LoadedWeights> load_weights(const formats::Gguf& file, model::Weights weights,
                                   device::Device& device);

}  // namespace unicorn::engine
