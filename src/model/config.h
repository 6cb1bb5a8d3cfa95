#pragma once
// The shape of a Gemma 3 model, read from a file's metadata: any size, no table of sizes.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "formats/gguf.h"

namespace unicorn::model {

/// Names follow style.md: D, F, H, K, E, V. Defaults are what every published size has in common.
struct Config {
    std::string name;  // general.name, or empty
    std::size_t n_layers = 0;
    std::size_t dim = 0;           // D
    std::size_t ffn_dim = 0;       // F
    std::size_t n_heads = 0;       // H
    std::size_t n_kv_heads = 0;    // K
    std::size_t head_dim = 0;      // E
    std::size_t n_vocab = 0;       // V: rows of the embedding
    std::size_t max_context = 0;   // tokens
    std::size_t window = 0;        // tokens a local layer sees, the token itself included
    std::size_t global_every = 6;  // layer i (from 0) is global iff (i + 1) % global_every == 0
    float norm_eps = 1e-6f;        // unit of x^2
    double rope_base_global = 1e6;
    double rope_base_local = 1e4;
    double rope_divisor_global = 1;  // positions of global layers are divided by it
    double query_scale = 0;          // query_pre_attn_scalar^-0.5

    bool is_global(std::size_t layer) const { return (layer + 1) % global_every == 0; }
    std::size_t n_global_layers() const { return n_layers / global_every; }
    std::size_t n_local_layers() const { return n_layers - n_global_layers(); }
};

/// Reads and checks the metadata. Errors: unsupported (another architecture), invalid_file (a key
/// missing, out of range, or contradicting another), naming file and key.
Result<Config> read_config(const formats::Gguf& file);

}  // namespace unicorn::model
