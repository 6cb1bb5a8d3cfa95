#include "backends/vulkan/vulkan_sharing.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "backends/vulkan/vulkan_error.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

/// A buffer over memory that came from outside, or that goes there. It is put together step by
/// step, and gives back what it has got whenever a step fails.
class ExternalView final : public memory::DeviceView {
public:
    ExternalView(VulkanDevice& device, VkExternalMemoryHandleTypeFlagBits type, std::size_t bytes)
        : device_(device), type_(type), bytes_(bytes) {}
    ~ExternalView() override {
        const VolkDeviceTable& vk = device_.vk();
        vk.vkDestroyBuffer(device_.handle(), buffer_, nullptr);
        vk.vkFreeMemory(device_.handle(), memory_, nullptr);
    }

    std::uint64_t device_address() const override { return address_; }
    VkDeviceMemory memory() const { return memory_; }

    /// Errors: unsupported, when the driver does not do `wanted` with buffers of ours.
    Status create_buffer(VkExternalMemoryFeatureFlags wanted) {
        VkPhysicalDeviceExternalBufferInfo asked = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO};
        asked.usage = kBufferUsage;
        asked.handleType = type_;
        VkExternalBufferProperties offered = {.sType =
                                                  VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
        vkGetPhysicalDeviceExternalBufferProperties(device_.physical_device(), &asked, &offered);
        if ((offered.externalMemoryProperties.externalMemoryFeatures & wanted) != wanted) {
            return fail(
                ErrorCode::unsupported, "the driver {} no such buffers",
                wanted == VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT ? "exports" : "imports");
        }
        VkExternalMemoryBufferCreateInfo external = {
            .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO};
        external.handleTypes = type_;
        VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
        info.pNext = &external;
        info.size = bytes_;
        info.usage = kBufferUsage;
        if (const VkResult r =
                device_.vk().vkCreateBuffer(device_.handle(), &info, nullptr, &buffer_);
            r != VK_SUCCESS)
            return failed(r, "vkCreateBuffer");
        return {};
    }

    /// The memory types that both the buffer and `allowed` can have: one that the CPU maps
    /// coherently first, outside of the device's own memory first.
    std::optional<std::uint32_t> choose_type(std::uint32_t allowed, bool must_map) const {
        VkMemoryRequirements needs = {};
        device_.vk().vkGetBufferMemoryRequirements(device_.handle(), buffer_, &needs);
        VkPhysicalDeviceMemoryProperties memory = {};
        vkGetPhysicalDeviceMemoryProperties(device_.physical_device(), &memory);
        for (const VkMemoryPropertyFlags unwanted :
             {VkMemoryPropertyFlags(VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT),
              VkMemoryPropertyFlags(0)}) {
            for (const VkMemoryPropertyFlags wanted : {kMapped, VkMemoryPropertyFlags(0)}) {
                if (must_map && wanted == 0) continue;
                for (std::uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
                    const VkMemoryPropertyFlags flags = memory.memoryTypes[i].propertyFlags;
                    if ((allowed & needs.memoryTypeBits & (1U << i)) == 0) continue;
                    if ((flags & wanted) == wanted && (flags & unwanted) == 0) return i;
                }
            }
        }
        return std::nullopt;
    }

    /// Allocates with `extra` chained in: an import or an export.
    Status bind(std::uint32_t memory_type, const void* extra, bool dedicated) {
        const VolkDeviceTable& vk = device_.vk();
        VkMemoryRequirements needs = {};
        vk.vkGetBufferMemoryRequirements(device_.handle(), buffer_, &needs);
        VkMemoryDedicatedAllocateInfo own = {.sType =
                                                 VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO};
        own.pNext = extra;
        own.buffer = buffer_;
        VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO};
        flags.pNext = dedicated ? &own : extra;
        flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT;
        VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
        info.pNext = &flags;
        info.allocationSize = dedicated ? needs.size : bytes_;
        info.memoryTypeIndex = memory_type;
        if (info.allocationSize < needs.size) {  // what is imported has the size it has
            return fail(ErrorCode::unsupported, "the driver needs {} bytes for a buffer of {}",
                        needs.size, bytes_);
        }
        if (const VkResult r = vk.vkAllocateMemory(device_.handle(), &info, nullptr, &memory_);
            r != VK_SUCCESS)
            return failed(r, "vkAllocateMemory");
        if (const VkResult r = vk.vkBindBufferMemory(device_.handle(), buffer_, memory_, 0);
            r != VK_SUCCESS)
            return failed(r, "vkBindBufferMemory");
        VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
        address.buffer = buffer_;
        address_ = vk.vkGetBufferDeviceAddress(device_.handle(), &address);
        return {};
    }

private:
    VulkanDevice& device_;
    VkExternalMemoryHandleTypeFlagBits type_;
    std::size_t bytes_;
    VkBuffer buffer_ = VK_NULL_HANDLE;
    VkDeviceMemory memory_ = VK_NULL_HANDLE;
    std::uint64_t address_ = 0;
};

class Mirror final : public memory::DeviceMirror {
public:
    explicit Mirror(VulkanBuffer buffer) : buffer_(std::move(buffer)) {}
    std::uint64_t device_address() const override { return buffer_.device_address(); }
    Status upload(std::size_t offset, std::span<const std::byte> from) override {
        return buffer_.upload(offset, from);
    }
    Status download(std::size_t offset, std::span<std::byte> to) override {
        return buffer_.download(offset, to);
    }

private:
    VulkanBuffer buffer_;
};

Status check_size(const VulkanDevice& device, std::size_t bytes) {
    const Capabilities& c = device.capabilities();
    const std::uint64_t most = std::min(c.max_allocation_bytes, c.max_buffer_bytes);
    if (bytes <= most) return {};
    return fail(ErrorCode::out_of_memory, "{} bytes in one piece, at most {}", bytes, most);
}

}  // namespace

std::size_t VulkanSharing::alignment() const {
    return std::max<std::size_t>(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)),
                                 std::bit_ceil(device_.capabilities().host_import_alignment));
}

Result<memory::ExportedBuffer> VulkanSharing::export_dma_buf(std::size_t bytes) {
    if (!device_.capabilities().dma_buf)
        return fail(ErrorCode::unsupported, "no VK_EXT_external_memory_dma_buf");
    if (auto s = check_size(device_, bytes); !s) return forward(s);
    constexpr auto kType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
    auto view = std::make_unique<ExternalView>(device_, kType, bytes);
    if (auto s = view->create_buffer(VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT); !s)
        return forward(s);
    const auto type = view->choose_type(~0U, true);
    if (!type) return fail(ErrorCode::unsupported, "no memory that the CPU maps can be exported");
    VkExportMemoryAllocateInfo exporting = {.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO};
    exporting.handleTypes = kType;
    if (auto s = view->bind(*type, &exporting, true); !s) return forward(s);

    memory::ExportedBuffer out;
    VkMemoryGetFdInfoKHR get = {.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR};
    get.memory = view->memory();
    get.handleType = kType;
    int fd = -1;
    if (const VkResult r = device_.vk().vkGetMemoryFdKHR(device_.handle(), &get, &fd);
        r != VK_SUCCESS)
        return failed(r, "vkGetMemoryFdKHR");
    out.dma_buf = FileDescriptor(fd);
    void* host = nullptr;
    if (const VkResult r =
            device_.vk().vkMapMemory(device_.handle(), view->memory(), 0, VK_WHOLE_SIZE, 0, &host);
        r != VK_SUCCESS)
        return failed(r, "vkMapMemory of what is exported");
    out.host = static_cast<std::byte*>(host);
    out.view = std::move(view);
    return out;
}

Result<std::unique_ptr<memory::DeviceView>> VulkanSharing::import_dma_buf(int dma_buf,
                                                                          std::size_t bytes) {
    if (!device_.capabilities().dma_buf)
        return fail(ErrorCode::unsupported, "no VK_EXT_external_memory_dma_buf");
    if (auto s = check_size(device_, bytes); !s) return forward(s);
    constexpr auto kType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
    auto view = std::make_unique<ExternalView>(device_, kType, bytes);
    if (auto s = view->create_buffer(VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT); !s)
        return forward(s);
    VkMemoryFdPropertiesKHR properties = {.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR};
    if (const VkResult r =
            device_.vk().vkGetMemoryFdPropertiesKHR(device_.handle(), kType, dma_buf, &properties);
        r != VK_SUCCESS)
        return failed(r, "vkGetMemoryFdPropertiesKHR");
    const auto type = view->choose_type(properties.memoryTypeBits, false);
    if (!type) return fail(ErrorCode::unsupported, "no memory type takes this dma-buf");
    // A successful import owns the descriptor it is given.
    FileDescriptor own(::dup(dma_buf));
    if (!own) return fail(ErrorCode::io, "dup: {}", std::strerror(errno));
    VkImportMemoryFdInfoKHR importing = {.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR};
    importing.handleType = kType;
    importing.fd = own.get();
    auto bound = view->bind(*type, &importing, false);
    if (view->memory() != VK_NULL_HANDLE) own.release();
    if (!bound) return forward(bound);
    return view;
}

Result<std::unique_ptr<memory::DeviceView>> VulkanSharing::import_host_pages(
    std::span<std::byte> pages) {
    if (!device_.capabilities().host_import)
        return fail(ErrorCode::unsupported, "no VK_EXT_external_memory_host");
    if (auto s = check_size(device_, pages.size()); !s) return forward(s);
    constexpr auto kType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    auto view = std::make_unique<ExternalView>(device_, kType, pages.size());
    if (auto s = view->create_buffer(VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT); !s)
        return forward(s);
    VkMemoryHostPointerPropertiesEXT properties = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    if (const VkResult r = device_.vk().vkGetMemoryHostPointerPropertiesEXT(
            device_.handle(), kType, pages.data(), &properties);
        r != VK_SUCCESS)
        return failed(r, "vkGetMemoryHostPointerPropertiesEXT");
    const auto type = view->choose_type(properties.memoryTypeBits, true);
    if (!type) return fail(ErrorCode::unsupported, "no coherent memory type takes host pages");
    VkImportMemoryHostPointerInfoEXT importing = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT};
    importing.handleType = kType;
    importing.pHostPointer = pages.data();
    if (auto s = view->bind(*type, &importing, false); !s) return forward(s);
    return view;
}

Result<std::unique_ptr<memory::DeviceMirror>> VulkanSharing::mirror(std::size_t bytes) {
    auto buffer =
        VulkanBuffer::create(device_, bytes, *device_.capabilities().tier(memory::Tier::vram));
    if (!buffer) return forward(buffer);
    if (auto s = buffer->clear(); !s) return forward(s);
    return std::make_unique<Mirror>(std::move(*buffer));
}

}  // namespace unicorn::backends::vulkan
