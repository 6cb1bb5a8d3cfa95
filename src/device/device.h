#pragma once
// The seam to hardware.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "device/batch.h"
#include "device/step.h"
#include "memory/allocator.h"

namespace unicorn::device {

struct DeviceInfo {
    std::string name;                   // for people: "cpu, 2 threads, avx512"
    std::vector<std::string> warnings;  // lines that a user should see
};

class Device;

/// A place in a device's queue. Tickets of one device grow; one without a device is finished.
struct Ticket {
    Device* device = nullptr;
    std::uint64_t value = 0;
};

/// Seconds spent in steps, by kind (the order of the Step variant).
using StepSeconds = std::array<double, std::variant_size_v<Step>>;

/// How a device wants a matrix to lie.
struct Placement {
    Layout layout = Layout::rows;
    std::size_t bytes = 0;
    bool as_mapped = false;  // its steps can use the matrix where the file is mapped
};

/// Bytes [from, from + bytes) of a matrix, to be copied to `to` on in the same one; the two ranges
/// do not overlap.
struct Copy {
    TensorRef matrix;
    std::size_t from = 0;
    std::size_t to = 0;
    std::size_t bytes = 0;
};

/// Steps that a device has made ready. Owned by the caller; must not outlive its device.
class Program {
public:
    virtual ~Program() = default;
};

/// Something that runs kernels: the CPU, the Vulkan iGPU, the NPU, or `null` in tests.
/// A device says what it is, owns memory, replays programs in order, and can be waited on.
class Device {
public:
    virtual ~Device() = default;
    /// Constant for the device's life.
    virtual const DeviceInfo& info() const = 0;
    /// Where its steps' operands lie best: host for the CPU, vram for a GPU.
    virtual memory::Tier main_tier() const = 0;
    /// Where its steps' weights may lie: the main tier, then others that are worth it when that is
    /// full. No two are the same memory.
    virtual std::vector<memory::Tier> weight_tiers() const { return {main_tier()}; }
    /// The allocator for `tier`, or nullptr if this device cannot address that tier.
    virtual memory::TierAllocator* allocator(memory::Tier tier) = 0;
    /// Memory that steps write and the CPU then reads at full speed.
    virtual memory::TierAllocator& results() = 0;
    /// Whether `step` can run here with its operands where they are. No side effects:
    /// the planner asks this of every step on every device.
    virtual bool supports(const Step& step) const = 0;
    /// Where this device's steps multiply `matrix`, which lies as in its file, best; a single row
    /// is a gain, and stays as it is. No side effects.
    virtual Placement place(const TensorRef& matrix) const = 0;
    /// Writes rows [first, last), given as they lie in the file, to where they belong in `to`, a
    /// matrix laid out as place() says. `first` is a multiple of 16, `last` too or the end. Called
    /// by many threads at once, each for rows of its own.
    virtual void pack(const TensorRef& to, std::size_t first, std::size_t last,
                      const std::byte* rows) const = 0;
    /// What went wrong in pack() since the last call of this: nothing of it may be trusted then.
    /// Errors: out_of_memory, device_lost.
    virtual Status check_packed() { return {}; }
    /// Turns `steps` into something this device replays: variants chosen, commands recorded.
    /// Operands must outlive the program. `max_rows`: the largest batch it will see.
    /// Errors: unsupported, naming the first such step; out_of_memory.
    virtual Result<std::unique_ptr<Program>> prepare(std::span<const Step> steps,
                                                     std::size_t max_rows) = 0;
    /// Queues one replay of `program` over `batch` behind everything queued here before and every
    /// ticket in `after`; returns at once. What `batch` points to must stay as it is until the
    /// ticket has been waited for; a device with memory of its own has copied it when this returns.
    /// Errors: device_lost; cancelled, when the batch says so: nothing of it is under way then, and
    /// what it would have written is in any state.
    virtual Result<Ticket> submit(Program& program, const Batch& batch,
                                  std::span<const Ticket> after) = 0;
    /// Blocks until `ticket`, one of this device's, and everything queued before it has finished.
    /// Errors: device_lost; no operand may be trusted afterwards.
    virtual Status wait(Ticket ticket) = 0;
    /// Queues copies behind everything queued here before. Errors: out_of_memory, device_lost.
    virtual Status copy(std::span<const Copy> copies) = 0;
    /// Time spent in the steps of all finished programs so far. Meant for differences, read while
    /// nothing is queued.
    virtual StepSeconds step_seconds() const = 0;
};

}  // namespace unicorn::device
