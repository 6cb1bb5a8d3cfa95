#include "backends/vulkan/pipeline_set.h"

namespace unicorn::backends::vulkan {

Result<const Pipeline*> PipelineSet::get(std::string_view name,
                                         std::span<const std::uint32_t> spirv,
                                         std::size_t push_constant_bytes,
                                         std::vector<std::uint32_t> constants,
                                         std::uint32_t subgroup_size) {
    Key key(spirv.data(), std::move(constants));
    if (const auto found = pipelines_.find(key); found != pipelines_.end()) return &found->second;
    auto made = Pipeline::create(device_, {.name = name,
                                           .spirv = spirv,
                                           .push_constant_bytes = push_constant_bytes,
                                           .constants = key.second,
                                           .subgroup_size = subgroup_size,
                                           .keep_statistics = keep_statistics});
    if (!made) return forward(made);
    return &pipelines_.emplace(std::move(key), std::move(*made)).first->second;
}

void PipelineSet::each_pipeline(
    const std::function<void(std::string_view, std::span<const std::uint32_t>, const Pipeline&)>&
        use) const {
    for (const auto& [key, made] : pipelines_) use(made.name(), key.second, made);
}

}  // namespace unicorn::backends::vulkan
