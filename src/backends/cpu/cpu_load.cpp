// Weights as the CPU's kernels want them: quantised matrices in panels of 16 rows, float matrices
// as they lie in the file.

#include <cstring>

#include "backends/cpu/cpu_device.h"
#include "kernels/matmul.h"

namespace unicorn::backends::cpu {

device::Placement CpuDevice::place(const device::TensorRef& matrix) const {
    device::TensorRef placed = matrix;
    const bool quantized = tensor::info(matrix.type).quantized;
    placed.layout = quantized ? device::Layout::panels : device::Layout::rows;
    return {placed.layout, device::stored_bytes(placed), !quantized};
}

void CpuDevice::pack(const device::TensorRef& to, std::size_t first, std::size_t last,
                     const std::byte* rows) const {
    const std::size_t row_bytes = tensor::row_bytes(to.type, to.cols);
    if (to.layout == device::Layout::rows) {
        std::memcpy(to.host + first * row_bytes, rows, (last - first) * row_bytes);
        return;
    }
    const tensor::MatrixView part{to.type, last - first, to.cols, rows};
    const std::size_t n_panels = (part.rows + kernels::kPanelRows - 1) / kernels::kPanelRows;
    kernels::pack_panels(
        isa_, part, 0, n_panels,
        to.host + first / kernels::kPanelRows * kernels::panel_bytes(to.type, to.cols));
}

}  // namespace unicorn::backends::cpu
