#pragma once
// A Vulkan device as a device::Device.

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "backends/vulkan/compute_program.h"
#include "backends/vulkan/upload_ring.h"
#include "backends/vulkan/vulkan_instance.h"
#include "device/device.h"

namespace unicorn::backends::vulkan {

struct ComputeOptions {
    std::size_t budget_bytes = SIZE_MAX;  // of its memory, at most
    /// Measure each step: every one then waits for the one before. Without it, step_seconds() is
    /// all zero.
    bool time_steps = false;
    double submission_s = 0.2;  // a submission is meant to take at most this long
    /// For tests: asked at each submit(); once it says yes, the device is as one that was lost.
    std::function<bool()> lose;
    DeviceOptions device;
    InstanceOptions instance;
};

class ComputeDevice final : public device::Device {
public:
    /// Opens the device that `wanted` names (select_device.h: "vulkan", "vulkan:1",
    /// "vulkan:radeon"). Errors: as VulkanInstance::open, VulkanDevice::open and Matmul::create.
    static Result<std::unique_ptr<ComputeDevice>> open(std::string_view wanted,
                                                       const ComputeOptions& options);
    ~ComputeDevice() override;

    const device::DeviceInfo& info() const override { return info_; }
    memory::Tier main_tier() const override { return vram_->tier(); }
    std::vector<memory::Tier> weight_tiers() const override;
    memory::TierAllocator* allocator(memory::Tier tier) override;
    memory::TierAllocator& results() override { return *results_; }
    bool supports(const device::Step& step) const override {
        return ComputeProgram::supports(*device_, step);
    }
    device::Placement place(const device::TensorRef& matrix) const override;
    void pack(const device::TensorRef& to, std::size_t first, std::size_t last,
              const std::byte* rows) const override;
    Status check_packed() override;
    Result<std::unique_ptr<device::Program>> prepare(std::span<const device::Step> steps,
                                                     std::size_t max_rows) override;
    Result<device::Ticket> submit(device::Program& program, const device::Batch& batch,
                                  std::span<const device::Ticket> after) override;
    Status wait(device::Ticket ticket) override;
    Status copy(std::span<const device::Copy> copies) override;
    device::StepSeconds step_seconds() const override;

    VulkanDevice& vulkan() { return *device_; }
    /// What the validation layer, when it is on, called an error so far.
    std::vector<std::string> validation_errors() const { return instance_->validation_errors(); }

private:
    ComputeDevice() = default;
    /// Errors: device_lost, when a test has asked for it.
    Status check_lost() const;

    std::unique_ptr<VulkanInstance> instance_;
    std::unique_ptr<VulkanDevice> device_;
    std::unique_ptr<VulkanAllocator> vram_, gtt_, results_;
    device::DeviceInfo info_;
    mutable std::unique_ptr<UploadRing> uploads_;
    std::unique_ptr<ComputeContext> context_;
    std::vector<Commands> copy_commands_;  // used in turn
    std::vector<std::uint64_t> copy_values_;
    std::size_t next_copy_ = 0;
    std::function<bool()> lose_;
    bool lost_ = false;
    mutable std::mutex mutex_;  // upload_status_
    mutable Status upload_status_;
};

}  // namespace unicorn::backends::vulkan
