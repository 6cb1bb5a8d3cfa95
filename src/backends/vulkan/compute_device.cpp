#include "backends/vulkan/compute_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/vulkan/vulkan_error.h"
#include "backends/vulkan/weight_layout.h"
#include "base/check.h"
#include "kernels/gpu_tiles.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::size_t kCopies = 4;  // copies in flight

/// What may still be had of a tier's heap. Drivers without VK_EXT_memory_budget: VMA's guess, 80 %.
std::size_t room_bytes(const VulkanDevice& device, const TierMemory& tier) {
    VmaBudget budgets[VK_MAX_MEMORY_HEAPS] = {};
    vmaGetHeapBudgets(device.vma(), budgets);
    const VmaBudget& b = budgets[tier.heap_index];
    return static_cast<std::size_t>(b.budget > b.usage ? b.budget - b.usage : 0);
}

/// Memory that the device writes and the CPU reads through its caches: reading what is not cached
/// is a hundred times slower.
TierMemory result_memory(const VulkanDevice& device) {
    VkPhysicalDeviceMemoryProperties memory = {};
    vkGetPhysicalDeviceMemoryProperties(device.physical_device(), &memory);
    constexpr VkMemoryPropertyFlags kWanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                              VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                                              VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    TierMemory found = *device.capabilities().tier(memory::Tier::gtt);
    bool is_found = false;
    for (std::uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
        const VkMemoryType& type = memory.memoryTypes[i];
        if ((type.propertyFlags & kWanted) != kWanted || is_strange(type.propertyFlags)) continue;
        const bool outside = (type.propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) == 0;
        // Outside of the device's own memory, where there is such; the first, which is fastest.
        if (is_found && !outside) continue;
        is_found = true;
        found.type_index = i;
        found.heap_index = type.heapIndex;
        found.heap_bytes = memory.memoryHeaps[type.heapIndex].size;
        found.host_visible = true;
        if (outside) break;
    }
    return found;
}

}  // namespace

Result<std::unique_ptr<ComputeDevice>> ComputeDevice::open(std::string_view wanted,
                                                           const ComputeOptions& options) {
    auto self = std::unique_ptr<ComputeDevice>(new ComputeDevice());
    self->lose_ = options.lose;
    auto instance = VulkanInstance::open(options.instance);
    if (!instance) return forward(instance);
    self->instance_ = std::move(*instance);
    auto device = VulkanDevice::open(*self->instance_, wanted, options.device);
    if (!device) return forward(device);
    self->device_ = std::move(*device);
    VulkanDevice& vulkan = *self->device_;
    const Capabilities& c = vulkan.capabilities();
    if (c.compiles_only) {
        return fail(ErrorCode::unsupported, "{} compiles shaders and runs nothing", vulkan.name());
    }
    const TierMemory& vram = *c.tier(memory::Tier::vram);
    const TierMemory& gtt = *c.tier(memory::Tier::gtt);
    self->vram_ = std::make_unique<VulkanAllocator>(
        vulkan, vram, std::min(options.budget_bytes, room_bytes(vulkan, vram)));
    self->gtt_ = std::make_unique<VulkanAllocator>(
        vulkan, gtt, std::min(options.budget_bytes, room_bytes(vulkan, gtt)));
    const TierMemory results = result_memory(vulkan);
    self->results_ = std::make_unique<VulkanAllocator>(
        vulkan, results, std::min(options.budget_bytes, room_bytes(vulkan, results)));
    self->uploads_ = std::make_unique<UploadRing>(vulkan, gtt);
    auto matmul = Matmul::create(vulkan);
    if (!matmul) return forward(matmul);
    self->info_.name = fmt::format("vulkan, {}, {}", vulkan.name(), name((*matmul)->path()));
    self->info_.warnings = vulkan.warnings();
    if (!(*matmul)->warning().empty()) self->info_.warnings.push_back((*matmul)->warning());
    self->context_.reset(new ComputeContext{.device = vulkan,
                                            .vram = *self->vram_,
                                            .results = *self->results_,
                                            .staging = gtt,
                                            .pipelines = PipelineSet(vulkan),
                                            .matmul = std::move(*matmul),
                                            .pace = WorkPace(options.submission_s),
                                            .time_steps = options.time_steps});
    for (std::size_t i = 0; i < kCopies; ++i) {
        auto commands = Commands::create(vulkan);
        if (!commands) return forward(commands);
        self->copy_commands_.push_back(std::move(*commands));
        self->copy_values_.push_back(0);
    }
    return self;
}

ComputeDevice::~ComputeDevice() {
    if (device_ != nullptr) device_->vk().vkDeviceWaitIdle(device_->handle());
}

std::vector<memory::Tier> ComputeDevice::weight_tiers() const {
    const Capabilities& c = device_->capabilities();
    if (c.tier(memory::Tier::vram)->heap_index == c.tier(memory::Tier::gtt)->heap_index)
        return {memory::Tier::vram};
    return {memory::Tier::vram, memory::Tier::gtt};
}

memory::TierAllocator* ComputeDevice::allocator(memory::Tier tier) {
    if (tier == memory::Tier::vram) return vram_.get();
    return tier == memory::Tier::gtt ? gtt_.get() : nullptr;
}

device::Placement ComputeDevice::place(const device::TensorRef& matrix) const {
    device::Placement placement;
    // Gains, and what shaders have no tiles for, which supports() then refuses.
    const bool tiled = matrix.rows > 1 && matrix.cols % kernels::gpu_tile_columns(matrix.type) == 0;
    placement.layout = tiled ? device::Layout::tiles : device::Layout::rows;
    placement.bytes = tiled ? stored_bytes(matrix.type, matrix.rows, matrix.cols)
                            : matrix.rows * tensor::row_bytes(matrix.type, matrix.cols);
    return placement;
}

void ComputeDevice::pack(const device::TensorRef& to, std::size_t first, std::size_t last,
                         const std::byte* rows) const {
    const bool tiled = to.layout == device::Layout::tiles;
    const std::size_t row_bytes = tensor::row_bytes(to.type, to.cols);
    std::size_t offset = first * row_bytes, bytes = (last - first) * row_bytes;
    if (tiled) {
        offset = kernels::gpu_tile_bytes(to.type, first, to.cols);
        bytes = kernels::gpu_tile_bytes(to.type, last - first, to.cols);
    }
    // The tiles of these rows are those of a matrix of their own.
    const auto fill = [&](std::byte* place) {
        if (tiled) {
            pack_rows(to.type, to.cols, last - first, 0, last - first, rows, place);
        } else {
            std::memcpy(place, rows, bytes);
        }
    };
    if (to.host != nullptr) return fill(to.host + offset);
    auto& allocator = to.tier == memory::Tier::vram ? *vram_ : *gtt_;
    auto status = uploads_->upload(allocator.place(to.device_address + offset), bytes, fill);
    if (status) return;
    const std::scoped_lock lock(mutex_);
    if (upload_status_) upload_status_ = std::move(status);
}

Status ComputeDevice::check_packed() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(upload_status_, Status());
}

Result<std::unique_ptr<device::Program>> ComputeDevice::prepare(std::span<const device::Step> steps,
                                                                std::size_t max_rows) {
    auto program = ComputeProgram::create(*context_, steps, max_rows);
    if (!program) return forward(program);
    return std::unique_ptr<device::Program>(std::move(*program));
}

Status ComputeDevice::check_lost() const {
    if (!lost_) return {};
    return failed(VK_ERROR_DEVICE_LOST, fmt::format("{}: a test's loss", device_->name()));
}

Result<device::Ticket> ComputeDevice::submit(device::Program& program, const device::Batch& batch,
                                             std::span<const device::Ticket> after) {
    lost_ = lost_ || (lose_ && lose_());
    if (auto status = check_lost(); !status) return forward(status);
    for (const device::Ticket& ticket : after) {
        if (ticket.device == nullptr || ticket.device == this) continue;
        if (auto status = ticket.device->wait(ticket); !status) return forward(status);
    }
    auto value = static_cast<ComputeProgram&>(program).submit(batch);
    if (!value) return forward(value);
    return device::Ticket{this, *value};
}

Status ComputeDevice::wait(device::Ticket ticket) {
    UNICORN_CHECK(ticket.device == this || ticket.device == nullptr);
    if (ticket.device == nullptr) return {};
    if (auto status = check_lost(); !status) return status;
    return device_->wait(ticket.value);
}

device::StepSeconds ComputeDevice::step_seconds() const {
    for (ComputeProgram* program : context_->programs) static_cast<void>(program->collect());
    return context_->step_seconds;
}

Status ComputeDevice::copy(std::span<const device::Copy> copies) {
    if (copies.empty()) return {};
    if (auto status = check_lost(); !status) return status;
    const std::size_t index = next_copy_;
    next_copy_ = (next_copy_ + 1) % kCopies;
    if (auto status = device_->wait(copy_values_[index]); !status) return status;
    Commands& commands = copy_commands_[index];
    if (auto status = commands.begin(); !status) return status;
    for (const device::Copy& c : copies) {
        auto& allocator = c.matrix.tier == memory::Tier::vram ? *vram_ : *gtt_;
        const BufferPlace base = allocator.place(c.matrix.device_address);
        const VkBufferCopy region = {
            .srcOffset = base.offset + c.from, .dstOffset = base.offset + c.to, .size = c.bytes};
        device_->vk().vkCmdCopyBuffer(commands.handle(), base.buffer, base.buffer, 1, &region);
    }
    if (auto status = commands.end(); !status) return status;
    auto value = device_->submit(commands.handle());
    if (!value) return forward(value);
    copy_values_[index] = *value;
    return {};
}

}  // namespace unicorn::backends::vulkan
