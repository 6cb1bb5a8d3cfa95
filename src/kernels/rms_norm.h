#pragma once
// Gemma's RMS norm, alone and fused with the residual add that comes before it.

#include <cstddef>
#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

/// out[d] = x[d] / sqrt(mean_d(x[d]^2) + eps) * gain[d], one row.
/// Shapes    x, out, gain: [D] f32, any alignment; `out` may be `x`. `gain` is 1 + weight: GGUF
///           files store it so, safetensors store the weight alone.
/// Units     eps is added to the mean square, so it has the unit of x^2; Gemma 3: 1e-6.
/// Requires  D > 0; |x| <= 1e16.
/// Errors    none. A NaN makes the row NaN; so do values whose squares overflow.
/// Accuracy  within (D/16 + 8) * 2^-24 * |x| / rms * |gain| of exact, rms being sqrt(mean + eps).
/// Source    Zhang & Sennrich 2019, arXiv:1910.07467.
void rms_norm(Isa isa, std::span<float> out, std::span<const float> x, std::span<const float> gain,
              float eps);

/// residual[d] += rms_norm(branch, branch_gain)[d]; then out = rms_norm(residual, next_gain).
/// The end of one branch of a Gemma layer and the beginning of the next, one row.
/// Shapes    residual, branch, branch_gain, next_gain, out: [D] f32; `out` may be `branch`.
/// Errors    none. A NaN in branch makes both rows NaN; one in residual makes its own place and all
///           of out NaN.
/// Accuracy  that of rms_norm for the term added, and 2^-24 of the sum; then that of rms_norm on
///           the residual as stored.
void add_rms_norm(Isa isa, std::span<float> residual, std::span<const float> branch,
                  std::span<const float> branch_gain, std::span<const float> next_gain, float eps,
                  std::span<float> out);

}  // namespace unicorn::kernels
