#pragma once
// An operand of a step: a matrix and the addresses by which the CPU and a device know it.

#include <cstddef>
#include <cstdint>

#include "memory/allocator.h"
#include "tensor/dtype.h"

namespace unicorn::device {

/// How the bytes of a matrix lie.
enum class Layout : std::uint8_t {
    rows,    // row-major, as in the file
    panels,  // panels of 16 rows (kernels/matmul.h)
    tiles,   // a GPU's tiles of 16 rows (kernels/gpu_tiles.h)
};

/// A matrix [rows, cols] in some tier. Does not own its bytes.
struct TensorRef {
    tensor::DType type = tensor::DType::f32;
    Layout layout = Layout::rows;
    memory::Tier tier = memory::Tier::host;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::byte* host = nullptr;         // nullptr when the CPU cannot address it
    std::uint64_t device_address = 0;  // 0 when no device can

    bool empty() const { return rows == 0; }
};

/// Bytes that reading the whole matrix reads, in the layout it has.
std::size_t stored_bytes(const TensorRef& t);

}  // namespace unicorn::device
