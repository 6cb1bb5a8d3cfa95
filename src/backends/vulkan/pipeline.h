#pragma once
// A compute shader made ready for a device. Its parameters are push constants, buffers among them
// as device addresses: there are no descriptor sets.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "backends/vulkan/vulkan_device.h"

namespace unicorn::backends::vulkan {

struct PipelineSource {
    std::string_view name;                     // for errors
    std::span<const std::uint32_t> spirv;      // entry point main()
    std::size_t push_constant_bytes = 0;       // sizeof the parameters; a multiple of 4
    std::span<const std::uint32_t> constants;  // specialisation constants 0, 1, ...
    std::uint32_t subgroup_size = 0;           // required; 0: the driver chooses
    bool keep_statistics = false;  // for statistics() and assembly(); costs compile time
};

/// A number that the driver tells of a compiled shader, by the driver's own name for it.
struct PipelineStatistic {
    std::string name;  // RADV: "VGPRs", "Spilled VGPRs", "LDS size", "Code size", ...
    double value = 0;
};

/// Move-only; its device must outlive it.
class Pipeline {
public:
    /// Errors: unsupported, when the parameters or the subgroup size are more than the device
    /// takes; out_of_memory; io, when the driver cannot compile it.
    static Result<Pipeline> create(VulkanDevice& device, const PipelineSource& source);
    Pipeline(Pipeline&& other) noexcept;
    Pipeline& operator=(Pipeline&& other) noexcept;
    ~Pipeline();

    /// Records one dispatch of `groups` workgroups with `params`, which is as large as
    /// push_constant_bytes was.
    template <typename Params>
    void dispatch(VkCommandBuffer commands, const Params& params,
                  std::array<std::uint32_t, 3> groups) const {
        static_assert(std::is_trivially_copyable_v<Params>);
        dispatch_bytes(commands, std::as_bytes(std::span(&params, 1)), groups);
    }

    const std::string& name() const { return name_; }
    /// Errors: unsupported, when the driver tells none or keep_statistics was not set.
    Result<std::vector<PipelineStatistic>> statistics() const;
    /// Invocations of a subgroup as it was compiled. Errors: the same.
    Result<std::uint32_t> subgroup_size() const;
    /// The shader's machine code as text. Errors: the same.
    Result<std::string> assembly() const;

private:
    explicit Pipeline(VulkanDevice& device) : device_(&device) {}
    void bind(VkCommandBuffer commands, std::span<const std::byte> params) const;
    void dispatch_bytes(VkCommandBuffer commands, std::span<const std::byte> params,
                        std::array<std::uint32_t, 3> groups) const;

    VulkanDevice* device_;
    std::string name_;
    VkPipelineLayout layout_ = VK_NULL_HANDLE;
    VkPipeline pipeline_ = VK_NULL_HANDLE;
    std::size_t push_constant_bytes_ = 0;
    bool keeps_statistics_ = false;
};

}  // namespace unicorn::backends::vulkan
