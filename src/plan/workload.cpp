#include "plan/workload.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"

namespace unicorn::plan {
namespace {

// Those of kernels/kv_page.h and model/gemma3.cpp: a test of the engine holds the plan against what
// it allocates.
constexpr std::size_t kPageTokens = 32;
constexpr std::size_t kAlignment = 64;
// Logits of one head pass: 8 rows of 262,144 are 8 MB, and 8 rows read the head's weights once.
constexpr std::size_t kMinLogitRows = 8;

std::size_t pages_for(std::size_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

std::uint64_t aligned(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::uint64_t f32_bytes(std::size_t rows, std::size_t cols) {
    return aligned(std::uint64_t{rows} * cols * sizeof(float));
}

}  // namespace

std::optional<Role> role_of(std::string_view name) {
    constexpr std::pair<std::string_view, Role> kNames[] = {{"token_embd.", Role::embedding},
                                                            {"output.", Role::head},
                                                            {"output_norm.", Role::norm},
                                                            {".attn_q.", Role::q},
                                                            {".attn_k.", Role::k},
                                                            {".attn_v.", Role::v},
                                                            {".attn_output.", Role::o},
                                                            {".ffn_gate.", Role::gate},
                                                            {".ffn_up.", Role::up},
                                                            {".ffn_down.", Role::down}};
    const bool in_layer = name.starts_with("blk.");
    if (in_layer && name.ends_with("_norm.weight")) return Role::norm;
    for (const auto& [part, role] : kNames) {
        const std::size_t at = name.find(part);
        if (part.front() == '.' ? in_layer && at != std::string_view::npos : at == 0) return role;
    }
    return std::nullopt;
}

TensorSpec describe_tensor(std::string name, tensor::DType type, std::size_t rows,
                           std::size_t cols) {
    TensorSpec spec;
    const auto role = role_of(name);
    UNICORN_CHECK(role.has_value());
    spec.role = *role;
    if (name.starts_with("blk.")) {
        std::size_t layer = 0;
        const auto [end, error] =
            std::from_chars(name.data() + 4, name.data() + name.size(), layer);
        if (error == std::errc()) spec.layer = layer;
    }
    spec.name = std::move(name);
    spec.type = type;
    spec.rows = rows;
    spec.cols = cols;
    spec.bytes = std::uint64_t{rows} * tensor::row_bytes(type, cols);
    return spec;
}

std::uint64_t ModelSpec::weight_bytes() const {
    std::uint64_t bytes = 0;
    for (const TensorSpec& tensor : tensors) bytes += tensor.bytes;
    return bytes;
}

bool ModelSpec::tied() const {
    return std::ranges::count(tensors, Role::head, &TensorSpec::role) == 0;
}

std::size_t logit_rows(const Workload& w) { return std::max(kMinLogitRows, w.sequences); }

std::size_t chunk_rows(const Workload& w) {
    return std::max(std::min(w.chunk_tokens, w.context), std::min(w.sequences, w.context));
}

KvBytes kv_bytes(const ModelSpec& model, const Workload& w, std::size_t layer) {
    const std::uint64_t row = model.n_kv_heads * tensor::row_bytes(w.kv_type, model.head_dim);
    std::size_t pages = pages_for(w.context), tokens = w.context;
    if (!model.is_global(layer)) {
        pages = std::min(pages, pages_for(model.window + chunk_rows(w)) + 1);
        tokens = std::min(tokens, model.window);
    }
    return {2 * aligned(std::uint64_t{w.sequences} * pages * kPageTokens * row),
            2 * std::uint64_t{w.sequences} * tokens * row};
}

ActivationBytes activation_bytes(const ModelSpec& model, const Workload& w) {
    const std::size_t rows = chunk_rows(w);
    const std::uint64_t q = f32_bytes(rows, model.n_heads * model.head_dim);
    const std::uint64_t kv = f32_bytes(rows, model.n_kv_heads * model.head_dim);
    return {2 * q + 2 * kv, 3 * f32_bytes(rows, model.dim) + f32_bytes(rows, model.ffn_dim) +
                                f32_bytes(logit_rows(w), model.n_vocab)};
}

}  // namespace unicorn::plan
