#include "model/gemma3.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace unicorn::model {

Result<ActivationMemory> allocate_activations(const Config& c, std::size_t rows,
                                              std::size_t logit_rows,
                                              memory::TierAllocator& allocator,
                                              memory::TierAllocator& results, Activations& a) {
    struct Shape {
        device::TensorRef* ref;
        std::size_t rows, cols;
        std::size_t bytes() const {
            return (rows * cols * sizeof(float) + 63) / 64 * 64;
        }  // keeps all 64-byte aligned
    };
    const auto place = [](std::span<const Shape> shapes,
                          memory::TierAllocator& from) -> Result<memory::Allocation> {
        std::size_t bytes = 0;
        for (const Shape& shape : shapes) bytes += shape.bytes();
        auto memory = from.allocate(bytes, 64);
        if (!memory) return memory;
        std::size_t offset = 0;
        for (const Shape& shape : shapes) {
            *shape.ref =
                device::TensorRef{.tier = from.tier(), .rows = shape.rows, .cols = shape.cols};
            if (memory->host() != nullptr) shape.ref->host = memory->host() + offset;
            if (memory->device_address() != 0)
                shape.ref->device_address = memory->device_address() + offset;
            offset += shape.bytes();
        }
        return memory;
    };
    auto activations = place(
        std::array{
            Shape{&a.residual, rows, c.dim},
            Shape{&a.x, rows, c.dim},
            Shape{&a.q, rows, c.n_heads * c.head_dim},
            Shape{&a.k, rows, c.n_kv_heads * c.head_dim},
            Shape{&a.v, rows, c.n_kv_heads * c.head_dim},
            Shape{&a.attention, rows, c.n_heads * c.head_dim},
            Shape{&a.branch, rows, c.dim},
            Shape{&a.ffn, rows, c.ffn_dim},
        },
        allocator);
    if (!activations) return forward(activations);
    auto logits = place(std::array{Shape{&a.logits, logit_rows, c.n_vocab}}, results);
    if (!logits) return forward(logits);
    return ActivationMemory{std::move(*activations), std::move(*logits)};
}

ForwardPass forward_pass(const Config& c, const Weights& w, const Activations& a,
                         const std::vector<device::KvCache>& caches,
                         std::span<const std::size_t> streamed, device::WeightGate* gate) {
    UNICORN_CHECK(w.layers.size() == c.n_layers && caches.size() == c.n_layers);
    ForwardPass pass;
    auto& steps = pass.body;
    const float eps = c.norm_eps;

    steps.push_back(device::Embed{w.token_embd, a.residual, std::sqrt(static_cast<float>(c.dim))});
    steps.push_back(device::RmsNorm{a.residual, w.layers[0].attn_norm, a.x, eps});
    for (std::size_t i = 0; i < c.n_layers; ++i) {
        const LayerWeights& layer = w.layers[i];
        const bool global = c.is_global(i);
        const bool last = i + 1 == c.n_layers;
        const auto unit = std::ranges::find(streamed, i);
        const auto unit_index = static_cast<std::size_t>(unit - streamed.begin());

        if (unit != streamed.end()) steps.push_back(device::AwaitWeights{gate, unit_index});
        steps.push_back(
            device::Project{3, {layer.attn_q, layer.attn_k, layer.attn_v}, a.x, {a.q, a.k, a.v}});
        steps.push_back(
            device::QkvToCache{.q = a.q,
                               .k = a.k,
                               .v = a.v,
                               .q_gain = layer.attn_q_norm,
                               .k_gain = layer.attn_k_norm,
                               .cache = caches[i],
                               .n_heads = c.n_heads,
                               .n_kv_heads = c.n_kv_heads,
                               .head_dim = c.head_dim,
                               .eps = eps,
                               .rope_base = global ? c.rope_base_global : c.rope_base_local,
                               .rope_divisor = global ? c.rope_divisor_global : 1.0});
        steps.push_back(device::Attention{.q = a.q,
                                          .cache = caches[i],
                                          .out = a.attention,
                                          .n_heads = c.n_heads,
                                          .n_kv_heads = c.n_kv_heads,
                                          .head_dim = c.head_dim,
                                          .scale = static_cast<float>(c.query_scale),
                                          .window = global ? 0 : c.window});
        steps.push_back(device::Project{1, {layer.attn_output}, a.attention, {a.branch}});
        steps.push_back(device::AddNorm{a.residual, a.branch, layer.post_attention_norm,
                                        layer.ffn_norm, a.x, eps});

        steps.push_back(device::GatedFfn{layer.ffn_gate, layer.ffn_up, a.x, a.ffn});
        steps.push_back(device::Project{1, {layer.ffn_down}, a.ffn, {a.branch}});
        if (unit != streamed.end()) steps.push_back(device::ReleaseWeights{gate, unit_index});
        const device::TensorRef& next_norm = last ? w.output_norm : w.layers[i + 1].attn_norm;
        steps.push_back(
            device::AddNorm{a.residual, a.branch, layer.post_ffw_norm, next_norm, a.x, eps});
        pass.layer_ends.push_back(steps.size());
    }
    pass.head.push_back(device::Head{w.output, a.x, a.logits});
    return pass;
}

}  // namespace unicorn::model
