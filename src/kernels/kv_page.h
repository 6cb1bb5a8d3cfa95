#pragma once
// A page of the KV cache: the keys, or the values, of 32 tokens for one KV head of one layer.
//
//   f32, f16   [32, E] elements
//   q8_0       [32, E] int8 codes, then [32, E/32] f16 scales; an element is code * scale, exact in
//              f32. 34 bytes for 32 elements, as in GGUF's blocks of that name, whose scales lie
//              between the codes and would put half of all loads across cache lines.

#include <cstddef>
#include <span>

#include "kernels/isa.h"
#include "tensor/dtype.h"

namespace unicorn::kernels {

inline constexpr std::size_t kPageTokens = 32;
inline constexpr std::size_t kMaxHeadDim = 256;
inline constexpr std::size_t kKvGroup = 32;  // elements that share a scale

/// Whether a cache may hold vectors of `head_dim` elements as `type`: f32 and f16 with a multiple
/// of 16, q8_0 with a multiple of 32; at most kMaxHeadDim.
bool can_cache(tensor::DType type, std::size_t head_dim);

/// Bytes of one page of one head; a multiple of 64. Requires can_cache(type, head_dim).
std::size_t kv_page_bytes(tensor::DType type, std::size_t head_dim);

/// Puts `x`, [E] f32, into the page as that of token `token` (0 to 31). The page never holds an
/// infinity. `page` is 4-byte aligned; what is of other tokens is not touched, so threads may store
/// different tokens of a page at once.
///   f16    to nearest even, clamped to +-65504.
///   q8_0   in groups of 32, clamped to +-65504 * 127: scale = max|x| / 127, rounded up to f16;
///          code = x / scale, to nearest even.
/// Errors    none. A NaN stays NaN, in q8_0 all of its group with it; all else is the same in every
///           form.
/// Accuracy  q8_0: within 0.5001 * scale of x: max|x| / 254 of the group, up to 0.12 % more for the
///           rounding of the scale, and 2^-25.
void store_kv(Isa isa, tensor::DType type, std::byte* page, std::size_t token,
              std::span<const float> x);

}  // namespace unicorn::kernels
