#pragma once
// Steps made ready for a Vulkan device. Commands are recorded once for each PassShape and replayed;
// what changes from pass to pass is copied to a block of memory that they read (pass_data.h).

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backends/vulkan/matmul.h"
#include "backends/vulkan/pass_data.h"
#include "backends/vulkan/pipeline_set.h"
#include "backends/vulkan/vulkan_allocator.h"
#include "backends/vulkan/vulkan_buffer.h"
#include "backends/vulkan/work_pace.h"
#include "device/device.h"

namespace unicorn::backends::vulkan {

class ComputeProgram;
struct PassScratch;
struct Recording;

/// What programs of one device share. Used by one thread at a time.
struct ComputeContext {
    VulkanDevice& device;
    VulkanAllocator& vram;
    VulkanAllocator& results;  // memory that the CPU reads
    TierMemory staging;        // memory that the CPU writes and the device copies from
    PipelineSet pipelines;
    std::unique_ptr<Matmul> matmul;
    WorkPace pace;
    bool time_steps = false;  // measure each step: costs some speed
    device::StepSeconds step_seconds{};
    std::vector<ComputeProgram*> programs;  // all there are
};

class ComputeProgram final : public device::Program {
public:
    static bool supports(const VulkanDevice& device, const device::Step& step);
    /// For a device that compiles only, no memory is allocated. Errors: unsupported, out_of_memory,
    /// io (a shader that the driver refuses).
    static Result<std::unique_ptr<ComputeProgram>> create(ComputeContext& context,
                                                          std::span<const device::Step> steps,
                                                          std::size_t max_rows);
    ~ComputeProgram() override;

    /// Queues one replay over `batch`, which is read before this returns. The value is that of the
    /// device's timeline at its end. Errors: device_lost; out_of_memory and io, when commands for a
    /// batch of this shape cannot be recorded.
    Result<std::uint64_t> submit(const device::Batch& batch);
    /// Compiles every pipeline that submit() would dispatch for `batch`, by the same choices, and
    /// records nothing: they are then in the context's `pipelines` and `matmul`. The arrays of
    /// `batch` besides its runs may hold anything. Errors: io, a shader that the driver refuses;
    /// unsupported.
    Status compile(const device::Batch& batch);
    /// Takes the times of what has finished. Errors: device_lost.
    Status collect();

private:
    struct Frame;

    explicit ComputeProgram(ComputeContext& context);
    Status allocate_scratch();
    Result<Recording*> recording_for(const PassShape& shape);
    Result<std::unique_ptr<Recording>> record(const PassShape& shape);
    Result<Frame*> next_frame(std::size_t bytes);
    Status collect(Recording& recording);

    ComputeContext& context_;
    std::vector<device::Step> steps_;
    std::size_t max_rows_ = 0;
    std::array<AttentionShape, device::kLayerGroups> attention_{};
    std::unique_ptr<PassScratch> scratch_;
    std::vector<std::unique_ptr<Frame>> frames_;
    std::size_t next_frame_ = 0;
    std::map<PassShape, std::unique_ptr<Recording>> recordings_;
    std::uint64_t uses_ = 0;  // of recordings, to find the one not used for longest
};

}  // namespace unicorn::backends::vulkan
