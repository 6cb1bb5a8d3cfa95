#include "backends/vulkan/vulkan_device.h"

#include <array>
#include <utility>

#include "backends/vulkan/pipeline_cache.h"
#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"

namespace unicorn::backends::vulkan {

Result<std::unique_ptr<VulkanDevice>> VulkanDevice::open(VulkanInstance& instance,
                                                         std::string_view wanted,
                                                         const DeviceOptions& options) {
    const auto index = select_device(instance.devices(), wanted);
    if (!index) return tl::unexpected(index.error());
    std::unique_ptr<VulkanDevice> self(new VulkanDevice(instance));
    self->physical_device_ = instance.physical_device(*index);

    Features offered;
    auto capabilities = query_capabilities(self->physical_device_, instance.devices()[*index],
                                           instance.validation_version(), offered);
    if (!capabilities) return forward(capabilities);
    self->capabilities_ = std::move(*capabilities);
    if (self->capabilities_.description.is_software()) {
        self->warnings_.push_back(fmt::format(
            "{} computes on the CPU: right, but slower than --device cpu", self->name()));
    }
    if (self->capabilities_.compiles_only) {
        self->warnings_.push_back(
            fmt::format("{} has no memory: it compiles shaders and runs nothing", self->name()));
    }
    if (auto created = self->create(offered); !created) return forward(created);
    if (auto created = self->create_pipeline_cache(options.cache_folder); !created)
        return forward(created);
    return self;
}

Status VulkanDevice::create(const Features& offered) {
    const Capabilities& c = capabilities_;
    std::vector<const char*> extensions;
    const auto want = [&](bool has, const char* name) {
        if (has) extensions.push_back(name);
    };
    want(!c.matrix_shapes.empty(), VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    want(c.executable_properties, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    want(c.memory_fd, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
    want(c.dma_buf, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
    want(c.host_import, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    want(c.memory_budget, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);

    const float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queue.queueFamilyIndex = c.queue_family;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    Features enabled = features_to_enable(offered);
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO};
    info.pNext = enabled.link(!c.matrix_shapes.empty(), c.executable_properties);
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queue;
    info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
    info.ppEnabledExtensionNames = extensions.data();
    if (const VkResult r = vkCreateDevice(physical_device_, &info, nullptr, &device_);
        r != VK_SUCCESS) {
        device_ = VK_NULL_HANDLE;
        return failed(r, fmt::format("{}: cannot be opened", name()));
    }
    volkLoadDeviceTable(&vk_, device_);
    vk_.vkGetDeviceQueue(device_, c.queue_family, 0, &queue_);

    // RADV without a GPU crashes in, or refuses, all that would run something.
    if (c.compiles_only) return {};

    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO};
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
    VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
    semaphore.pNext = &type;
    if (const VkResult r = vk_.vkCreateSemaphore(device_, &semaphore, nullptr, &timeline_);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkCreateSemaphore", name()));

    VmaVulkanFunctions functions = {};
    functions.vkGetInstanceProcAddr = vkGetInstanceProcAddr;
    functions.vkGetDeviceProcAddr = vkGetDeviceProcAddr;
    VmaAllocatorCreateInfo allocator = {};
    allocator.flags = VMA_ALLOCATOR_CREATE_BUFFER_DEVICE_ADDRESS_BIT |
                      (c.memory_budget ? VMA_ALLOCATOR_CREATE_EXT_MEMORY_BUDGET_BIT : 0);
    allocator.physicalDevice = physical_device_;
    allocator.device = device_;
    allocator.instance = instance_.handle();
    allocator.pVulkanFunctions = &functions;
    allocator.vulkanApiVersion = VK_API_VERSION_1_3;
    if (const VkResult r = vmaCreateAllocator(&allocator, &vma_); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vmaCreateAllocator", name()));
    return {};
}

Status VulkanDevice::create_pipeline_cache(const std::string& folder) {
    cache_folder_ = folder;
    cache_path_ = pipeline_cache_path(folder, capabilities_.cache_uuid);
    const std::vector<std::byte> data = load_pipeline_cache(cache_path_);
    cached_bytes_ = data.size();
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    info.initialDataSize = data.size();
    info.pInitialData = data.data();
    if (const VkResult r = vk_.vkCreatePipelineCache(device_, &info, nullptr, &pipeline_cache_);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkCreatePipelineCache", name()));
    return {};
}

Status VulkanDevice::save_pipeline_cache() {
    if (cache_path_.empty() || pipeline_cache_ == VK_NULL_HANDLE) return {};
    std::size_t n_bytes = 0;
    if (const VkResult r = vk_.vkGetPipelineCacheData(device_, pipeline_cache_, &n_bytes, nullptr);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkGetPipelineCacheData", name()));
    if (n_bytes == cached_bytes_) return {};
    std::vector<std::byte> data(n_bytes);
    if (const VkResult r =
            vk_.vkGetPipelineCacheData(device_, pipeline_cache_, &n_bytes, data.data());
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkGetPipelineCacheData", name()));
    data.resize(n_bytes);
    if (auto stored = store_pipeline_cache(cache_path_, data); !stored) return stored;
    cached_bytes_ = n_bytes;
    return {};
}

VulkanDevice::~VulkanDevice() {
    if (device_ == VK_NULL_HANDLE) return;
    if (submitted_ > 0) vk_.vkDeviceWaitIdle(device_);
    // A cache that cannot be kept costs the next start time and nothing else.
    static_cast<void>(save_pipeline_cache());
    vk_.vkDestroyPipelineCache(device_, pipeline_cache_, nullptr);
    if (vma_ != VK_NULL_HANDLE) vmaDestroyAllocator(vma_);
    vk_.vkDestroySemaphore(device_, timeline_, nullptr);
    vk_.vkDestroyDevice(device_, nullptr);
}

Result<std::uint64_t> VulkanDevice::submit(std::span<const VkCommandBuffer> commands) {
    std::array<VkCommandBufferSubmitInfo, 4> buffers = {};
    UNICORN_CHECK(!capabilities_.compiles_only && commands.size() <= buffers.size());
    const std::scoped_lock lock(queue_mutex_);
    // The queue keeps the order, and Commands::end() what memory shows to whom: no wait here.
    VkSemaphoreSubmitInfo after = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO};
    after.semaphore = timeline_;
    after.value = submitted_ + 1;
    after.stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT;
    for (std::size_t i = 0; i < commands.size(); ++i) {
        buffers[i].sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO;
        buffers[i].commandBuffer = commands[i];
    }
    VkSubmitInfo2 info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2};
    info.commandBufferInfoCount = static_cast<std::uint32_t>(commands.size());
    info.pCommandBufferInfos = buffers.data();
    info.signalSemaphoreInfoCount = 1;
    info.pSignalSemaphoreInfos = &after;
    if (const VkResult r = vk_.vkQueueSubmit2(queue_, 1, &info, VK_NULL_HANDLE); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkQueueSubmit2", name()));
    return ++submitted_;
}

Status VulkanDevice::wait(std::uint64_t value) {
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO};
    info.semaphoreCount = 1;
    info.pSemaphores = &timeline_;
    info.pValues = &value;
    // No limit of our own: the kernel ends a submission that hangs, and the device is then lost.
    if (const VkResult r = vk_.vkWaitSemaphores(device_, &info, UINT64_MAX); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkWaitSemaphores", name()));
    return {};
}

Result<std::uint64_t> VulkanDevice::finished() const {
    std::uint64_t value = 0;
    if (const VkResult r = vk_.vkGetSemaphoreCounterValue(device_, timeline_, &value);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkGetSemaphoreCounterValue", name()));
    return value;
}

Status VulkanDevice::run(const std::function<void(VkCommandBuffer)>& record) {
    auto commands = Commands::create(*this);
    if (!commands) return forward(commands);
    if (auto s = commands->begin(); !s) return s;
    record(commands->handle());
    if (auto s = commands->end(); !s) return s;
    auto ticket = submit(commands->handle());
    if (!ticket) return forward(ticket);
    return wait(*ticket);
}

Result<Commands> Commands::create(VulkanDevice& device) {
    Commands self(device);
    const VolkDeviceTable& vk = device.vk();
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.queueFamilyIndex = device.capabilities().queue_family;
    if (const VkResult r = vk.vkCreateCommandPool(device.handle(), &pool, nullptr, &self.pool_);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkCreateCommandPool", device.name()));
    VkCommandBufferAllocateInfo buffer = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    buffer.commandPool = self.pool_;
    buffer.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
    buffer.commandBufferCount = 1;
    if (const VkResult r = vk.vkAllocateCommandBuffers(device.handle(), &buffer, &self.buffer_);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkAllocateCommandBuffers", device.name()));
    return self;
}

Commands::Commands(Commands&& other) noexcept
    : device_(other.device_),
      pool_(std::exchange(other.pool_, VK_NULL_HANDLE)),
      buffer_(std::exchange(other.buffer_, VK_NULL_HANDLE)) {}

Commands& Commands::operator=(Commands&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(pool_, other.pool_);
    std::swap(buffer_, other.buffer_);
    return *this;
}

Commands::~Commands() {
    if (pool_ != VK_NULL_HANDLE)
        device_->vk().vkDestroyCommandPool(device_->handle(), pool_, nullptr);
}

Status Commands::begin(bool overlapping) {
    const VolkDeviceTable& vk = device_->vk();
    if (const VkResult r = vk.vkResetCommandPool(device_->handle(), pool_, 0); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkResetCommandPool", device_->name()));
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    if (overlapping) info.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
    if (const VkResult r = vk.vkBeginCommandBuffer(buffer_, &info); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkBeginCommandBuffer", device_->name()));
    return {};
}

Status Commands::end() {
    VkMemoryBarrier2 memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2};
    memory.srcStageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT;
    memory.srcAccessMask = VK_ACCESS_2_MEMORY_WRITE_BIT;
    memory.dstStageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_2_HOST_BIT;
    memory.dstAccessMask =
        VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT | VK_ACCESS_2_HOST_READ_BIT;
    VkDependencyInfo dependency = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO};
    dependency.memoryBarrierCount = 1;
    dependency.pMemoryBarriers = &memory;
    device_->vk().vkCmdPipelineBarrier2(buffer_, &dependency);
    if (const VkResult r = device_->vk().vkEndCommandBuffer(buffer_); r != VK_SUCCESS)
        return failed(r, fmt::format("{}: vkEndCommandBuffer", device_->name()));
    return {};
}

void memory_barrier(const VulkanDevice& device, VkCommandBuffer commands) {
    constexpr VkPipelineStageFlags2 kStages =
        VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT;
    VkMemoryBarrier2 memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2};
    memory.srcStageMask = kStages;
    memory.srcAccessMask = VK_ACCESS_2_MEMORY_WRITE_BIT;
    memory.dstStageMask = kStages;
    memory.dstAccessMask = VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT;
    VkDependencyInfo dependency = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO};
    dependency.memoryBarrierCount = 1;
    dependency.pMemoryBarriers = &memory;
    device.vk().vkCmdPipelineBarrier2(commands, &dependency);
}

void shader_barrier(const VulkanDevice& device, VkCommandBuffer commands) {
    VkMemoryBarrier2 memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2};
    memory.srcStageMask = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT;
    memory.srcAccessMask = VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT;
    memory.dstStageMask = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT;
    memory.dstAccessMask =
        VK_ACCESS_2_SHADER_STORAGE_READ_BIT | VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT;
    VkDependencyInfo dependency = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO};
    dependency.memoryBarrierCount = 1;
    dependency.pMemoryBarriers = &memory;
    device.vk().vkCmdPipelineBarrier2(commands, &dependency);
}

}  // namespace unicorn::backends::vulkan
