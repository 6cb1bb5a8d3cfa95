#pragma once
// What a device must have, and what it may have besides.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/vulkan/select_device.h"
#include "backends/vulkan/volk.h"
#include "memory/allocator.h"

namespace unicorn::backends::vulkan {

/// Features of a device, asked for or switched on. link() chains the parts for a Vulkan call.
struct Features {
    VkPhysicalDeviceFeatures2 core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceVulkan13Features v13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};

    /// Chains the parts, those of extensions only where the device has the extension. The chain
    /// points into this object: copies need their own link().
    VkPhysicalDeviceFeatures2* link(bool with_matrix, bool with_executables);
};

/// The names of the required features that `offered` lacks, as the specification spells them.
std::vector<std::string_view> missing_features(const Features& offered);
/// What a device is opened with: the required features, and those of use that `offered` has.
Features features_to_enable(const Features& offered);

/// C [m, n] += A [m, k] B [k, n], done by one subgroup.
struct MatrixShape {
    std::uint32_t m = 0, n = 0, k = 0;
    VkComponentTypeKHR a = {}, b = {}, c = {}, result = {};
};

/// Where a tier's memory comes from.
struct TierMemory {
    memory::Tier tier = memory::Tier::vram;
    std::uint32_t type_index = 0;  // among the device's memory types
    std::uint32_t heap_index = 0;
    std::uint64_t heap_bytes = 0;  // RADV's heaps on an APU are shares of all memory, not DIMMs
    bool host_visible = false;     // the CPU maps it, coherently
};

/// Whether memory is of a kind that is not for us: AMD's for debugging, lazily allocated,
/// protected.
constexpr bool is_strange(VkMemoryPropertyFlags flags) {
    return (flags & ~(VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                      VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT)) !=
           0;
}

/// The tiers of a device: `vram` in its largest device-local heap, mapped by the CPU too if
/// `unified` and possible; `gtt` in memory that the CPU maps, outside of the
/// device-local heaps where there is any. On a device with one heap both are the same memory.
std::vector<TierMemory> find_tiers(const VkPhysicalDeviceMemoryProperties& memory, bool unified);

/// What a device that is fit to be used has. Sizes in bytes.
struct Capabilities {
    DeviceDescription description;
    bool unified_memory = false;  // GPU and CPU share their DIMMs: integrated, or software
    bool compiles_only = false;   // RADV without a GPU (RADV_FORCE_FAMILY): no memory, runs nothing
    std::vector<TierMemory> tiers;           // vram, gtt; empty when it compiles only
    std::uint64_t max_allocation_bytes = 0;  // of one piece of memory
    std::uint64_t max_buffer_bytes = 0;
    std::uint32_t max_push_constant_bytes = 0;
    std::uint32_t max_workgroup_invocations = 0;
    std::uint32_t max_shared_bytes = 0;
    std::uint32_t subgroup_size = 0, min_subgroup_size = 0, max_subgroup_size = 0;
    std::uint32_t queue_family = 0;  // compute, without graphics where there is such a one
    std::uint32_t timestamp_bits = 0;
    double timestamp_period_ns = 0;

    std::vector<MatrixShape> matrix_shapes;  // VK_KHR_cooperative_matrix; empty: none
    bool dot4_accelerated = false;           // packed 4 x int8 dot products are one instruction
    bool int64 = false;                      // shaders have 64-bit integers
    bool host_import = false;                // VK_EXT_external_memory_host
    std::uint64_t host_import_alignment = 0;
    bool dma_buf = false;                // VK_EXT_external_memory_dma_buf
    bool memory_fd = false;              // VK_KHR_external_memory_fd
    bool memory_budget = false;          // VK_EXT_memory_budget
    bool executable_properties = false;  // VK_KHR_pipeline_executable_properties

    std::uint8_t cache_uuid[VK_UUID_SIZE] = {};   // of the driver's compiled pipelines
    std::uint8_t device_uuid[VK_UUID_SIZE] = {};  // of this GPU, whatever its driver

    const TierMemory* tier(memory::Tier which) const;
};

/// What `device` has. `validation_version`: of the validation layer that is on, else 0; a layer
/// that is older than cooperative matrices would call them errors, so they are then left out.
/// Errors: unsupported, when it lacks something required: names all that is missing.
Result<Capabilities> query_capabilities(VkPhysicalDevice device,
                                        const DeviceDescription& description,
                                        std::uint32_t validation_version, Features& offered);

}  // namespace unicorn::backends::vulkan
