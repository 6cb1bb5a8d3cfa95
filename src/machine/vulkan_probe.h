#pragma once
// The Vulkan devices of this machine. The loader is opened when asked, never linked: the program
// starts without one.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace unicorn::machine {

enum class VulkanType { other, integrated, discrete, virtual_gpu, cpu };  // as Vulkan numbers them

struct VulkanHeap {
    std::uint64_t bytes = 0;
    bool device_local = false;
    std::optional<std::uint64_t> budget_bytes;  // VK_EXT_memory_budget: what this process may have
};

struct VulkanDevice {
    std::string name = {};  // "AMD Radeon 780M (RADV PHOENIX)"
    VulkanType type = VulkanType::other;
    std::uint32_t vendor_id = 0, device_id = 0;
    std::string api_version = {};  // "1.4.305"
    std::string driver_name = {};  // "radv"
    std::string driver_info = {};  // "Mesa 25.0.7-2"
    std::string pci_address = {};  // "0000:c6:00.0"; empty when the driver does not tell
    std::vector<VulkanHeap> heaps = {};
    bool cooperative_matrix = false;    // VK_KHR_cooperative_matrix
    bool external_memory_host = false;  // VK_EXT_external_memory_host
    bool dma_buf = false;               // VK_EXT_external_memory_dma_buf
};

struct VulkanFacts {
    bool asked = false;                     // whether the loader was tried (not below another root)
    bool loader_installed = false;          // libvulkan.so.1 is there
    std::vector<std::string> drivers = {};  // manifests installed: "radeon_icd.x86_64.json"
    std::string problem = {};               // why there are no devices; empty when all went well
    std::vector<VulkanDevice> devices = {};
};

/// Opens `library` and asks for all devices. Never an error: `problem` says what failed.
VulkanFacts probe_vulkan(const char* library = "libvulkan.so.1");

}  // namespace unicorn::machine
