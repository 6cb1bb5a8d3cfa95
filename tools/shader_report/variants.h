#pragma once
// Every pipeline that Gemma 3's passes use on a device, compiled there, with what its driver tells.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backends/vulkan/vulkan_device.h"
#include "base/result.h"

namespace unicorn::shader_report {

/// A shader with its specialisation constants: one pipeline.
struct VariantKey {
    std::string shader;
    std::vector<std::uint32_t> constants;
    auto operator<=>(const VariantKey&) const = default;
};

struct Variant {
    std::uint32_t subgroup_size = 0;           // that the driver compiled it for
    std::map<std::string, double> statistics;  // by the driver's names, without hashes
    std::size_t n_wmma = 0;                    // v_wmma* instructions in its machine code
    std::size_t n_dot4 = 0;                    // v_dot4* instructions

    /// One of `statistics`; 0 when the driver does not tell it.
    double value(const std::string& name) const;
};

using Variants = std::map<VariantKey, Variant>;

/// Compiles what the steps of Gemma 3 27B, 4B and 1B and of the model in the file `bundled`
/// dispatch on `device`, which may be one that compiles only: for matrices of every type, the
/// recipes that mix types, each type of the KV cache, passes of 1 to 512 rows of a prompt and of 1
/// to 64 sequences that decode at short and long contexts; with the path that the device takes by
/// itself and with the others that UNICORN_VK_MATMUL can force. Errors: those of Matmul::create,
/// ComputeProgram and Gguf::open; unsupported, when the driver tells nothing of what it compiled.
Result<Variants> compile_variants(backends::vulkan::VulkanDevice& device,
                                  const std::string& bundled);

}  // namespace unicorn::shader_report
