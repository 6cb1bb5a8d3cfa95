#include "formats/hf_config.h"

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "formats/json_walk.h"
#include "formats/utf8.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kMaxConfigBytes = 1u << 20;
constexpr std::uint64_t kMaxDim = 1u << 20;
constexpr std::uint64_t kMaxLayers = 1024;
constexpr std::uint64_t kMaxPositions = 1u << 24;
constexpr std::uint64_t kDefaultPattern = 6;  // every 6th layer is global

/// Reads keys below `prefix` ("" or "text_config.") and keeps the first error.
class Reader {
public:
    Reader(const JsonTable& table, std::string prefix)
        : table_(table), prefix_(std::move(prefix)) {}

    Status status;

    std::string full(std::string_view key) const { return prefix_ + std::string(key); }
    bool has(std::string_view key) const { return table_.find(full(key)) != nullptr; }

    /// An integer in [low, high]; left as it is when missing.
    void count(std::string_view key, std::uint64_t& out, std::uint64_t low, std::uint64_t high) {
        if (!status) return;
        auto value = table_.get_uint(full(key));
        if (!value) {
            status = forward(value);
        } else if (*value && (**value < low || **value > high)) {
            status = fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected {} to {}",
                          table_.name(), full(key), **value, low, high);
        } else if (*value) {
            out = **value;
        }
    }

    void required_count(std::string_view key, std::uint64_t& out, std::uint64_t high) {
        if (status && !has(key))
            status =
                fail(ErrorCode::invalid_file, "{}: key '{}' is missing", table_.name(), full(key));
        count(key, out, 1, high);
    }

    /// A positive number; left as it is when missing.
    void number(std::string_view key, double& out) {
        if (!status) return;
        auto value = table_.get_float(full(key));
        if (!value) {
            status = forward(value);
        } else if (*value && !(**value > 0)) {
            status = fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected a positive number",
                          table_.name(), full(key), **value);
        } else if (*value) {
            out = **value;
        }
    }

    void flag(std::string_view key, bool& out) {
        if (!status) return;
        auto value = table_.get_bool(full(key));
        if (!value) {
            status = forward(value);
        } else if (*value) {
            out = **value;
        }
    }

    /// The string under `key`, or `otherwise`.
    std::string text(std::string_view key, std::string_view otherwise) {
        if (!status) return {};
        auto value = table_.get_string(full(key));
        if (!value) {
            status = forward(value);
            return {};
        }
        return value->value_or(std::string(otherwise));
    }

    template <typename... Args>
    void unsupported(fmt::format_string<Args...> format, Args&&... args) {
        if (status)
            status = fail(ErrorCode::unsupported, "{}: {}", table_.name(),
                          fmt::format(format, std::forward<Args>(args)...));
    }

private:
    const JsonTable& table_;
    std::string prefix_;
};

/// {"rope_type": "linear", "factor": 8.0} or {"rope_type": "default"}, `type` being its older name.
void read_scaling(Reader& reader, const std::string& key, double& factor) {
    const std::string type =
        reader.text(key + (reader.has(key + ".rope_type") ? ".rope_type" : ".type"), "default");
    if (type == "linear") {
        reader.number(key + ".factor", factor);
    } else if (type != "default") {
        reader.unsupported("key '{}' asks for {} scaling, expected 'linear' or 'default'",
                           reader.full(key), shown(type));
    }
}

void read_rope(Reader& reader, HfConfig& config) {
    reader.number("rope_theta", config.rope_theta);
    reader.number("rope_local_base_freq", config.rope_local_base_freq);
    if (reader.has("rope_scaling")) read_scaling(reader, "rope_scaling", config.rope_factor);
    if (!reader.has("rope_parameters")) return;
    const std::string global = "rope_parameters.full_attention";
    const std::string local = "rope_parameters.sliding_attention";
    if (!reader.has(global) || !reader.has(local)) {
        reader.unsupported("key '{}' has no full_attention and sliding_attention",
                           reader.full("rope_parameters"));
        return;
    }
    reader.number(global + ".rope_theta", config.rope_theta);
    reader.number(local + ".rope_theta", config.rope_local_base_freq);
    read_scaling(reader, global, config.rope_factor);
    double local_factor = 1;
    read_scaling(reader, local, local_factor);
    if (local_factor != 1)
        reader.unsupported("key '{}' scales positions by {}, expected 1", reader.full(local),
                           local_factor);
}

Status read_layer_types(const JsonTable& table, Reader& reader, HfConfig& config) {
    const std::uint64_t n = config.num_hidden_layers;
    if (!reader.has("layer_types")) {
        std::uint64_t pattern = kDefaultPattern;
        // "_sliding_window_pattern" is what transformers 4.53 and later write beside layer_types.
        reader.count(reader.has("sliding_window_pattern") ? "sliding_window_pattern"
                                                          : "_sliding_window_pattern",
                     pattern, 1, kMaxLayers);
        for (std::uint64_t i = 0; i < n; ++i) config.is_global.push_back((i + 1) % pattern == 0);
        return reader.status;
    }
    for (std::uint64_t i = 0; i <= n; ++i) {
        const std::string key = reader.full(fmt::format("layer_types[{}]", i));
        auto type = table.get_string(key);
        if (!type) return forward(type);
        if (type->has_value() != (i < n)) {
            return fail(ErrorCode::invalid_file, "{}: key '{}' has {} than num_hidden_layers = {}",
                        table.name(), reader.full("layer_types"),
                        i < n ? "fewer elements" : "more elements", n);
        }
        if (i == n) break;
        const bool global = **type == "full_attention";
        if (!global && **type != "sliding_attention") {
            return fail(ErrorCode::unsupported,
                        "{}: key '{}' is {}, expected 'full_attention' or 'sliding_attention'",
                        table.name(), key, shown(**type));
        }
        config.is_global.push_back(global);
    }
    return {};
}

/// One integer or an array of them; nothing when missing.
Result<std::vector<std::int64_t>> read_ids(const JsonTable& table, const std::string& key) {
    std::vector<std::int64_t> ids;
    const JsonValue* value = table.find(key);
    if (value == nullptr) return ids;
    const bool array = std::holds_alternative<JsonArray>(*value);
    for (std::size_t i = 0; i == 0 || array; ++i) {
        auto id = table.get_uint(array ? fmt::format("{}[{}]", key, i) : key);
        if (!id) return forward(id);
        if (!*id) break;
        if (**id > kMaxPositions) {
            return fail(ErrorCode::invalid_file, "{}: key '{}' holds the token id {}, too large",
                        table.name(), key, **id);
        }
        ids.push_back(static_cast<std::int64_t>(**id));
    }
    return ids;
}

Result<HfConfig> read_table(const JsonTable& table) {
    const bool nested = table.find("text_config") != nullptr;
    Reader top(table, "");
    const std::string model_type = top.text("model_type", "");
    if (!top.status) return forward(top.status);
    if (model_type != "gemma3" && model_type != "gemma3_text") {
        return fail(ErrorCode::unsupported,
                    "{}: key 'model_type' is {}, expected 'gemma3' or 'gemma3_text'", table.name(),
                    shown(model_type));
    }
    Reader reader(table, nested ? "text_config." : "");
    HfConfig config;
    reader.required_count("hidden_size", config.hidden_size, kMaxDim);
    reader.required_count("intermediate_size", config.intermediate_size, kMaxDim);
    reader.required_count("num_hidden_layers", config.num_hidden_layers, kMaxLayers);
    reader.count("num_attention_heads", config.num_attention_heads, 1, 1024);
    reader.count("num_key_value_heads", config.num_key_value_heads, 1, 1024);
    reader.count("head_dim", config.head_dim, 2, 4096);
    reader.count("vocab_size", config.vocab_size, 1, kMaxDim);
    reader.count("max_position_embeddings", config.max_position_embeddings, 1, kMaxPositions);
    reader.count("sliding_window", config.sliding_window, 1, kMaxPositions);
    reader.number("query_pre_attn_scalar", config.query_pre_attn_scalar);
    reader.number("rms_norm_eps", config.rms_norm_eps);
    read_rope(reader, config);
    top.flag("tie_word_embeddings", config.tie_word_embeddings);
    if (nested) reader.flag("tie_word_embeddings", config.tie_word_embeddings);

    bool attention_bias = false;
    reader.flag("attention_bias", attention_bias);
    if (attention_bias) reader.unsupported("key '{}' is true", reader.full("attention_bias"));
    for (const std::string_view key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
        if (reader.has(key)) reader.unsupported("key '{}' is set, expected null", reader.full(key));
    }
    const std::string activation = reader.text("hidden_activation", "gelu_pytorch_tanh");
    if (activation != "gelu_pytorch_tanh") {
        reader.unsupported("key '{}' is {}, expected 'gelu_pytorch_tanh'",
                           reader.full("hidden_activation"), shown(activation));
    }
    if (!top.status) return forward(top.status);
    if (!reader.status) return forward(reader.status);
    if (config.num_attention_heads % config.num_key_value_heads != 0) {
        return fail(ErrorCode::invalid_file,
                    "{}: num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                    table.name(), config.num_attention_heads, config.num_key_value_heads);
    }
    if (auto status = read_layer_types(table, reader, config); !status) return forward(status);

    for (const std::string& prefix : {std::string(), std::string("text_config.")}) {
        auto bos = read_ids(table, prefix + "bos_token_id");
        if (!bos) return forward(bos);
        if (!bos->empty()) config.bos_token_id = bos->front();
        auto pad = read_ids(table, prefix + "pad_token_id");
        if (!pad) return forward(pad);
        if (!pad->empty()) config.pad_token_id = pad->front();
        auto eos = read_ids(table, prefix + "eos_token_id");
        if (!eos) return forward(eos);
        if (!eos->empty() && config.eos_token_ids.empty()) config.eos_token_ids = std::move(*eos);
    }
    return config;
}

}  // namespace

Result<HfConfig> parse_hf_config(const std::string& name, std::string_view text) {
    auto table = JsonTable::parse(name, text);
    if (!table) return forward(table);
    return read_table(*table);
}

Result<HfConfig> read_hf_config(const std::string& folder) {
    const std::string path = (std::filesystem::path(folder) / "config.json").string();
    auto text = read_file(path, kMaxConfigBytes);
    if (!text) return forward(text);
    return parse_hf_config(path, *text);
}

Result<HfGenerationConfig> read_hf_generation_config(const std::string& folder) {
    HfGenerationConfig config;
    const std::string path = (std::filesystem::path(folder) / "generation_config.json").string();
    std::error_code ignored;  // what cannot be looked at is reported by read()
    if (!std::filesystem::exists(path, ignored)) return config;
    auto table = JsonTable::read(path);
    if (!table) return forward(table);
    auto ids = read_ids(*table, "eos_token_id");
    if (!ids) return forward(ids);
    config.eos_token_ids = std::move(*ids);
    for (const auto& [key, out] : {std::pair{"temperature", &config.temperature},
                                   {"top_p", &config.top_p},
                                   {"min_p", &config.min_p},
                                   {"repetition_penalty", &config.repetition_penalty}}) {
        auto value = table->get_float(key);
        if (!value) return forward(value);
        *out = *value;
    }
    auto top_k = table->get_uint("top_k");
    if (!top_k) return forward(top_k);
    config.top_k = *top_k;
    return config;
}

}  // namespace unicorn::formats
