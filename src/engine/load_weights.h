#pragma once

#include <functional>
#include <vector>

#include "device/device.h"
#include "engine/piece_reader.h"
#include "formats/gguf.h"
#include "memory/allocator.h"
#include "model/weights.h"

namespace unicorn::engine {

struct LoadOptions {
    LoadWay way = LoadWay::automatic;
    std::size_t threads = 1;
    /// Matrices that the device can use as they lie stay in the mapped file, and are only brought
    /// into the page cache. Else, and with any `way` but automatic, they are copied.
    bool keep_mapped = true;
    std::function<bool()> cancel = {};  // asked for every piece, by any thread
    /// Which of the device's weight tiers a matrix goes to; by default its main one.
    std::function<memory::Tier(const device::TensorRef&)> tier_of = {};
};

/// Weights where a device's steps want them.
struct LoadedWeights {
    std::vector<memory::Allocation> memory;  // one for each tier, where it has pieces that large
    std::size_t bytes_elsewhere = 0;         // of `memory`, not in the device's main tier
    ReadStats stats;
    std::uint64_t mapped_bytes = 0;  // used as they lie in the file
    std::size_t peak_bytes = 0;      // of weights, mapped ones too, and buffers for reading
    double seconds = 0;

    std::size_t bytes() const {
        std::size_t sum = 0;
        for (const memory::Allocation& piece : memory) sum += piece.bytes();
        return sum;
    }
};

/// The least memory for buffers that loading needs beside its target, with pieces of at most
/// `piece_bytes`.
std::size_t load_staging_bytes(std::size_t threads, std::size_t piece_bytes);

/// Brings `matrices`, which lie as in `file`, to where `device` wants them, by all threads:
/// straight from the disk, or from the page cache for what is in it. Rewrites the references. Shows
/// progress. The result is the same bytes whatever the way. Errors: out_of_memory, naming the file
/// and what there is; io; unsupported, for a forced way that this machine lacks; cancelled. The
/// references are then as before.
Result<LoadedWeights> load_weights(const formats::Gguf& file,
                                   std::span<device::TensorRef* const> matrices,
                                   device::Device& device, const LoadOptions& options);

}  // namespace unicorn::engine
