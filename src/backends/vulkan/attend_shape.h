#pragma once
// How attention of tiles of rows on matrix units (attend_matrices.comp) cuts its work.

#include <cstdint>
#include <optional>
#include <vector>

#include "backends/vulkan/matmul.h"
#include "tensor/dtype.h"

namespace unicorn::backends::vulkan {

/// The shader says what they mean.
struct AttendShape {
    std::uint32_t bq = 0, bk = 0, chunk = 0, wr = 0, wc = 0;
};

/// The shape for heads of `dim` elements with a cache of `type`. None where attend_tiles.comp has
/// to do: products take no matrix units here (UNICORN_VK_MATMUL may have it so), the cache is f32,
/// which f16 would round, or no shape divides `dim` and fits the device.
std::optional<AttendShape> attend_shape(const Capabilities& capabilities, const Matmul& matmul,
                                        std::uint32_t dim, tensor::DType type);

/// The shader's specialisation constants for `group` query heads of a KV head; subgroups are of
/// matmul.subgroup() invocations.
std::vector<std::uint32_t> attend_constants(const AttendShape& shape, const Matmul& matmul,
                                            std::uint32_t dim, tensor::DType type,
                                            std::uint32_t group);

}  // namespace unicorn::backends::vulkan
