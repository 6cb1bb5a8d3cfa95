#pragma once
// Gemma 3's forward pass as steps.

#include <span>
#include <vector>

#include "device/step.h"
#include "model/config.h"
#include "model/weights.h"

namespace unicorn::model {

/// Activations of a pass over at most T rows, f32.
struct Activations {
    device::TensorRef residual;   // [T, D]
    device::TensorRef x;          // [T, D]: normed input of the next matrix
    device::TensorRef q;          // [T, H*E]
    device::TensorRef k, v;       // [T, K*E]
    device::TensorRef attention;  // [T, H*E]
    device::TensorRef branch;     // [T, D]: what attention or the FFN adds
    device::TensorRef ffn;        // [T, F]
    device::TensorRef logits;     // [logit rows, V]
};

struct ActivationMemory {
    memory::Allocation activations, logits;
};

/// Takes a piece of `allocator`'s memory for activations of `rows` rows and one of `results`'s for
/// `logit_rows` rows of logits, and points `a` into them. Errors: out_of_memory.
Result<ActivationMemory> allocate_activations(const Config& config, std::size_t rows,
                                              std::size_t logit_rows,
                                              memory::TierAllocator& allocator,
                                              memory::TierAllocator& results, Activations& a);

/// The steps of one pass. After body[layer_ends[i] - 1], `residual` holds the output of layer i.
struct ForwardPass {
    std::vector<device::Step> body;       // tokens to the normed output of the last layer, in x
    std::vector<std::size_t> layer_ends;  // by layer
    std::vector<device::Step> head;       // x to logits, for the batch's logit_rows
};

/// `caches`: one for each layer. `streamed`: the layers whose matrices are there only between
/// `gate`'s acquire() and release(), ascending; the gate knows them by their place in this list.
ForwardPass forward_pass(const Config& config, const Weights& weights, const Activations& a,
                         const std::vector<device::KvCache>& caches,
                         std::span<const std::size_t> streamed = {},
                         device::WeightGate* gate = nullptr);

}  // namespace unicorn::model
