#pragma once
// Random matrices of every type and what a product of them must be: for tests and benches of the
// matrix shaders.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "backends/vulkan/matmul.h"
#include "kernels/dequantize.h"
#include "tensor/block_scales.h"
#include "tensor/half.h"

namespace unicorn::backends::vulkan::matmul_testing {

/// Rows as they lie in a file: random bits, with scales that make weights of about 1 at most.
inline std::vector<std::byte> random_weights(tensor::DType type, std::size_t rows, std::size_t cols,
                                             unsigned seed) {
    std::mt19937 generator(seed);
    const tensor::DTypeInfo& info = tensor::info(type);
    std::vector<std::byte> bytes(rows * tensor::row_bytes(type, cols));
    std::uniform_real_distribution<float> uniform(-1, 1);
    if (!info.quantized) {
        for (std::size_t i = 0; i < rows * cols; ++i) {
            const float value = uniform(generator);
            std::uint16_t half = 0;
            if (type == tensor::DType::f16) half = tensor::f32_to_f16(value);
            if (type == tensor::DType::bf16) half = tensor::f32_to_bf16(value);
            if (type == tensor::DType::f32) std::memcpy(bytes.data() + 4 * i, &value, 4);
            if (type != tensor::DType::f32) std::memcpy(bytes.data() + 2 * i, &half, 2);
        }
        return bytes;
    }
    for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
        const auto word = static_cast<std::uint32_t>(generator());
        std::memcpy(bytes.data() + i, &word, 4);
    }
    const float largest = info.block_size == 256        ? 0.002f
                          : type == tensor::DType::q8_0 ? 0.01f
                                                        : 0.1f;
    for (std::size_t block = 0; block < bytes.size(); block += info.block_bytes) {
        for (const std::size_t offset : tensor::scale_offsets(type)) {
            const std::uint16_t half = tensor::f32_to_f16(largest * uniform(generator));
            std::memcpy(bytes.data() + block + offset, &half, 2);
        }
    }
    return bytes;
}

/// A product in double, and how far a path may be from it.
struct Expected {
    std::vector<double> values;  // [T, rows]
    std::vector<double> bounds;
};

/// `x` [n_rows, cols]. The bounds are those of matmul.h.
inline Expected expected_product(tensor::DType type, std::span<const std::byte> weights,
                                 std::size_t rows, std::size_t cols, std::span<const float> x,
                                 std::size_t n_rows, InputForm form) {
    Expected out;
    out.values.resize(n_rows * rows);
    out.bounds.resize(n_rows * rows);
    std::vector<float> w(cols);
    std::vector<double> size(cols);  // how large the terms of a weight may be
    const std::size_t row_bytes = tensor::row_bytes(type, cols);
    for (std::size_t r = 0; r < rows; ++r) {
        kernels::dequantize_row(type, weights.data() + r * row_bytes, w);
        const std::size_t group = tensor::info(type).quantized ? tensor::info(type).block_size : 1;
        for (std::size_t d = 0; d < cols; d += group) {
            double most = 0;
            for (std::size_t i = d; i < d + group; ++i)
                most = std::max(most, std::abs(static_cast<double>(w[i])));
            for (std::size_t i = d; i < d + group; ++i) size[i] = group == 1 ? most : 3 * most;
        }
        for (std::size_t t = 0; t < n_rows; ++t) {
            double row_most = 0;
            for (std::size_t d = 0; d < cols; ++d)
                row_most = std::max(row_most, std::abs(static_cast<double>(x[t * cols + d])));
            double sum = 0, bound = 0;
            for (std::size_t first = 0; first < cols; first += 32) {
                double most = 0;
                for (std::size_t d = first; d < first + 32; ++d)
                    most = std::max(most, std::abs(static_cast<double>(x[t * cols + d])));
                for (std::size_t d = first; d < first + 32; ++d) {
                    const double value = x[t * cols + d];
                    sum += static_cast<double>(w[d]) * value;
                    bound += static_cast<double>(cols / 16 + 16) * 0x1p-24 * size[d] *
                             (form == InputForm::int8 ? most : std::abs(value));
                    if (form == InputForm::int8)
                        bound += std::abs(static_cast<double>(w[d])) * most / 254 * 1.0001;
                    if (form == InputForm::f16)
                        bound += 0x1p-11 * 2 * size[d] * std::abs(value) +
                                 0x1p-25 * std::abs(value) + 0x1p-39 * row_most * size[d];
                }
            }
            out.values[t * rows + r] = sum;
            out.bounds[t * rows + r] = bound;
        }
    }
    return out;
}

}  // namespace unicorn::backends::vulkan::matmul_testing
