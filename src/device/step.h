#pragma once
// A step is one kernel call with typed parameters and operands. model/ writes the steps of a
// forward pass once; a device turns them into something it replays over batches.
//
// T below is the number of rows of the batch of that pass; activations are f32, allocated for the
// largest batch, and only their first T rows are touched.

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <variant>

#include "device/tensor_ref.h"
#include "device/weight_gate.h"

namespace unicorn::device {

/// Layers that share a page table: all local ones (a window of tokens), all global ones.
enum class LayerGroup : std::uint8_t { local = 0, global = 1 };
inline constexpr std::size_t kLayerGroups = 2;

/// One layer's cache: k and v are [pages, K] pages of 32 tokens (kernels/kv_page.h), given as
/// matrices [pages * K * 32, E] of f16, q8_0 or f32.
struct KvCache {
    TensorRef k;
    TensorRef v;
    LayerGroup group = LayerGroup::global;
};

/// out[t] = scale * weights[token of row t].   weights [V, D], out [T, D].
struct Embed {
    TensorRef weights;
    TensorRef out;
    float scale = 1;
};

/// out[t] = rms_norm(x[t]) * gain.   x, out [T, D], gain [1, D].
struct RmsNorm {
    TensorRef x;
    TensorRef gain;
    TensorRef out;
    float eps = 0;
};

/// outs[i][t] = weights[i] x[t], i < count: up to three matrices over one input.
/// weights[i] [R_i, D], x [T, D], outs[i] [T, R_i].
struct Project {
    std::size_t count = 1;
    std::array<TensorRef, 3> weights;
    TensorRef x;
    std::array<TensorRef, 3> outs;
};

/// q and k are normed over head_dim and rotated; k and v go to the cache at the row's position.
/// q [T, H*E] in place; k, v [T, K*E] are consumed.
struct QkvToCache {
    TensorRef q, k, v;
    TensorRef q_gain, k_gain;  // [1, E]
    KvCache cache;
    std::size_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
    float eps = 0;
    double rope_base = 0;
    double rope_divisor = 1;
};

/// out[t] = softmax(scale * q[t] K^T) V, causal; keys with position > q_pos - window only, when
/// window > 0. q, out [T, H*E].
struct Attention {
    TensorRef q;
    KvCache cache;
    TensorRef out;
    std::size_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
    float scale = 1;
    std::size_t window = 0;  // tokens, the query's own included; 0: all
};

/// out[t] = gelu_tanh(gate x[t]) * (up x[t]).   gate, up [F, D], x [T, D], out [T, F].
struct GatedFfn {
    TensorRef gate, up;
    TensorRef x;
    TensorRef out;
};

/// residual[t] += rms_norm(branch[t]) * branch_gain; out[t] = rms_norm(residual[t]) * next_gain.
/// All [T, D]; gains [1, D].
struct AddNorm {
    TensorRef residual;
    TensorRef branch;
    TensorRef branch_gain;
    TensorRef next_gain;
    TensorRef out;
    float eps = 0;
};

/// logits[i] = weights x[logit_rows[i]].   weights [V, D], x [T, D], logits [n_logit_rows, V].
struct Head {
    TensorRef weights;
    TensorRef x;
    TensorRef logits;
};

/// ids[i] = the largest of logits[i, 0..n_vocab), the lowest of those that are: a NaN counts as
/// nothing, +inf as the largest float; -1 where nothing is above -inf. For the batch's logit rows.
/// logits [rows, V]; ids [1, rows], whose bytes are int32.
struct PickLargest {
    TensorRef logits;
    TensorRef ids;
    std::size_t n_vocab = 0;
};

/// ids[i] = what the sampler of states[i] draws from logits[i, 0..n_vocab), exactly as
/// engine/sampler.h does; -1 where nothing is above -inf. For the batch's logit rows. The states
/// are brought up to date, and the logits may be changed. logits [rows, V]; states [rows, words of
/// a kernels::draw::DrawState]; ids as PickLargest's.
struct Sample {
    TensorRef logits;
    TensorRef states;
    TensorRef ids;
    std::size_t n_vocab = 0;
};

/// Waits until the streamed weights of `unit` may be read; the steps that do come after it.
struct AwaitWeights {
    WeightGate* gate = nullptr;  // outlives the program
    std::size_t unit = 0;
};

/// The streamed weights of `unit` are done with.
struct ReleaseWeights {
    WeightGate* gate = nullptr;
    std::size_t unit = 0;
};

using Step = std::variant<Embed, RmsNorm, Project, QkvToCache, Attention, GatedFfn, AddNorm, Head,
                          PickLargest, Sample, AwaitWeights, ReleaseWeights>;

/// "embed", "rms_norm", "project", ...: for errors and breakdowns, by the index of the variant.
std::string_view step_name(std::size_t index);
inline std::string_view name(const Step& step) { return step_name(step.index()); }

}  // namespace unicorn::device
