#pragma once
// Writes the commands of a pass: which dispatches a program's steps become for a PassShape.

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "backends/vulkan/compute_program.h"

namespace unicorn::backends::vulkan {

inline constexpr std::uint32_t kRowThreads = 1024;  // of a workgroup that has a row, at most
inline constexpr std::size_t kPickGroups = 64;      // workgroups of a row of logits

/// cos and sin are made of these: one table for each (base, divisor, E).
struct RopeTable {
    double base = 0, divisor = 1;
    std::size_t head_dim = 0;
    std::uint64_t frequencies = 0;  // [E/2] f32
};

/// Memory that steps share, one after the other.
struct PassScratch {
    std::array<memory::Allocation, kInputForms> inputs;  // by form: the widest input in it
    memory::Allocation gathered;                         // [T, D]: rows of the head
    memory::Allocation gated;          // [T, F] int8: of gate and up, while their input is read
    memory::Allocation up;             // [T, F]: where gate and up are of different types
    memory::Allocation parts;          // of split attention
    std::optional<VulkanBuffer> done;  // counters of workgroups: 0 between dispatches
    memory::Allocation picks;          // [rows, kPickGroups] values, then as many ids
    memory::Allocation selections;     // [rows]
    std::vector<RopeTable> ropes;
    std::vector<VulkanBuffer> rope_memory;
};

/// A submission: commands, and when they began and ended.
struct RecordedPart {
    Commands commands;
    WorkSize work;
    std::size_t n_steps = 0;
    VkQueryPool queries = VK_NULL_HANDLE;
    std::vector<std::size_t> kinds = {};  // of the steps that end with a timestamp each
};

struct Recording {
    explicit Recording(VulkanDevice& d) : device(d) {}
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording() {
        for (const RecordedPart& part : parts)
            device.vk().vkDestroyQueryPool(device.handle(), part.queries, nullptr);
    }

    VulkanDevice& device;
    PassLayout layout;
    std::optional<VulkanBuffer> data;  // the pass
    std::vector<RecordedPart> parts;
    std::uint64_t last = 0;       // submission's end
    bool collected = true;        // its times
    std::uint64_t last_used = 0;  // for choosing what to drop
};

/// What a pass is recorded from; all of it outlives the recording.
struct PassSource {
    ComputeContext& context;
    std::span<const device::Step> steps;
    std::size_t max_rows = 0;
    const PassScratch& scratch;
};

/// Records `source` for `shape`: `recording` has its layout and its data already. Errors:
/// out_of_memory; io, a shader that the driver refuses.
Status record_pass(const PassSource& source, const PassShape& shape, Recording& recording);
/// Only compiles what record_pass() would dispatch.
Status compile_pass(const PassSource& source, const PassShape& shape, Recording& recording);

}  // namespace unicorn::backends::vulkan
