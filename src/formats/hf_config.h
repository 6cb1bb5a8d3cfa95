#pragma once
// The config.json of a Hugging Face Gemma 3 folder as plain values.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace unicorn::formats {

/// Gemma 3's text model. The defaults are those of huggingface/transformers' Gemma3TextConfig
/// (models/gemma3/configuration_gemma3.py): published files leave out what equals them.
struct HfConfig {
    std::uint64_t hidden_size = 0;          // D; required
    std::uint64_t intermediate_size = 0;    // F; required
    std::uint64_t num_hidden_layers = 0;    // required
    std::uint64_t num_attention_heads = 8;  // H
    std::uint64_t num_key_value_heads = 4;  // K, divides H
    std::uint64_t head_dim = 256;           // E
    std::uint64_t vocab_size = 262208;      // rows of the embedding
    std::uint64_t max_position_embeddings = 131072;
    std::uint64_t sliding_window = 4096;
    std::vector<bool> is_global;  // [num_hidden_layers]; from layer_types, else from the pattern
    double query_pre_attn_scalar = 256;
    double rms_norm_eps = 1e-6;
    double rope_theta = 1e6;            // global layers
    double rope_local_base_freq = 1e4;  // local layers
    double rope_factor = 1;             // linear scaling of the global layers' positions
    bool tie_word_embeddings = true;
    std::optional<std::int64_t> bos_token_id, pad_token_id;
    std::vector<std::int64_t> eos_token_ids;
};

/// Reads "<folder>/config.json", a multimodal one (text_config) too, and both ways of writing the
/// rotary parameters (rope_scaling; rope_parameters of transformers 5).
/// Errors: not_found, io; invalid_file with file, key and reason; unsupported for another model
/// type and for what Gemma 3 does not have (biases, soft-caps, other activations or scalings).
Result<HfConfig> read_hf_config(const std::string& folder);

/// The same from the file's text; `name` opens every message.
Result<HfConfig> parse_hf_config(const std::string& name, std::string_view text);

/// What generation_config.json says; nothing of it is needed.
struct HfGenerationConfig {
    std::vector<std::int64_t> eos_token_ids;
    std::optional<double> temperature, top_p, min_p, repetition_penalty;
    std::optional<std::uint64_t> top_k;
};

/// Reads "<folder>/generation_config.json"; without such a file, nothing is set.
/// Errors: io; invalid_file with file, key and reason.
Result<HfGenerationConfig> read_hf_generation_config(const std::string& folder);

}  // namespace unicorn::formats
