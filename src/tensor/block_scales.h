#pragma once
// Where blocks of quantised weights keep their f16 scales.

#include <cstddef>
#include <vector>

#include "tensor/dtype.h"

namespace unicorn::tensor {

/// Offsets in bytes of the f16 scales (and minima) of a block of `type`. Source: tensor/blocks.h.
inline std::vector<std::size_t> scale_offsets(DType type) {
    switch (type) {
        case DType::q4_1:
        case DType::q5_1:
        case DType::q4_k:
        case DType::q5_k: return {0, 2};
        case DType::q2_k: return {80, 82};
        case DType::q3_k: return {108};
        case DType::q6_k: return {208};
        default: return {0};
    }
}

}  // namespace unicorn::tensor
