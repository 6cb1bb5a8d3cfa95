#include "machine/vulkan_probe.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "machine/vulkan_abi.h"

namespace unicorn::machine {
namespace {

/// More devices than any machine has: bounds what a broken driver can make us do.
constexpr std::uint32_t kMaxDevices = 64;

/// A text of fixed size that a driver may have left without its zero.
template <std::size_t N>
std::string text_of(const char (&text)[N]) {
    return std::string(text, std::find(text, text + N, '\0'));
}

std::string version_text(std::uint32_t version) {
    return fmt::format("{}.{}.{}", version >> 22 & 0x7F, version >> 12 & 0x3FF, version & 0xFFF);
}

class Probe {
public:
    /// What is missing, or "".
    std::string start(vk::GetInstanceProcAddr get) {
        get_ = get;
        const auto version_of = global<vk::EnumerateInstanceVersion>("vkEnumerateInstanceVersion");
        std::uint32_t version = 0;
        if (version_of == nullptr || version_of(&version) != vk::kSuccess ||
            version < vk::kVersion11)
            return "the Vulkan loader is older than Vulkan 1.1";
        const auto create = global<vk::CreateInstance>("vkCreateInstance");
        if (create == nullptr) return "the Vulkan loader has no vkCreateInstance";
        vk::ApplicationInfo application;
        application.application_name = "unicorn";
        application.api_version = version;
        vk::InstanceCreateInfo info;
        info.application_info = &application;
        const std::int32_t result = create(&info, nullptr, &instance_);
        if (result == vk::kErrorIncompatibleDriver) return "no Vulkan driver works here";
        if (result != vk::kSuccess)
            return fmt::format("the Vulkan loader failed with code {}", result);
        return {};
    }

    ~Probe() {
        if (instance_ == nullptr) return;
        if (const auto destroy = of_instance<vk::DestroyInstance>("vkDestroyInstance"))
            destroy(instance_, nullptr);
    }

    std::string list(std::vector<VulkanDevice>& devices) {
        const auto enumerate =
            of_instance<vk::EnumeratePhysicalDevices>("vkEnumeratePhysicalDevices");
        properties_ = of_instance<vk::GetPhysicalDeviceProperties>("vkGetPhysicalDeviceProperties");
        properties2_ =
            of_instance<vk::GetPhysicalDeviceProperties2>("vkGetPhysicalDeviceProperties2");
        memory2_ = of_instance<vk::GetPhysicalDeviceMemoryProperties2>(
            "vkGetPhysicalDeviceMemoryProperties2");
        extensions_ = of_instance<vk::EnumerateDeviceExtensionProperties>(
            "vkEnumerateDeviceExtensionProperties");
        if (enumerate == nullptr || properties_ == nullptr || properties2_ == nullptr ||
            memory2_ == nullptr || extensions_ == nullptr)
            return "the Vulkan loader lacks functions of Vulkan 1.1";
        std::vector<vk::PhysicalDevice> handles(kMaxDevices);
        std::uint32_t n = kMaxDevices;
        const std::int32_t result = enumerate(instance_, &n, handles.data());
        if (result != vk::kSuccess && result != vk::kIncomplete)
            return fmt::format("Vulkan's devices cannot be listed (code {})", result);
        handles.resize(std::min(n, kMaxDevices));
        for (const vk::PhysicalDevice handle : handles) devices.push_back(describe(handle));
        return handles.empty() ? "no Vulkan driver finds a device" : "";
    }

private:
    template <typename F>
    F global(const char* name) const {
        return reinterpret_cast<F>(get_(nullptr, name));
    }
    template <typename F>
    F of_instance(const char* name) const {
        return reinterpret_cast<F>(get_(instance_, name));
    }

    std::vector<std::string> extensions_of(vk::PhysicalDevice handle) const {
        std::uint32_t n = 0;
        if (extensions_(handle, nullptr, &n, nullptr) != vk::kSuccess) return {};
        std::vector<vk::ExtensionProperties> list(n);
        const std::int32_t result = extensions_(handle, nullptr, &n, list.data());
        if (result != vk::kSuccess && result != vk::kIncomplete) return {};
        std::vector<std::string> names;
        for (std::size_t i = 0; i < std::min<std::size_t>(n, list.size()); ++i)
            names.push_back(text_of(list[i].name));
        return names;
    }

    VulkanDevice describe(vk::PhysicalDevice handle) const {
        const std::vector<std::string> names = extensions_of(handle);
        const auto has = [&names](std::string_view name) {
            return std::find(names.begin(), names.end(), name) != names.end();
        };
        VulkanDevice device;
        device.cooperative_matrix = has("VK_KHR_cooperative_matrix");
        device.external_memory_host = has("VK_EXT_external_memory_host");
        device.dma_buf = has("VK_EXT_external_memory_dma_buf");

        vk::PhysicalDeviceProperties basic{};
        properties_(handle, &basic);
        device.name = text_of(basic.device_name);
        device.type = basic.device_type <= static_cast<std::uint32_t>(VulkanType::cpu)
                          ? static_cast<VulkanType>(basic.device_type)
                          : VulkanType::other;
        device.vendor_id = basic.vendor_id;
        device.device_id = basic.device_id;
        device.api_version = version_text(basic.api_version);
        if (basic.api_version < vk::kVersion11) return device;

        vk::PhysicalDeviceProperties2 all;
        vk::PhysicalDeviceDriverProperties driver;
        vk::PhysicalDevicePciBusInfo pci;
        const bool has_driver =
            basic.api_version >= (1u << 22 | 2u << 12) || has("VK_KHR_driver_properties");
        const bool has_pci = has("VK_EXT_pci_bus_info");
        if (has_pci) all.next = &pci;
        if (has_driver) {
            driver.next = all.next;
            all.next = &driver;
        }
        properties2_(handle, &all);
        device.driver_name = text_of(driver.driver_name);
        device.driver_info = text_of(driver.driver_info);
        if (has_pci)
            device.pci_address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus,
                                             pci.device, pci.function);

        vk::PhysicalDeviceMemoryProperties2 memory;
        vk::PhysicalDeviceMemoryBudget budget;
        const bool has_budget = has("VK_EXT_memory_budget");
        if (has_budget) memory.next = &budget;
        memory2_(handle, &memory);
        const std::uint32_t n = std::min(memory.properties.n_heaps, vk::kMaxMemoryHeaps);
        for (std::uint32_t i = 0; i < n; ++i) {
            VulkanHeap heap{
                .bytes = memory.properties.heaps[i].bytes,
                .device_local = (memory.properties.heaps[i].flags & vk::kHeapDeviceLocal) != 0,
                .budget_bytes = {}};
            if (has_budget) heap.budget_bytes = budget.budget_bytes[i];
            device.heaps.push_back(heap);
        }
        return device;
    }

    vk::GetInstanceProcAddr get_ = nullptr;
    vk::Instance instance_ = nullptr;
    vk::GetPhysicalDeviceProperties properties_ = nullptr;
    vk::GetPhysicalDeviceProperties2 properties2_ = nullptr;
    vk::GetPhysicalDeviceMemoryProperties2 memory2_ = nullptr;
    vk::EnumerateDeviceExtensionProperties extensions_ = nullptr;
};

}  // namespace

VulkanFacts probe_vulkan(const char* library_name) {
    VulkanFacts facts;
    facts.asked = true;
    // Never closed: drivers have threads and exit handlers that outlive an unloaded library.
    void* const library = ::dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        facts.problem = fmt::format("there is no {}", library_name);
        return facts;
    }
    facts.loader_installed = true;
    const auto get =
        reinterpret_cast<vk::GetInstanceProcAddr>(::dlsym(library, "vkGetInstanceProcAddr"));
    if (get == nullptr) {
        facts.problem = fmt::format("{} is no Vulkan loader", library_name);
        return facts;
    }
    Probe probe;
    facts.problem = probe.start(get);
    if (facts.problem.empty()) facts.problem = probe.list(facts.devices);
    return facts;
}

}  // namespace unicorn::machine
