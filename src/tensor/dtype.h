#pragma once
// The element types of tensors, quantised block types included, with their sizes.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"

namespace unicorn::tensor {

/// The values are those of GGUF's tensor type field (ggml.h, enum ggml_type).
enum class DType : std::uint32_t {
    f32 = 0,
    f16 = 1,
    q4_0 = 2,
    q4_1 = 3,
    q5_0 = 6,
    q5_1 = 7,
    q8_0 = 8,
    q2_k = 10,
    q3_k = 11,
    q4_k = 12,
    q5_k = 13,
    q6_k = 14,
    iq4_nl = 20,
    iq4_xs = 23,
    bf16 = 30,
};

/// What one block of a type is: `block_size` weights in `block_bytes` bytes (1 weight for f32,
/// f16 and bf16).
struct DTypeInfo {
    DType type;
    std::string_view name;  // lower case, as typed on the command line: "q4_k"
    std::size_t block_size;
    std::size_t block_bytes;
    bool quantized;
};

/// Every type, in the order of the enum.
std::span<const DTypeInfo> all_dtypes();

/// The entry of `type`, which must be one of the enumerators.
const DTypeInfo& info(DType type);

inline std::string_view name(DType type) { return info(type).name; }

/// The type with GGUF id `id`, if it is one of ours.
std::optional<DType> dtype_from_id(std::uint32_t id);

/// The type called `text` ("q4_0", "Q4_0", "BF16"), if it is one of ours.
std::optional<DType> dtype_from_name(std::string_view text);

/// Bytes of one row of `cols` weights. Requires cols % info(type).block_size == 0.
std::size_t row_bytes(DType type, std::size_t cols);

/// A matrix of weights as it lies in memory: `rows` rows of `cols` weights, row-major, each row a
/// whole number of blocks. Weights are [out, in]: y[r] = sum_c w[r,c] x[c].
struct MatrixView {
    DType type = DType::f32;
    std::size_t rows = 0;
    std::size_t cols = 0;
    const std::byte* data = nullptr;

    std::size_t row_bytes() const { return tensor::row_bytes(type, cols); }
    std::size_t bytes() const { return rows * row_bytes(); }
    const std::byte* row(std::size_t r) const { return data + r * row_bytes(); }
};

}  // namespace unicorn::tensor
