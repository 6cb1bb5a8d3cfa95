#pragma once

#include "backends/cpu/cpu_device.h"
#include "formats/gguf.h"
#include "memory/allocator.h"
#include "model/weights.h"

namespace unicorn::engine {

/// Weights where the CPU's kernels want them: quantised matrices repacked in `panels`, all others
/// still in the mapped file.
struct LoadedWeights {
    model::Weights weights;
    memory::Allocation panels;
    std::size_t read_bytes = 0;  // what multiplying by every matrix once reads
};

/// Repacks every quantised matrix on all of the device's threads, dropping the file's pages behind
/// it, so that no matrix is held twice. Shows progress.
/// Errors: out_of_memory, with the model's size and what there is.
Result<LoadedWeights> load_weights(const formats::Gguf& file, model::Weights weights,
                                   backends::cpu::CpuDevice& device);

}  // namespace unicorn::engine
