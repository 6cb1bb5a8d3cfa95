#pragma once
// Rotary position embedding (half-split, "NeoX"), fused with the norm of q and k that precedes it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

/// Fills cos and sin of the angles of one position: angle[i] = position * frequency[i] with
/// frequency[i] = base^(-2i/E) / divisor, i in [0, E/2). Frequency and angle are rounded to f32, as
/// in the implementations that the weights were trained and published with: at position 6,000 the
/// rounding moves an angle by up to 4e-4, which shows in the logits.
/// Shapes    cos, sin: [E/2] f32, E even.
/// Units     `divisor` is the linear RoPE scaling factor (8 for the global layers of 4B and up,
///           else 1).
/// Accuracy  one rounding of the cosine and sine of the rounded angle.
/// Cost      about 12 ns for each pair; the same for all heads and layers of one base.
/// Source    huggingface/transformers, modeling_gemma3.py, class Gemma3RotaryEmbedding.
void rope_angles(std::int32_t position, double base, double divisor, std::span<float> cos,
                 std::span<float> sin);

/// frequency[i] as above, i in [0, E/2), rounded to f32. Shapes    out: [E/2].
void rope_frequencies(double base, double divisor, std::span<float> out);

/// One head vector, in place: x = rms_norm(x, gain), then for i < E/2
///   x'[i] = x[i] cos[i] - x[i+E/2] sin[i];  x'[i+E/2] = x[i+E/2] cos[i] + x[i] sin[i].
/// Shapes    x, gain: [E] f32; cos, sin: [E/2] f32; any alignment; E even, 16 or more.
/// Errors    none. A NaN makes the head NaN.
/// Accuracy  that of rms_norm on both terms, plus 4 * 2^-24 * (|x[i]| + |x[i+E/2]|), of the x
///           after the norm.
/// Source    Su et al. 2021, arXiv:2104.09864; the half-split form of google/gemma_pytorch.
void norm_rope(Isa isa, std::span<float> x, std::span<const float> gain, float eps,
               std::span<const float> cos, std::span<const float> sin);

}  // namespace unicorn::kernels
