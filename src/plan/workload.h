#pragma once
// What is to run, as the planner sees it: tensors with names and sizes, no bytes of them. Made from
// a GGUF header, or from a shape and a recipe.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace unicorn::plan {

enum class Role { embedding, head, q, k, v, o, gate, up, down, norm };
inline constexpr std::size_t kRoles = 10;

/// Role of a tensor by its name in a GGUF file ("blk.3.attn_q.weight"); nothing for one that is no
/// part of a text model, such as a vision tower's.
std::optional<Role> role_of(std::string_view name);

inline constexpr std::size_t kNoLayer = std::numeric_limits<std::size_t>::max();

struct TensorSpec {
    std::string name;
    Role role = Role::norm;
    std::size_t layer = kNoLayer;
    tensor::DType type = tensor::DType::f32;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::uint64_t bytes = 0;  // as the device keeps it

    std::uint64_t file_bytes() const { return std::uint64_t{rows} * tensor::row_bytes(type, cols); }
};

/// A tensor as it lies in its file; its name has a role. Of `embedding` and `head`, a tied model
/// has the first only.
TensorSpec describe_tensor(std::string name, tensor::DType type, std::size_t rows,
                           std::size_t cols);

/// Names follow style.md: D, F, H, K, E, V.
struct ModelSpec {
    std::string name;
    std::size_t n_layers = 0;
    std::size_t dim = 0;         // D
    std::size_t ffn_dim = 0;     // F
    std::size_t n_heads = 0;     // H
    std::size_t n_kv_heads = 0;  // K
    std::size_t head_dim = 0;    // E
    std::size_t n_vocab = 0;     // V
    std::size_t max_context = 0;
    std::size_t window = 0;
    std::size_t global_every = 6;  // layer i (from 0) is global iff (i + 1) % global_every == 0
    std::vector<TensorSpec> tensors;

    bool tied() const;  // the embedding is the head, too
    bool is_global(std::size_t layer) const { return (layer + 1) % global_every == 0; }
    std::uint64_t weight_bytes() const;
};

/// How it is to run.
struct Workload {
    std::size_t context = 4096;  // tokens a sequence can hold
    std::size_t sequences = 1;   // in memory, and decoded together
    std::size_t chunk_tokens = 512;
    tensor::DType kv_type = tensor::DType::f16;
    /// What the device takes beside the activations; empty: nothing.
    std::function<std::uint64_t(const Workload&)> scratch_bytes;
    std::uint64_t load_staging_bytes = 0;    // of buffers for reads, until all is loaded
    std::uint64_t stream_staging_bytes = 0;  // of buffers for reads, while layers are streamed
};

/// Keys and values of all sequences, of one layer, in bytes.
struct KvBytes {
    std::uint64_t held = 0;       // pages as allocated
    std::uint64_t in_window = 0;  // rows that a token at the end of the context reads
};
KvBytes kv_bytes(const ModelSpec& model, const Workload& workload, std::size_t layer);

/// Activations of a pass, f32, as model::allocate_activations takes them: those between q, k, v and
/// the output projection, and the others.
struct ActivationBytes {
    std::uint64_t attention = 0;
    std::uint64_t others = 0;
};
ActivationBytes activation_bytes(const ModelSpec& model, const Workload& workload);

/// Rows of logits that one pass of the head makes.
std::size_t logit_rows(const Workload& workload);
/// Rows of a pass at most: chunk_tokens, but not more than the context, nor fewer than sequences.
std::size_t chunk_rows(const Workload& workload);

}  // namespace unicorn::plan
