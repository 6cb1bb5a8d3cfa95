#pragma once
// The part of Vulkan 1.1's binary interface that asking what devices there are takes: a frozen
// interface, written out here so that building needs no Vulkan headers and running no loader.
// Names, order and numbers are those of vulkan_core.h; vulkan_abi_test.cpp compares the two where
// that header is installed.

#include <cstdint>

namespace unicorn::machine::vk {

using Instance = struct InstanceHandle*;
using PhysicalDevice = struct PhysicalDeviceHandle*;
using AnyFunction = void (*)();

enum : std::int32_t { kSuccess = 0, kIncomplete = 5, kErrorIncompatibleDriver = -9 };
enum StructureType : std::int32_t {
    kApplicationInfo = 0,
    kInstanceCreateInfo = 1,
    kPhysicalDeviceProperties2 = 1000059001,
    kPhysicalDeviceMemoryProperties2 = 1000059006,
    kPhysicalDeviceDriverProperties = 1000196000,
    kPhysicalDevicePciBusInfo = 1000212000,
    kPhysicalDeviceMemoryBudget = 1000237000,
};
constexpr std::uint32_t kVersion11 = 1u << 22 | 1u << 12;
constexpr std::uint32_t kHeapDeviceLocal = 1;

struct ApplicationInfo {
    StructureType type = kApplicationInfo;
    const void* next = nullptr;
    const char* application_name = nullptr;
    std::uint32_t application_version = 0;
    const char* engine_name = nullptr;
    std::uint32_t engine_version = 0;
    std::uint32_t api_version = 0;
};

struct InstanceCreateInfo {
    StructureType type = kInstanceCreateInfo;
    const void* next = nullptr;
    std::uint32_t flags = 0;
    const ApplicationInfo* application_info = nullptr;
    std::uint32_t n_layers = 0;
    const char* const* layers = nullptr;
    std::uint32_t n_extensions = 0;
    const char* const* extensions = nullptr;
};

struct PhysicalDeviceProperties {
    std::uint32_t api_version;
    std::uint32_t driver_version;
    std::uint32_t vendor_id;
    std::uint32_t device_id;
    std::uint32_t device_type;
    char device_name[256];
    std::uint8_t pipeline_cache_uuid[16];
    alignas(8) std::uint8_t limits[504];  // VkPhysicalDeviceLimits, of which we read nothing
    std::uint32_t sparse_properties[5];
};

struct PhysicalDeviceProperties2 {
    StructureType type = kPhysicalDeviceProperties2;
    void* next = nullptr;
    PhysicalDeviceProperties properties = {};
};

struct PhysicalDeviceDriverProperties {
    StructureType type = kPhysicalDeviceDriverProperties;
    void* next = nullptr;
    std::uint32_t driver_id = 0;
    char driver_name[256] = {};
    char driver_info[256] = {};
    std::uint8_t conformance_version[4] = {};
};

struct PhysicalDevicePciBusInfo {
    StructureType type = kPhysicalDevicePciBusInfo;
    void* next = nullptr;
    std::uint32_t domain = 0, bus = 0, device = 0, function = 0;
};

struct MemoryType {
    std::uint32_t flags;
    std::uint32_t heap;
};
struct MemoryHeap {
    std::uint64_t bytes;
    std::uint32_t flags;
};
constexpr std::uint32_t kMaxMemoryTypes = 32, kMaxMemoryHeaps = 16;

struct PhysicalDeviceMemoryProperties {
    std::uint32_t n_types;
    MemoryType types[kMaxMemoryTypes];
    std::uint32_t n_heaps;
    MemoryHeap heaps[kMaxMemoryHeaps];
};

struct PhysicalDeviceMemoryProperties2 {
    StructureType type = kPhysicalDeviceMemoryProperties2;
    void* next = nullptr;
    PhysicalDeviceMemoryProperties properties = {};
};

struct PhysicalDeviceMemoryBudget {
    StructureType type = kPhysicalDeviceMemoryBudget;
    void* next = nullptr;
    std::uint64_t budget_bytes[kMaxMemoryHeaps] = {};
    std::uint64_t used_bytes[kMaxMemoryHeaps] = {};
};

struct ExtensionProperties {
    char name[256];
    std::uint32_t version;
};

using GetInstanceProcAddr = AnyFunction (*)(Instance, const char*);
using EnumerateInstanceVersion = std::int32_t (*)(std::uint32_t*);
using CreateInstance = std::int32_t (*)(const InstanceCreateInfo*, const void*, Instance*);
using DestroyInstance = void (*)(Instance, const void*);
using EnumeratePhysicalDevices = std::int32_t (*)(Instance, std::uint32_t*, PhysicalDevice*);
using EnumerateDeviceExtensionProperties = std::int32_t (*)(PhysicalDevice, const char*,
                                                            std::uint32_t*, ExtensionProperties*);
using GetPhysicalDeviceProperties = void (*)(PhysicalDevice, PhysicalDeviceProperties*);
using GetPhysicalDeviceProperties2 = void (*)(PhysicalDevice, PhysicalDeviceProperties2*);
using GetPhysicalDeviceMemoryProperties2 = void (*)(PhysicalDevice,
                                                    PhysicalDeviceMemoryProperties2*);

}  // namespace unicorn::machine::vk
