#pragma once
// The tensors of a Gemma 3 file by role, with their shapes checked.

#include <array>
#include <vector>

#include "device/tensor_ref.h"
#include "formats/gguf.h"
#include "model/config.h"

namespace unicorn::model {

/// One layer. Matrices are [out, in]; gains are [1, n] f32 and hold 1 + weight.
struct LayerWeights {
    device::TensorRef attn_norm;            // [1, D]
    device::TensorRef attn_q;               // [H*E, D]
    device::TensorRef attn_k;               // [K*E, D]
    device::TensorRef attn_v;               // [K*E, D]
    device::TensorRef attn_q_norm;          // [1, E]
    device::TensorRef attn_k_norm;          // [1, E]
    device::TensorRef attn_output;          // [D, H*E]
    device::TensorRef post_attention_norm;  // [1, D]
    device::TensorRef ffn_norm;             // [1, D]
    device::TensorRef ffn_gate;             // [F, D]
    device::TensorRef ffn_up;               // [F, D]
    device::TensorRef ffn_down;             // [D, F]
    device::TensorRef post_ffw_norm;        // [1, D]
};

/// A layer's matrices that are multiplied, in the order they are read.
inline std::array<device::TensorRef*, 7> matrices(LayerWeights& layer) {
    return {&layer.attn_q,   &layer.attn_k, &layer.attn_v,  &layer.attn_output,
            &layer.ffn_gate, &layer.ffn_up, &layer.ffn_down};
}

struct Weights {
    device::TensorRef token_embd;  // [V, D], as in the file: rows are looked up
    std::vector<LayerWeights> layers;
    device::TensorRef output_norm;  // [1, D]
    device::TensorRef output;       // [V, D]; the embedding again, unless the file unties them

    /// Calls visit(TensorRef&) for every matrix that is multiplied, in the order they are read.
    template <typename Visit>
    void for_each_matrix(Visit&& visit) {
        for (LayerWeights& layer : layers) {
            for (device::TensorRef* w : matrices(layer)) visit(*w);
        }
        visit(output);
    }

    /// The same for every gain.
    template <typename Visit>
    void for_each_gain(Visit&& visit) {
        for (LayerWeights& layer : layers) {
            for (device::TensorRef* w :
                 {&layer.attn_norm, &layer.attn_q_norm, &layer.attn_k_norm,
                  &layer.post_attention_norm, &layer.ffn_norm, &layer.post_ffw_norm})
                visit(*w);
        }
        visit(output_norm);
    }
};

/// Finds every tensor of the model in `file`, which must outlive the result: the references point
/// into the mapped file (tier disk, layout rows).
/// Errors: invalid_file, naming the tensor that is missing or has another shape or type.
Result<Weights> bind_weights(const formats::Gguf& file, const Config& config);

}  // namespace unicorn::model
