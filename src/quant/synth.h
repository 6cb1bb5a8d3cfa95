#pragma once
// Models of any Gemma 3 shape with random weights: the speed, memory and layout of the real thing
// without its bytes. What they say is noise.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "quant/recipe.h"
#include "tensor/dtype.h"

namespace unicorn::quant {

/// A Gemma 3 text model's dimensions. Defaults are what every published size has in common.
struct SynthShape {
    std::string name;  // general.name is "synthetic-gemma-3-<name>"
    std::size_t n_layers = 0;
    std::size_t dim = 0;          // D
    std::size_t ffn_dim = 0;      // F
    std::size_t n_heads = 0;      // H
    std::size_t n_kv_heads = 0;   // K
    std::size_t head_dim = 0;     // E
    std::size_t window = 0;       // tokens
    std::size_t max_context = 0;  // tokens
    double rope_divisor_global = 1;
    double query_pre_attn_scalar = 0;
    std::size_t n_vocab = 262144;  // V
    std::size_t global_every = 6;
    double rope_base_global = 1e6;
    double rope_base_local = 1e4;
    double norm_eps = 1e-6;
};

/// A published size: 270m, 1b, 4b, 12b or 27b. Errors: invalid_argument, naming these.
Result<SynthShape> find_shape(std::string_view name);

/// The shape that a Hugging Face config.json at `path` describes (formats/hf_config.h says which
/// keys it needs and how the others default). Rows of the embedding past the 262,144 pieces are
/// left out. Errors: not_found, io; invalid_file; unsupported, for layers whose globals are not
/// evenly spaced.
Result<SynthShape> read_shape(const std::string& path);

struct SynthOptions {
    SynthShape shape;
    Recipe recipe;
    std::optional<tensor::DType> embedding;  // instead of the recipe's
    std::uint64_t seed = 1;
    std::size_t n_threads = 1;
};

struct SynthTensor {
    std::string name;
    tensor::DType type = tensor::DType::f32;
    std::size_t rows = 0;  // 1 for a norm
    std::size_t cols = 0;
};

/// The tensors that write_synthetic_model() would write, in the order of the file.
/// Errors: invalid_argument for a shape no Gemma 3 can have.
Result<std::vector<SynthTensor>> synthetic_tensors(const SynthOptions& options);

/// What was written.
struct SynthReport {
    struct Share {
        tensor::DType type;
        std::uint64_t n_weights;
        std::uint64_t bytes;
    };
    struct Fallback {  // `n_matrices` matrices of `cols` columns took `used` instead of `wanted`
        tensor::DType wanted;
        tensor::DType used;
        std::size_t cols;
        std::size_t n_matrices;
    };
    std::uint64_t n_weights = 0;
    std::uint64_t tensor_bytes = 0;
    tensor::DType embedding = tensor::DType::f32;
    std::vector<Share> shares;  // by type, largest first
    std::vector<Fallback> fallbacks;
};

/// Writes `path`, a GGUF whose matrices are N(0, 1 / cols), so that activations keep a realistic
/// scale, and whose norms are 1 + 0.1 N(0, 1). The bytes depend on everything in `options` but
/// n_threads. `on_progress` (may be empty) gets the bytes of tensor data written and their total;
/// when it returns false, nothing is left of `path`.
/// Cost      a matrix of more than 2^18 weights and four blocks a row is drawn from a pool of 2^20
///           quantised weights, in random runs of 64 to 128 or one block: as fast as the file takes
///           them. 140 MiB of memory.
/// Errors    invalid_argument for a shape no Gemma 3 can have; io; cancelled by `on_progress`.
Result<SynthReport> write_synthetic_model(
    const SynthOptions& options, const std::string& path,
    const std::function<bool(std::uint64_t done, std::uint64_t total)>& on_progress = {});

}  // namespace unicorn::quant
