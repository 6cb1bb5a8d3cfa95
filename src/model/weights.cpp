#include "model/weights.h"

#include <fmt/format.h>

#include <optional>

namespace unicorn::model {
namespace {

/// Looks tensors up and remembers the first error.
class Binder {
public:
    explicit Binder(const formats::Gguf& file) : file_(file) {}

    device::TensorRef matrix(const std::string& name, std::size_t rows, std::size_t cols) {
        const formats::GgufTensor* tensor = find(name);
        if (tensor == nullptr) return {};
        const tensor::MatrixView view = tensor->matrix();
        if (tensor->dims.size() > 2) {
            error_ = Error{ErrorCode::invalid_file,
                           fmt::format("{}: {} has {} dimensions, expected at most 2", file_.path(),
                                       name, tensor->dims.size())};
            return {};
        }
        if (view.rows != rows || view.cols != cols) {
            error_ = Error{ErrorCode::invalid_file,
                           fmt::format("{}: {} has shape [{}, {}], expected [{}, {}]", file_.path(),
                                       name, view.rows, view.cols, rows, cols)};
            return {};
        }
        return ref(view);
    }

    device::TensorRef gain(const std::string& name, std::size_t n) {
        device::TensorRef result = matrix(name, 1, n);
        if (!error_ && result.type != tensor::DType::f32) {
            error_ = Error{ErrorCode::unsupported,
                           fmt::format("{}: {} is {}, expected f32", file_.path(), name,
                                       tensor::name(result.type))};
        }
        return result;
    }

    std::optional<Error>& error() { return error_; }

private:
    const formats::GgufTensor* find(const std::string& name) {
        if (error_) return nullptr;
        const formats::GgufTensor* tensor = file_.find_tensor(name);
        if (tensor == nullptr) {
            error_ = Error{ErrorCode::invalid_file,
                           fmt::format("{}: tensor {} is missing", file_.path(), name)};
        }
        return tensor;
    }

    static device::TensorRef ref(const tensor::MatrixView& view) {
        device::TensorRef result;
        result.type = view.type;
        result.tier = memory::Tier::disk;
        result.rows = view.rows;
        result.cols = view.cols;
        // The mapping is read-only; steps take weights as const.
        result.host = const_cast<std::byte*>(view.data);
        return result;
    }

    const formats::Gguf& file_;
    std::optional<Error> error_;
};

}  // namespace

Result<Weights> bind_weights(const formats::Gguf& file, const Config& c) {
    Binder bind(file);
    Weights w;
    const std::size_t q_dim = c.n_heads * c.head_dim;
    const std::size_t kv_dim = c.n_kv_heads * c.head_dim;
    w.token_embd = bind.matrix("token_embd.weight", c.n_vocab, c.dim);
    for (std::size_t i = 0; i < c.n_layers && !bind.error(); ++i) {
        const auto name = [&](const char* role) {
            return fmt::format("blk.{}.{}.weight", i, role);
        };
        LayerWeights& layer = w.layers.emplace_back();
        layer.attn_norm = bind.gain(name("attn_norm"), c.dim);
        layer.attn_q = bind.matrix(name("attn_q"), q_dim, c.dim);
        layer.attn_k = bind.matrix(name("attn_k"), kv_dim, c.dim);
        layer.attn_v = bind.matrix(name("attn_v"), kv_dim, c.dim);
        layer.attn_q_norm = bind.gain(name("attn_q_norm"), c.head_dim);
        layer.attn_k_norm = bind.gain(name("attn_k_norm"), c.head_dim);
        layer.attn_output = bind.matrix(name("attn_output"), c.dim, q_dim);
        layer.post_attention_norm = bind.gain(name("post_attention_norm"), c.dim);
        layer.ffn_norm = bind.gain(name("ffn_norm"), c.dim);
        layer.ffn_gate = bind.matrix(name("ffn_gate"), c.ffn_dim, c.dim);
        layer.ffn_up = bind.matrix(name("ffn_up"), c.ffn_dim, c.dim);
        layer.ffn_down = bind.matrix(name("ffn_down"), c.dim, c.ffn_dim);
        layer.post_ffw_norm = bind.gain(name("post_ffw_norm"), c.dim);
    }
    w.output_norm = bind.gain("output_norm.weight", c.dim);
    w.output = file.find_tensor("output.weight") == nullptr
                   ? w.token_embd
                   : bind.matrix("output.weight", c.n_vocab, c.dim);
    if (bind.error()) return tl::unexpected(std::move(*bind.error()));
    return w;
}

}  // namespace unicorn::model
