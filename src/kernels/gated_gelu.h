#pragma once

#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

/// out[i] = gelu_tanh(gate[i]) * up[i], with
///   gelu_tanh(x) = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
/// Shapes    all [N] f32, any alignment; `out` may be `gate` or `up`.
/// Errors    none. A NaN stays in its place; the result is finite for every finite gate whose
///           product with up is finite.
/// Accuracy  |error| <= 4e-7 * max(1, |gate|) * |up| against the exact value; every form handles
///           tails (N not a multiple of the vector) with the same arithmetic as the rest, so an
///           element's value does not depend on its place.
/// Source    Hendrycks & Gimpel 2016, arXiv:1606.08415.
void gated_gelu(Isa isa, std::span<float> out, std::span<const float> gate,
                std::span<const float> up);

}  // namespace unicorn::kernels
