#pragma once
// Passes over the logits of a vocabulary (262,144 for Gemma 3), for the sampler.

#include <cstddef>
#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

/// out[i] = logits[i], but -inf for a NaN and the largest float for +inf; returns the maximum of
/// `out`, -inf when it is empty.
/// Shapes    [V] both, any alignment; `out` may be `logits`.
/// Identity  all forms give equal numbers; of zeros, the sign of the maximum may differ.
/// Cost      bound by the caches: 4 bytes read and 4 written a logit.
float clean_logits(Isa isa, std::span<const float> logits, std::span<float> out);

/// The maximum, -inf when empty. A NaN counts as nothing.
float max_logit(Isa isa, std::span<const float> logits);

/// The first i >= first with logits[i] > threshold, or logits.size(). A NaN is above nothing.
std::size_t find_above(Isa isa, std::span<const float> logits, std::size_t first, float threshold);

/// sum_i exp(logits[i] - max), for finite `max` >= every logit; no NaN among them.
/// Identity  all forms give the same bits, so that a draw does not depend on the form.
/// Accuracy  relative 3e-7 + 2^-24 * D a term, where D is its distance from `max`; terms below
///           exp(-87) count as 0.
double sum_exp(Isa isa, std::span<const float> logits, float max);

}  // namespace unicorn::kernels
