#include "backends/vulkan/pipeline.h"

#include <utility>

#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"

namespace unicorn::backends::vulkan {

Result<Pipeline> Pipeline::create(VulkanDevice& device, const PipelineSource& source) {
    const Capabilities& c = device.capabilities();
    const VolkDeviceTable& vk = device.vk();
    UNICORN_CHECK(source.push_constant_bytes % 4 == 0);
    if (source.push_constant_bytes > c.max_push_constant_bytes) {
        return fail(ErrorCode::unsupported,
                    "{}: shader {} takes {} bytes of parameters, at most {}", device.name(),
                    source.name, source.push_constant_bytes, c.max_push_constant_bytes);
    }
    if (source.subgroup_size != 0 && (source.subgroup_size < c.min_subgroup_size ||
                                      source.subgroup_size > c.max_subgroup_size)) {
        return fail(ErrorCode::unsupported, "{}: shader {} needs subgroups of {}, has {} to {}",
                    device.name(), source.name, source.subgroup_size, c.min_subgroup_size,
                    c.max_subgroup_size);
    }
    Pipeline self(device);
    self.name_ = source.name;
    self.push_constant_bytes_ = source.push_constant_bytes;
    self.keeps_statistics_ = source.keep_statistics && c.executable_properties;

    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    range.size = static_cast<std::uint32_t>(source.push_constant_bytes);
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
    layout.pushConstantRangeCount = source.push_constant_bytes == 0 ? 0 : 1;
    layout.pPushConstantRanges = &range;
    if (const VkResult r =
            vk.vkCreatePipelineLayout(device.handle(), &layout, nullptr, &self.layout_);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: shader {}: layout", device.name(), source.name));

    VkShaderModuleCreateInfo module_info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
    module_info.codeSize = source.spirv.size_bytes();
    module_info.pCode = source.spirv.data();
    VkShaderModule module = VK_NULL_HANDLE;
    if (const VkResult r = vk.vkCreateShaderModule(device.handle(), &module_info, nullptr, &module);
        r != VK_SUCCESS)
        return failed(r, fmt::format("{}: shader {}: module", device.name(), source.name));

    std::vector<VkSpecializationMapEntry> entries(source.constants.size());
    for (std::uint32_t i = 0; i < entries.size(); ++i)
        entries[i] = {.constantID = i, .offset = 4 * i, .size = 4};
    VkSpecializationInfo constants = {};
    constants.mapEntryCount = static_cast<std::uint32_t>(entries.size());
    constants.pMapEntries = entries.data();
    constants.dataSize = source.constants.size_bytes();
    constants.pData = source.constants.data();
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
    subgroup.requiredSubgroupSize = source.subgroup_size;
    VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
    if (self.keeps_statistics_) {
        info.flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR |
                     VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
    }
    info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    info.stage.pNext = source.subgroup_size == 0 ? nullptr : &subgroup;
    info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    info.stage.module = module;
    info.stage.pName = "main";
    info.stage.pSpecializationInfo = &constants;
    info.layout = self.layout_;
    const VkResult r = vk.vkCreateComputePipelines(device.handle(), device.pipeline_cache(), 1,
                                                   &info, nullptr, &self.pipeline_);
    vk.vkDestroyShaderModule(device.handle(), module, nullptr);
    if (r != VK_SUCCESS) {
        return failed(r, fmt::format("{}: shader {} does not compile", device.name(), source.name));
    }
    return self;
}

Pipeline::Pipeline(Pipeline&& other) noexcept
    : device_(other.device_),
      name_(std::move(other.name_)),
      layout_(std::exchange(other.layout_, VK_NULL_HANDLE)),
      pipeline_(std::exchange(other.pipeline_, VK_NULL_HANDLE)),
      push_constant_bytes_(other.push_constant_bytes_),
      keeps_statistics_(other.keeps_statistics_) {}

Pipeline& Pipeline::operator=(Pipeline&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(name_, other.name_);
    std::swap(layout_, other.layout_);
    std::swap(pipeline_, other.pipeline_);
    std::swap(push_constant_bytes_, other.push_constant_bytes_);
    std::swap(keeps_statistics_, other.keeps_statistics_);
    return *this;
}

Pipeline::~Pipeline() {
    device_->vk().vkDestroyPipeline(device_->handle(), pipeline_, nullptr);
    device_->vk().vkDestroyPipelineLayout(device_->handle(), layout_, nullptr);
}

void Pipeline::bind(VkCommandBuffer commands, std::span<const std::byte> params) const {
    UNICORN_CHECK(params.size() == push_constant_bytes_);
    const VolkDeviceTable& vk = device_->vk();
    vk.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline_);
    vk.vkCmdPushConstants(commands, layout_, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                          static_cast<std::uint32_t>(params.size()), params.data());
}

void Pipeline::dispatch_bytes(VkCommandBuffer commands, std::span<const std::byte> params,
                              std::array<std::uint32_t, 3> groups) const {
    bind(commands, params);
    device_->vk().vkCmdDispatch(commands, groups[0], groups[1], groups[2]);
}

Result<std::vector<PipelineStatistic>> Pipeline::statistics() const {
    if (!keeps_statistics_) {
        return fail(ErrorCode::unsupported, "{}: no statistics of shader {} were kept",
                    device_->name(), name_);
    }
    const VolkDeviceTable& vk = device_->vk();
    VkPipelineExecutableInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR};
    info.pipeline = pipeline_;
    // A compute pipeline has one executable, number 0.
    std::uint32_t count = 0;
    VkResult r = vk.vkGetPipelineExecutableStatisticsKHR(device_->handle(), &info, &count, nullptr);
    std::vector<VkPipelineExecutableStatisticKHR> found(
        count, {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR});
    if (r == VK_SUCCESS) {
        r = vk.vkGetPipelineExecutableStatisticsKHR(device_->handle(), &info, &count, found.data());
    }
    if (r != VK_SUCCESS)
        return failed(r, fmt::format("{}: statistics of shader {}", device_->name(), name_));
    std::vector<PipelineStatistic> statistics;
    for (const auto& s : found) {
        double value = 0;
        switch (s.format) {
            case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: value = s.value.b32; break;
            case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
                value = static_cast<double>(s.value.i64);
                break;
            case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
                value = static_cast<double>(s.value.u64);
                break;
            case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR: value = s.value.f64; break;
            default: continue;
        }
        statistics.push_back({.name = s.name, .value = value});
    }
    return statistics;
}

Result<std::uint32_t> Pipeline::subgroup_size() const {
    if (!keeps_statistics_) {
        return fail(ErrorCode::unsupported, "{}: no properties of shader {} were kept",
                    device_->name(), name_);
    }
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR};
    info.pipeline = pipeline_;
    VkPipelineExecutablePropertiesKHR properties = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    std::uint32_t count = 1;
    const VkResult r = device_->vk().vkGetPipelineExecutablePropertiesKHR(device_->handle(), &info,
                                                                          &count, &properties);
    if (r != VK_SUCCESS)
        return failed(r, fmt::format("{}: properties of shader {}", device_->name(), name_));
    return properties.subgroupSize;
}

Result<std::string> Pipeline::assembly() const {
    const VolkDeviceTable& vk = device_->vk();
    if (!keeps_statistics_) {
        return fail(ErrorCode::unsupported, "{}: no assembly of shader {} was kept",
                    device_->name(), name_);
    }
    VkPipelineExecutableInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR};
    info.pipeline = pipeline_;
    std::uint32_t count = 0;
    VkResult r = vk.vkGetPipelineExecutableInternalRepresentationsKHR(device_->handle(), &info,
                                                                      &count, nullptr);
    std::vector<VkPipelineExecutableInternalRepresentationKHR> found(
        count, {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR});
    // Once for the sizes, once for the texts.
    std::vector<std::string> texts(count);
    for (int pass = 0; pass < 2 && r == VK_SUCCESS; ++pass) {
        r = vk.vkGetPipelineExecutableInternalRepresentationsKHR(device_->handle(), &info, &count,
                                                                 found.data());
        for (std::size_t i = 0; i < found.size() && pass == 0; ++i) {
            texts[i].resize(found[i].dataSize);
            found[i].pData = texts[i].data();
        }
    }
    if (r != VK_SUCCESS)
        return failed(r, fmt::format("{}: assembly of shader {}", device_->name(), name_));
    // From the front end's form to the machine's.
    if (texts.empty() || found.back().isText != VK_TRUE) {
        return fail(ErrorCode::unsupported, "{}: tells no assembly of shader {}", device_->name(),
                    name_);
    }
    return texts.back();
}

}  // namespace unicorn::backends::vulkan
