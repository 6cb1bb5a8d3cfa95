#include "device/step.h"

#include <array>

#include "kernels/gpu_tiles.h"
#include "kernels/matmul.h"

namespace unicorn::device {

std::string_view step_name(std::size_t index) {
    constexpr std::array<std::string_view, std::variant_size_v<Step>> kNames = {
        "embed",    "rms_norm", "project",      "qkv_to_cache", "attention",     "gated_ffn",
        "add_norm", "head",     "pick_largest", "sample",       "await_weights", "release_weights"};
    return kNames[index];
}

std::size_t stored_bytes(const TensorRef& t) {
    if (t.layout == Layout::rows) return t.rows * tensor::row_bytes(t.type, t.cols);
    if (t.layout == Layout::tiles) return kernels::gpu_tile_bytes(t.type, t.rows, t.cols);
    const std::size_t panels = (t.rows + kernels::kPanelRows - 1) / kernels::kPanelRows;
    return panels * kernels::panel_bytes(t.type, t.cols);
}

}  // namespace unicorn::device
