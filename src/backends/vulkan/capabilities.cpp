#include "backends/vulkan/capabilities.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "backends/vulkan/vulkan_error.h"

namespace unicorn::backends::vulkan {
namespace {

// VK_KHR_cooperative_matrix came with headers 1.3.255.
constexpr std::uint32_t kMatrixVersion = VK_MAKE_API_VERSION(0, 1, 3, 255);

/// A feature by name, and where it lies in Features.
// Of the largest shaders: tiles of attention, norms of 8,192 columns.
constexpr std::uint32_t kLeastSharedBytes = 32768, kLeastInvocations = 1024;

struct Feature {
    std::string_view name;
    VkBool32& (*in)(Features&);
};

// clang-format off
constexpr Feature kRequired[] = {
    {"shaderInt16", [](Features& f) -> VkBool32& { return f.core.features.shaderInt16; }},
    {"storageBuffer16BitAccess", [](Features& f) -> VkBool32& { return f.v11.storageBuffer16BitAccess; }},
    {"storageBuffer8BitAccess", [](Features& f) -> VkBool32& { return f.v12.storageBuffer8BitAccess; }},
    {"shaderInt8", [](Features& f) -> VkBool32& { return f.v12.shaderInt8; }},
    {"shaderFloat16", [](Features& f) -> VkBool32& { return f.v12.shaderFloat16; }},
    {"bufferDeviceAddress", [](Features& f) -> VkBool32& { return f.v12.bufferDeviceAddress; }},
    {"timelineSemaphore", [](Features& f) -> VkBool32& { return f.v12.timelineSemaphore; }},
    {"synchronization2", [](Features& f) -> VkBool32& { return f.v13.synchronization2; }},
    {"subgroupSizeControl", [](Features& f) -> VkBool32& { return f.v13.subgroupSizeControl; }},
    {"maintenance4", [](Features& f) -> VkBool32& { return f.v13.maintenance4; }},
};
constexpr Feature kOptional[] = {
    {"shaderInt64", [](Features& f) -> VkBool32& { return f.core.features.shaderInt64; }},
    {"scalarBlockLayout", [](Features& f) -> VkBool32& { return f.v12.scalarBlockLayout; }},
    {"vulkanMemoryModel", [](Features& f) -> VkBool32& { return f.v12.vulkanMemoryModel; }},
    {"vulkanMemoryModelDeviceScope", [](Features& f) -> VkBool32& { return f.v12.vulkanMemoryModelDeviceScope; }},
    {"computeFullSubgroups", [](Features& f) -> VkBool32& { return f.v13.computeFullSubgroups; }},
    {"shaderIntegerDotProduct", [](Features& f) -> VkBool32& { return f.v13.shaderIntegerDotProduct; }},
    {"cooperativeMatrix", [](Features& f) -> VkBool32& { return f.matrix.cooperativeMatrix; }},
    {"pipelineExecutableInfo", [](Features& f) -> VkBool32& { return f.executables.pipelineExecutableInfo; }},
};
// clang-format on

std::vector<std::string> extensions_of(VkPhysicalDevice device) {
    std::uint32_t count = 0;
    vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr);
    std::vector<VkExtensionProperties> properties(count);
    vkEnumerateDeviceExtensionProperties(device, nullptr, &count, properties.data());
    std::vector<std::string> names;
    names.reserve(count);
    for (const auto& p : properties) names.emplace_back(p.extensionName);
    return names;
}

// The family to compute on: one without graphics runs beside the desktop's own work.
std::optional<std::uint32_t> find_compute_family(VkPhysicalDevice device, std::uint32_t& bits) {
    std::uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
    for (const bool with_graphics : {false, true}) {
        for (std::uint32_t i = 0; i < count; ++i) {
            const VkQueueFlags flags = families[i].queueFlags;
            if ((flags & VK_QUEUE_COMPUTE_BIT) == 0) continue;
            if (((flags & VK_QUEUE_GRAPHICS_BIT) != 0) != with_graphics) continue;
            bits = families[i].timestampValidBits;
            return i;
        }
    }
    return std::nullopt;
}

std::vector<MatrixShape> matrix_shapes_of(VkPhysicalDevice device) {
    std::uint32_t count = 0;
    if (vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, nullptr) != VK_SUCCESS)
        return {};
    std::vector<VkCooperativeMatrixPropertiesKHR> properties(
        count, {.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR});
    if (vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, properties.data()) < 0)
        return {};
    std::vector<MatrixShape> shapes;
    for (const auto& p : properties) {
        if (p.scope != VK_SCOPE_SUBGROUP_KHR || p.saturatingAccumulation) continue;
        shapes.push_back({.m = p.MSize,
                          .n = p.NSize,
                          .k = p.KSize,
                          .a = p.AType,
                          .b = p.BType,
                          .c = p.CType,
                          .result = p.ResultType});
    }
    return shapes;
}

}  // namespace

VkPhysicalDeviceFeatures2* Features::link(bool with_matrix, bool with_executables) {
    core.pNext = &v11;
    v11.pNext = &v12;
    v12.pNext = &v13;
    void** end = &v13.pNext;
    *end = nullptr;
    if (with_matrix) {
        *end = &matrix;
        end = &matrix.pNext;
    }
    if (with_executables) {
        *end = &executables;
        end = &executables.pNext;
    }
    *end = nullptr;
    return &core;
}

std::vector<std::string_view> missing_features(const Features& offered) {
    Features copy = offered;
    std::vector<std::string_view> missing;
    for (const Feature& feature : kRequired)
        if (feature.in(copy) != VK_TRUE) missing.push_back(feature.name);
    return missing;
}

Features features_to_enable(const Features& offered) {
    Features copy = offered;
    Features enabled;
    for (const Feature& feature : kRequired) feature.in(enabled) = VK_TRUE;
    for (const Feature& feature : kOptional) feature.in(enabled) = feature.in(copy);
    return enabled;
}

std::vector<TierMemory> find_tiers(const VkPhysicalDeviceMemoryProperties& memory, bool unified) {
    constexpr VkMemoryPropertyFlags kMapped =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    // Higher is better; the first of the best wins, since drivers list faster types first.
    const auto best = [&](memory::Tier tier, auto&& score) -> std::optional<TierMemory> {
        std::optional<TierMemory> found;
        double best_score = 0;
        for (std::uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
            const VkMemoryType& type = memory.memoryTypes[i];
            if (is_strange(type.propertyFlags)) continue;
            const VkDeviceSize heap_bytes = memory.memoryHeaps[type.heapIndex].size;
            const double s = score(type.propertyFlags, static_cast<double>(heap_bytes));
            if (s <= best_score) continue;
            best_score = s;
            found = TierMemory{.tier = tier,
                               .type_index = i,
                               .heap_index = type.heapIndex,
                               .heap_bytes = heap_bytes,
                               .host_visible = (type.propertyFlags & kMapped) == kMapped};
        }
        return found;
    };
    const auto is = [](VkMemoryPropertyFlags flags, VkMemoryPropertyFlags wanted) {
        return (flags & wanted) == wanted;
    };

    std::vector<TierMemory> tiers;
    // The heap's size decides (a discrete GPU without resizable BAR has a window of 256 MiB that
    // the CPU maps); within the heap, mapped is better where the CPU writes it at full speed.
    if (auto vram = best(memory::Tier::vram, [&](VkMemoryPropertyFlags flags, double heap) {
            if (!is(flags, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)) return 0.0;
            return heap * (is(flags, kMapped) == unified ? 1.001 : 1.0);
        }))
        tiers.push_back(*vram);
    // Outside of the GPU's own memory. Uncached before cached: the CPU only writes weights, and
    // snooping its caches costs the GPU bandwidth on AMD.
    if (auto gtt = best(memory::Tier::gtt, [&](VkMemoryPropertyFlags flags, double heap) {
            if (!is(flags, kMapped)) return 0.0;
            double score = heap;
            if (is(flags, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)) score *= 1e-6;
            if (is(flags, VK_MEMORY_PROPERTY_HOST_CACHED_BIT)) score *= 0.999;
            return score;
        }))
        tiers.push_back(*gtt);
    return tiers;
}

const TierMemory* Capabilities::tier(memory::Tier which) const {
    const auto found = std::find_if(tiers.begin(), tiers.end(),
                                    [&](const TierMemory& t) { return t.tier == which; });
    return found == tiers.end() ? nullptr : &*found;
}

Result<Capabilities> query_capabilities(VkPhysicalDevice device,
                                        const DeviceDescription& description,
                                        std::uint32_t validation_version, Features& offered) {
    if (description.api_version < VK_API_VERSION_1_3) {
        return fail(ErrorCode::unsupported, "{}: needs Vulkan 1.3, has {}.{}", description.name,
                    VK_API_VERSION_MAJOR(description.api_version),
                    VK_API_VERSION_MINOR(description.api_version));
    }
    Capabilities out;
    out.description = description;

    const std::vector<std::string> extensions = extensions_of(device);
    const auto has = [&](const char* name) {
        return std::find(extensions.begin(), extensions.end(), name) != extensions.end();
    };
    bool matrix = has(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    if (validation_version != 0 && validation_version < kMatrixVersion) matrix = false;
    const bool executables = has(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);

    vkGetPhysicalDeviceFeatures2(device, offered.link(matrix, executables));
    if (const auto missing = missing_features(offered); !missing.empty()) {
        return fail(ErrorCode::unsupported, "{}: lacks {}, which Unicorn's shaders need",
                    description.name, fmt::join(missing, ", "));
    }
    // WMMA's own memory model; RADV and NVIDIA have both or neither.
    matrix = matrix && offered.matrix.cooperativeMatrix && offered.v12.vulkanMemoryModel;
    offered.matrix.cooperativeMatrix = matrix ? VK_TRUE : VK_FALSE;
    if (matrix) out.matrix_shapes = matrix_shapes_of(device);
    out.executable_properties = executables && offered.executables.pipelineExecutableInfo;
    out.memory_fd = has(VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
    out.dma_buf = out.memory_fd && has(VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
    out.host_import = has(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    out.memory_budget = has(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);

    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceVulkan13Properties v13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
    v13.pNext = out.host_import ? &host : nullptr;
    VkPhysicalDeviceVulkan11Properties v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
    v11.pNext = &v13;
    VkPhysicalDeviceProperties2 properties = {.sType =
                                                  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    properties.pNext = &v11;
    vkGetPhysicalDeviceProperties2(device, &properties);
    const VkPhysicalDeviceLimits& limits = properties.properties.limits;
    constexpr VkSubgroupFeatureFlags kSubgroups =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
        VK_SUBGROUP_FEATURE_SHUFFLE_BIT | VK_SUBGROUP_FEATURE_CLUSTERED_BIT;
    if ((v11.subgroupSupportedOperations & kSubgroups) != kSubgroups ||
        (v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) == 0 ||
        (v13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) == 0) {
        return fail(ErrorCode::unsupported,
                    "{}: lacks subgroup arithmetic, shuffles, clusters or sizes in compute shaders",
                    description.name);
    }
    if (limits.maxComputeSharedMemorySize < kLeastSharedBytes ||
        limits.maxComputeWorkGroupInvocations < kLeastInvocations) {
        return fail(
            ErrorCode::unsupported,
            "{}: has {} bytes of shared memory and {} invocations in a workgroup; Unicorn's "
            "shaders need {} and {}",
            description.name, limits.maxComputeSharedMemorySize,
            limits.maxComputeWorkGroupInvocations, kLeastSharedBytes, kLeastInvocations);
    }
    out.max_allocation_bytes = v11.maxMemoryAllocationSize;
    out.max_buffer_bytes = v13.maxBufferSize;
    out.max_push_constant_bytes = limits.maxPushConstantsSize;
    out.max_workgroup_invocations = limits.maxComputeWorkGroupInvocations;
    out.max_shared_bytes = limits.maxComputeSharedMemorySize;
    out.subgroup_size = v11.subgroupSize;
    out.min_subgroup_size = v13.minSubgroupSize;
    out.max_subgroup_size = v13.maxSubgroupSize;
    out.timestamp_period_ns = static_cast<double>(limits.timestampPeriod);
    out.dot4_accelerated = v13.integerDotProduct4x8BitPackedSignedAccelerated == VK_TRUE;
    out.int64 = offered.core.features.shaderInt64 == VK_TRUE;
    out.host_import_alignment = host.minImportedHostPointerAlignment;
    std::memcpy(out.cache_uuid, properties.properties.pipelineCacheUUID, VK_UUID_SIZE);
    std::memcpy(out.device_uuid, v11.deviceUUID, VK_UUID_SIZE);

    const auto family = find_compute_family(device, out.timestamp_bits);
    if (!family) {
        return fail(ErrorCode::unsupported, "{}: has no queue that computes", description.name);
    }
    out.queue_family = *family;

    out.unified_memory =
        description.type == DeviceType::integrated || description.type == DeviceType::cpu;
    VkPhysicalDeviceMemoryProperties memory = {};
    vkGetPhysicalDeviceMemoryProperties(device, &memory);
    out.tiers = find_tiers(memory, out.unified_memory);
    out.compiles_only = memory.memoryTypeCount == 0;
    if (!out.compiles_only && out.tiers.size() != 2) {
        return fail(ErrorCode::unsupported,
                    "{}: has no device-local memory, or none that the CPU maps", description.name);
    }
    return out;
}

}  // namespace unicorn::backends::vulkan
