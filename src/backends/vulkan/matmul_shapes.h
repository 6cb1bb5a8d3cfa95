#pragma once
// How the matrix shaders cut their work: which cuts are valid on a device, and the one to begin
// with on each family of GPUs. matmul_tune.h finds better ones by measurement.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>

#include "backends/vulkan/capabilities.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace unicorn::backends::vulkan {

/// Of matvec_*.comp.
struct MatvecShape {
    std::uint32_t invocations = 256;  // of a workgroup: a multiple of 16 and of the subgroup
    std::uint32_t panels = 1;         // tiles of 16 rows of a workgroup (pairs of them when gated)
    std::uint32_t unroll = 1;         // units of columns read before the first is used
    std::uint32_t lane_rows = 4;      // rows of a tile that an invocation has: 1, 2, 4
    auto operator<=>(const MatvecShape&) const = default;
};

/// Of matmul_coopmat.comp (it says what they mean). bm, wm: multiples of 16, of 32 when gated, and
/// of the device's matrices; wm divides bm, wn divides bn.
struct MatmulShape {
    std::uint32_t bm = 0, bn = 0, bk = 64, wm = 0, wn = 0, buffers = 1;
    std::uint32_t splits = 0;  // parts of the columns, at most; 0: as many as the GPU has room for
    auto operator<=>(const MatmulShape&) const = default;
};

using ProductShape = std::variant<MatvecShape, MatmulShape>;

/// The shader that computes a product.
enum class ProductShader : std::uint8_t { matvec_plain, matvec_dot4, matmul_coopmat };
std::string_view name(ProductShader shader);

/// What a product is part of.
enum class ProductUse : std::uint8_t { single, gated, gated_int8 };  // the last: in int8, too
std::string_view name(ProductUse use);

/// Numbers of rows of activations that have a shape of their own, named by the most of them:
/// 1, 2-4, 5-8, 9-16, 17-32, 33-64, more.
inline constexpr std::uint32_t kRowClasses[] = {1, 4, 8, 16, 32, 64, UINT32_MAX};
std::uint32_t row_class(std::uint32_t n_rows);

/// Rows of activations that a matvec workgroup has, at most.
inline constexpr std::uint32_t kMostMatvecRows = 8;
/// Parts of the columns of a matmul, at most.
inline constexpr std::uint32_t kMostSplits = 12;

/// What a shape is for.
struct ProductKey {
    ProductShader shader = ProductShader::matvec_plain;
    tensor::DType type = tensor::DType::f32;
    ProductUse use = ProductUse::single;
    std::uint32_t rows = 0;    // of weights, all matrices'
    std::uint32_t cols = 0;    // D
    std::uint32_t n_rows = 1;  // of activations: one of kRowClasses
    auto operator<=>(const ProductKey&) const = default;
};

/// What of a device bounds its shapes.
struct ShapeLimits {
    std::uint32_t invocations = 0;  // of a workgroup
    std::uint32_t shared_bytes = 0;
    std::uint32_t subgroup = 0;
    MatrixShape matrix;  // that matmul_coopmat uses; 0 without
};

/// Whether `shape` computes what it should for `key`. Errors: invalid_argument, with what is wrong.
Status check_shape(const ShapeLimits& limits, const ProductKey& key, const ProductShape& shape);

/// GPUs that are like each other, as far as shapes go.
enum class GpuFamily : std::uint8_t { rdna3, rdna3_5, nvidia, intel, software, other };
std::string_view name(GpuFamily family);

GpuFamily family_of(const DeviceDescription& device);

/// The shape to begin with; key.n_rows may be any number of rows.
MatvecShape default_matvec_shape(GpuFamily family, const ProductKey& key);
MatmulShape default_matmul_shape(GpuFamily family, const ProductKey& key);

/// How many rows the matvec shaders take before matrix units are faster.
std::uint32_t default_matvec_rows(GpuFamily family, tensor::DType type);

}  // namespace unicorn::backends::vulkan
