#pragma once
// Pipelines made when they are first needed, and kept.

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "backends/vulkan/pipeline.h"

namespace unicorn::backends::vulkan {

/// Used by one thread at a time; its device must outlive it, and it what was recorded with it.
class PipelineSet {
public:
    explicit PipelineSet(VulkanDevice& device) : device_(device) {}

    /// The pipeline of this shader with these specialisation constants; `subgroup_size` as in
    /// PipelineSource, the same for the same constants. Errors: as Pipeline::create.
    Result<const Pipeline*> get(std::string_view name, std::span<const std::uint32_t> spirv,
                                std::size_t push_constant_bytes,
                                std::vector<std::uint32_t> constants,
                                std::uint32_t subgroup_size = 0);

    /// Pipelines keep what the driver tells of them (for each_pipeline()).
    bool keep_statistics = false;
    /// Calls `use` with the name, the constants and the pipeline of each shader compiled so far.
    void each_pipeline(const std::function<void(std::string_view, std::span<const std::uint32_t>,
                                                const Pipeline&)>& use) const;

private:
    using Key = std::pair<const std::uint32_t*, std::vector<std::uint32_t>>;

    VulkanDevice& device_;
    std::map<Key, Pipeline> pipelines_;
};

}  // namespace unicorn::backends::vulkan
