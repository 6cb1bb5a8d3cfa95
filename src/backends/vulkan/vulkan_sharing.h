#pragma once
// A Vulkan device's part in shared buffers.

#include "backends/vulkan/vulkan_buffer.h"
#include "memory/shared_buffer.h"

namespace unicorn::backends::vulkan {

/// The device must outlive this, and this the buffers made with it.
class VulkanSharing final : public memory::SharingDevice {
public:
    explicit VulkanSharing(VulkanDevice& device) : device_(device) {}

    std::string_view name() const override { return device_.name(); }
    std::size_t alignment() const override;
    Result<memory::ExportedBuffer> export_dma_buf(std::size_t bytes) override;
    Result<std::unique_ptr<memory::DeviceView>> import_dma_buf(int dma_buf,
                                                               std::size_t bytes) override;
    Result<std::unique_ptr<memory::DeviceView>> import_host_pages(
        std::span<std::byte> pages) override;
    /// In the device's `vram` tier.
    Result<std::unique_ptr<memory::DeviceMirror>> mirror(std::size_t bytes) override;

private:
    VulkanDevice& device_;
};

}  // namespace unicorn::backends::vulkan
