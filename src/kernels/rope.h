#pragma once
// Rotary position embedding (half-split, "NeoX"), fused with the norm of q and k that precedes it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

/// Fills cos and sin of the angles of one position: angle[i] = position / divisor * base^(-2i/E),
/// i in [0, E/2), computed in double. Shapes: cos, sin: [E/2] f32.
/// Units: `divisor` is the linear RoPE scaling factor (8 for the global layers of 4B and up, else
/// 1).
void rope_angles(std::int32_t position, double base, double divisor, std::span<float> cos,
                 std::span<float> sin);

/// One head vector, in place: x = rms_norm(x, gain), then for i < E/2
///   x'[i] = x[i] cos[i] - x[i+E/2] sin[i];  x'[i+E/2] = x[i+E/2] cos[i] + x[i] sin[i].
/// Shapes    x, gain: [E] f32; cos, sin: [E/2] f32; E even, 16 or more.
/// Accuracy  that of rms_norm plus 4 * 2^-24 * (|x[i]| + |x[i+E/2]|).
/// Source    Su et al. 2021, arXiv:2104.09864; the half-split form of google/gemma_pytorch.
void norm_rope(Isa isa, std::span<float> x, std::span<const float> gain, float eps,
               std::span<const float> cos, std::span<const float> sin);

/// out[i] = f16(x[i]), round to nearest even, clamped to +-65504 so that a cache never holds inf.
/// Shapes: [N], any alignment.
void store_f16(Isa isa, std::span<std::uint16_t> out, std::span<const float> x);

}  // namespace unicorn::kernels
