#include "kernels/gpu_tiles.h"

#include <algorithm>

#include "base/check.h"

namespace unicorn::kernels {

using tensor::DType;

GpuTile gpu_tile(DType type) {
    switch (type) {
        case DType::f32: return {.pieces = 8};
        case DType::f16:
        case DType::bf16: return {.pieces = 4};
        case DType::q8_0: return {.pieces = 2, .scale_bytes = 2};
        case DType::q4_0:
        case DType::iq4_nl: return {.scale_bytes = 2};
        case DType::q4_1: return {.scale_bytes = 4};
        case DType::q5_0: return {.high_bytes = 4, .scale_bytes = 2};
        case DType::q5_1: return {.high_bytes = 4, .scale_bytes = 4};
        case DType::q4_k: return {.sub_bytes = 2, .scale_bytes = 4, .scale_cols = 256};
        case DType::q5_k:
            return {.high_bytes = 4, .sub_bytes = 2, .scale_bytes = 4, .scale_cols = 256};
        case DType::q6_k:
            return {.high_bytes = 8, .sub_bytes = 2, .scale_bytes = 2, .scale_cols = 256};
        case DType::iq4_xs: return {.sub_bytes = 1, .scale_bytes = 2, .scale_cols = 256};
        case DType::q2_k:
            return {.unit_cols = 64, .sub_bytes = 4, .scale_bytes = 4, .scale_cols = 256};
        case DType::q3_k:
            return {.unit_cols = 64,
                    .high_bytes = 8,
                    .sub_bytes = 4,
                    .scale_bytes = 2,
                    .scale_cols = 256};
    }
    UNICORN_CHECK(false && "a DType outside its enumerators");
}

std::size_t gpu_tile_columns(DType type) {
    return std::max<std::size_t>(32, tensor::info(type).block_size);
}

std::size_t gpu_tile_bytes(DType type, std::size_t rows, std::size_t cols) {
    UNICORN_CHECK(cols % gpu_tile_columns(type) == 0);
    return (rows + kTileRows - 1) / kTileRows * gpu_tile(type).bytes(cols);
}

}  // namespace unicorn::kernels
