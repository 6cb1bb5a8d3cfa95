#include "model/config.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "formats/gemma3_keys.h"
#include "kernels/matmul.h"

namespace unicorn::model {
namespace {

namespace keys = formats::gemma3;

/// Reads keys one after the other and remembers the first error, so that the list below stays a
/// list.
class Reader {
public:
    explicit Reader(const formats::Gguf& file) : file_(file) {}

    /// A count in [low, high].
    void count(std::string_view key, std::size_t& out, std::uint64_t low, std::uint64_t high) {
        if (error_) return;
        auto value = file_.get_uint(key);
        if (!value) {
            error_ = std::move(value.error());
        } else if (*value < low || *value > high) {
            error_ =
                Error{ErrorCode::invalid_file, fmt::format("{}: {} is {}, expected {} to {}",
                                                           file_.path(), key, *value, low, high)};
        } else {
            out = static_cast<std::size_t>(*value);
        }
    }
    void optional_count(std::string_view key, std::size_t& out, std::uint64_t low,
                        std::uint64_t high) {
        if (file_.find(key) != nullptr) count(key, out, low, high);
    }
    /// A number in [low, high].
    void number(std::string_view key, double& out, double low, double high) {
        if (error_) return;
        auto value = file_.get_float(key);
        if (!value) {
            error_ = std::move(value.error());
        } else if (!(*value >= low && *value <= high)) {
            error_ =
                Error{ErrorCode::invalid_file, fmt::format("{}: {} is {}, expected {} to {}",
                                                           file_.path(), key, *value, low, high)};
        } else {
            out = *value;
        }
    }
    void optional_number(std::string_view key, double& out, double low, double high) {
        if (file_.find(key) != nullptr) number(key, out, low, high);
    }

    std::optional<Error>& error() { return error_; }

private:
    const formats::Gguf& file_;
    std::optional<Error> error_;
};

/// Linear scaling of the global layers' positions, the only kind Gemma 3 has.
Result<double> read_rope_divisor(const formats::Gguf& file) {
    if (file.find(keys::kRopeScalingType) == nullptr) return 1.0;
    const auto type = file.get_string(keys::kRopeScalingType);
    if (!type) return tl::unexpected(type.error());
    if (*type == "none") return 1.0;
    if (*type != "linear") {
        return fail(ErrorCode::unsupported, "{}: {} is \"{}\", expected \"linear\" or \"none\"",
                    file.path(), keys::kRopeScalingType, *type);
    }
    double divisor = 1;
    Reader reader(file);
    reader.number(keys::kRopeScalingFactor, divisor, 1e-3, 1e6);
    if (reader.error()) return tl::unexpected(*reader.error());
    return divisor;
}

}  // namespace

Result<Config> read_config(const formats::Gguf& file) {
    const auto architecture = file.get_string("general.architecture");
    if (!architecture) return tl::unexpected(architecture.error());
    if (*architecture != keys::kArchitecture) {
        return fail(ErrorCode::unsupported,
                    "{}: architecture \"{}\" is not supported; supported: {}", file.path(),
                    *architecture, keys::kArchitecture);
    }

    Config c;
    if (const auto name = file.get_string("general.name")) c.name = *name;
    Reader reader(file);
    std::size_t value_dim = 0;
    double eps = 1e-6;
    double query_pre_attn_scalar = 0;
    reader.count(keys::kBlockCount, c.n_layers, 1, 1024);
    reader.count(keys::kEmbeddingLength, c.dim, 16, kernels::kMaxCols);
    reader.count(keys::kFeedForwardLength, c.ffn_dim, 16, kernels::kMaxCols);
    reader.count(keys::kHeadCount, c.n_heads, 1, 1024);
    reader.count(keys::kHeadCountKv, c.n_kv_heads, 1, 1024);
    reader.count(keys::kKeyLength, c.head_dim, 16, 256);
    reader.count(keys::kValueLength, value_dim, 16, 256);
    reader.count(keys::kContextLength, c.max_context, 1, 1 << 24);
    reader.count(keys::kSlidingWindow, c.window, 1, 1 << 24);
    reader.optional_count(keys::kSlidingWindowPattern, c.global_every, 1, 1024);
    reader.number(keys::kNormEpsilon, eps, 1e-30, 1);
    reader.optional_number(keys::kRopeBase, c.rope_base_global, 1, 1e15);
    reader.optional_number(keys::kRopeBaseLocal, c.rope_base_local, 1, 1e15);
    reader.optional_number(keys::kQueryPreAttnScalar, query_pre_attn_scalar, 1e-6, 1e6);
    if (reader.error()) return tl::unexpected(*reader.error());
    auto divisor = read_rope_divisor(file);
    if (!divisor) return forward(divisor);
    c.rope_divisor_global = *divisor;
    c.norm_eps = static_cast<float>(eps);

    if (c.n_heads % c.n_kv_heads != 0) {
        return fail(ErrorCode::invalid_file, "{}: {} is {}, not a multiple of {} = {}", file.path(),
                    keys::kHeadCount, c.n_heads, keys::kHeadCountKv, c.n_kv_heads);
    }
    if (value_dim != c.head_dim || c.head_dim % 16 != 0) {
        return fail(ErrorCode::unsupported,
                    "{}: key length {} and value length {}, expected equal multiples of 16",
                    file.path(), c.head_dim, value_dim);
    }
    if (query_pre_attn_scalar == 0) {
        query_pre_attn_scalar = c.n_layers == keys::kLayersOf27b
                                    ? static_cast<double>(c.dim) / static_cast<double>(c.n_heads)
                                    : static_cast<double>(c.head_dim);
    }
    c.query_scale = 1.0 / std::sqrt(query_pre_attn_scalar);

    const formats::GgufTensor* embedding = file.find_tensor("token_embd.weight");
    if (embedding == nullptr) {
        return fail(ErrorCode::invalid_file, "{}: tensor token_embd.weight is missing",
                    file.path());
    }
    c.n_vocab = embedding->matrix().rows;
    return c;
}

}  // namespace unicorn::model
