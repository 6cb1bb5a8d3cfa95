#include "device/step.h"

#include <array>

namespace unicorn::device {

std::string_view name(const Step& step) {
    constexpr std::array<std::string_view, std::variant_size_v<Step>> kNames = {
        "embed", "rms_norm", "project", "qkv_to_cache", "attention", "gated_ffn", "add_norm", "head"};
    return kNames[step.index()];
}

}  // namespace unicorn::device
