#include "device/step.h"

#include <array>

namespace unicorn::device {

std::string_view step_name(std::size_t index) {
    constexpr std::array<std::string_view, std::variant_size_v<Step>> kNames = {
        "embed", "rms_norm", "project", "qkv_to_cache", "attention", "gated_ffn", "add_norm", "head"};
    return kNames[index];
}

}  // namespace unicorn::device
