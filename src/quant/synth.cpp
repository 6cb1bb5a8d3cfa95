#include "quant/synth.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <numbers>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "formats/gemma3_keys.h"
#include "formats/gguf_writer.h"
#include "formats/hf_config.h"
#include "quant/quantize.h"
#include "quant/synthetic_vocabulary.h"
#include "tensor/blocks.h"

namespace unicorn::quant {
namespace {

using tensor::DType;

// Source: google/gemma_pytorch, gemma/config.py.
//                         layers D     F      H   K   E    window context /pos  query scalar
const SynthShape kShapes[] = {
    {"270m", 18, 640, 2048, 4, 1, 256, 512, 32768, 1, 256},
    {"1b", 26, 1152, 6912, 4, 1, 256, 512, 32768, 1, 256},
    {"4b", 34, 2560, 10240, 8, 4, 256, 1024, 131072, 8, 256},
    {"12b", 48, 3840, 15360, 16, 8, 256, 1024, 131072, 8, 256},
    {"27b", 62, 5376, 21504, 32, 16, 128, 1024, 131072, 8, 168},
};

// ---- random numbers ---------------------------------------------------------------------------

// splitmix64 (Steele, Lea, Flood 2014): any seed is a good one, and streams are cheap to make.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    // An independent stream for part `index` of `what`.
    Random(std::uint64_t seed, std::uint64_t what, std::uint64_t index) : Random(seed) {
        state_ = next() ^ what;
        state_ = next() ^ index;
        state_ = next();
    }
    std::uint64_t next() {
        state_ += 0x9E3779B97F4A7C15u;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    // In [0, n), n < 2^32.
    std::size_t below(std::size_t n) {
        return static_cast<std::size_t>(((next() >> 32) * n) >> 32);
    }

private:
    std::uint64_t state_;
};

// N(0, 1) by Box and Muller, two at a time.
void fill_normal(Random& random, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); i += 2) {
        const double u = (static_cast<double>(random.next() >> 11) + 0.5) * 0x1p-53;
        const double angle =
            static_cast<double>(random.next() >> 11) * 0x1p-53 * 2 * std::numbers::pi;
        const double radius = std::sqrt(-2 * std::log(u));
        out[i] = static_cast<float>(radius * std::cos(angle));
        if (i + 1 < out.size()) out[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
}

// ---- what goes into the file ------------------------------------------------------------------

struct Tensor {
    std::string name;
    DType type;
    std::size_t rows;  // 0 for a norm
    std::size_t cols;

    bool is_norm() const { return rows == 0; }
    std::uint64_t n_weights() const {
        return static_cast<std::uint64_t>(std::max<std::size_t>(rows, 1)) * cols;
    }
};

struct Layout {
    std::vector<Tensor> tensors;
    SynthReport report;
};

Layout lay_out(const SynthOptions& options) {
    const SynthShape& s = options.shape;
    Layout layout;
    SynthReport& report = layout.report;
    const auto add_matrix = [&](std::string name, DType wanted, std::size_t rows,
                                std::size_t cols) {
        const DType used = fitting_type(wanted, cols);
        layout.tensors.push_back({std::move(name), used, rows, cols});
        if (used == wanted) return;
        for (SynthReport::Fallback& known : report.fallbacks) {
            if (known.wanted == wanted && known.cols == cols) {
                ++known.n_matrices;
                return;
            }
        }
        report.fallbacks.push_back({wanted, used, cols, 1});
    };
    const auto add_norm = [&](std::string name, std::size_t cols) {
        layout.tensors.push_back({std::move(name), DType::f32, 0, cols});
    };

    const DType embedding =
        options.embedding.value_or(wanted_type(options.recipe, Role::embedding, 0, s.n_layers));
    add_matrix("token_embd.weight", embedding, s.n_vocab, s.dim);
    report.embedding = layout.tensors.front().type;
    const std::size_t q_dim = s.n_heads * s.head_dim;
    const std::size_t kv_dim = s.n_kv_heads * s.head_dim;
    for (std::size_t layer = 0; layer < s.n_layers; ++layer) {
        const auto name = [&](std::string_view part) {
            return fmt::format("blk.{}.{}.weight", layer, part);
        };
        const struct {
            std::string_view part;
            Role role;
            std::size_t rows, cols;
        } matrices[] = {
            {"attn_q", Role::q, q_dim, s.dim},          {"attn_k", Role::k, kv_dim, s.dim},
            {"attn_v", Role::v, kv_dim, s.dim},         {"attn_output", Role::o, s.dim, q_dim},
            {"ffn_gate", Role::gate, s.ffn_dim, s.dim}, {"ffn_up", Role::up, s.ffn_dim, s.dim},
            {"ffn_down", Role::down, s.dim, s.ffn_dim}};
        for (const auto& [part, role, rows, cols] : matrices) {
            add_matrix(name(part), wanted_type(options.recipe, role, layer, s.n_layers), rows,
                       cols);
        }
        add_norm(name("attn_norm"), s.dim);
        add_norm(name("attn_q_norm"), s.head_dim);
        add_norm(name("attn_k_norm"), s.head_dim);
        add_norm(name("post_attention_norm"), s.dim);
        add_norm(name("ffn_norm"), s.dim);
        add_norm(name("post_ffw_norm"), s.dim);
    }
    add_norm("output_norm.weight", s.dim);

    for (const Tensor& t : layout.tensors) {
        const std::uint64_t bytes =
            t.n_weights() / tensor::info(t.type).block_size * tensor::info(t.type).block_bytes;
        report.n_weights += t.n_weights();
        report.tensor_bytes += bytes;
        auto share =
            std::find_if(report.shares.begin(), report.shares.end(),
                         [&](const SynthReport::Share& known) { return known.type == t.type; });
        if (share == report.shares.end()) share = report.shares.insert(share, {t.type, 0, 0});
        share->n_weights += t.n_weights();
        share->bytes += bytes;
    }
    std::stable_sort(report.shares.begin(), report.shares.end(),
                     [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    return layout;
}

Status check_shape(const SynthShape& s) {
    const struct {
        std::string_view what;
        std::size_t value, least, most;
    } limits[] = {{"layers", s.n_layers, 1, 1024},
                  {"hidden size", s.dim, 1, 1 << 17},
                  {"feed-forward size", s.ffn_dim, 1, 1 << 19},
                  {"heads", s.n_heads, 1, 1024},
                  {"key/value heads", s.n_kv_heads, 1, 1024},
                  {"head dimension", s.head_dim, 2, 1024},
                  {"sliding window", s.window, 1, 1u << 30},
                  {"context", s.max_context, 1, 1u << 30},
                  {"layers from one global layer to the next", s.global_every, 1, 1025},
                  {"vocabulary", s.n_vocab, kFewestPieces, kGemmaPieces}};
    for (const auto& [what, value, least, most] : limits) {
        if (value < least || value > most) {
            return fail(ErrorCode::invalid_argument, "{}: {} is {}, expected {} to {}", s.name,
                        what, value, least, most);
        }
    }
    if (s.n_heads % s.n_kv_heads != 0) {
        return fail(ErrorCode::invalid_argument,
                    "{}: {} heads cannot share {} key/value heads evenly", s.name, s.n_heads,
                    s.n_kv_heads);
    }
    if (s.head_dim % 2 != 0) {
        return fail(ErrorCode::invalid_argument,
                    "{}: head dimension is {}, expected an even number", s.name, s.head_dim);
    }
    for (const double positive : {s.rope_divisor_global, s.query_pre_attn_scalar,
                                  s.rope_base_global, s.rope_base_local, s.norm_eps}) {
        if (!(positive > 0 && positive < 1e30)) {
            return fail(ErrorCode::invalid_argument,
                        "{}: RoPE bases and divisor, query_pre_attn_scalar and epsilon must be "
                        "positive, not {}",
                        s.name, positive);
        }
    }
    return {};
}

void write_metadata(const SynthOptions& options, formats::GgufWriter& writer) {
    namespace keys = formats::gemma3;
    const SynthShape& s = options.shape;
    const auto set_count = [&](std::string_view key, std::size_t value) {
        writer.set_uint32(key, static_cast<std::uint32_t>(value));
    };
    const auto set_real = [&](std::string_view key, double value) {
        writer.set_float32(key, static_cast<float>(value));
    };
    writer.set_string("general.architecture", keys::kArchitecture);
    writer.set_string("general.type", "model");
    writer.set_string("general.name", "synthetic-gemma-3-" + s.name);
    writer.set_uint32("general.file_type", options.recipe.file_type);
    writer.set_uint32("general.quantization_version", 2);
    set_count(keys::kContextLength, s.max_context);
    set_count(keys::kEmbeddingLength, s.dim);
    set_count(keys::kBlockCount, s.n_layers);
    set_count(keys::kFeedForwardLength, s.ffn_dim);
    set_count(keys::kHeadCount, s.n_heads);
    set_count(keys::kHeadCountKv, s.n_kv_heads);
    set_count(keys::kKeyLength, s.head_dim);
    set_count(keys::kValueLength, s.head_dim);
    set_real(keys::kNormEpsilon, s.norm_eps);
    set_count(keys::kSlidingWindow, s.window);
    set_real(keys::kRopeBase, s.rope_base_global);
    if (s.rope_divisor_global != 1) {
        writer.set_string(keys::kRopeScalingType, "linear");
        set_real(keys::kRopeScalingFactor, s.rope_divisor_global);
    }
    // What readers would derive is left out, as in published files.
    if (s.rope_base_local != 1e4) set_real(keys::kRopeBaseLocal, s.rope_base_local);
    if (s.global_every != 6) set_count(keys::kSlidingWindowPattern, s.global_every);
    const std::size_t derived = s.n_layers == keys::kLayersOf27b ? s.dim / s.n_heads : s.head_dim;
    if (s.query_pre_attn_scalar != static_cast<double>(derived)) {
        set_real(keys::kQueryPreAttnScalar, s.query_pre_attn_scalar);
    }
    formats::write_vocabulary(writer, synthetic_vocabulary(s.n_vocab));
}

// ---- weights ----------------------------------------------------------------------------------

constexpr std::size_t kPoolWeights = std::size_t{1} << 20;
constexpr std::size_t kChunkWeights = std::size_t{1} << 18;  // what one thread fills at a time
constexpr std::size_t kBufferBytes = std::size_t{64} << 20;
constexpr std::size_t kRunWeights = 128;  // the longest run taken from a pool, or one block

// Quantised N(0, std^2) blocks; every large matrix draws on the pool of its type and number of
// columns. Runs are short so that a row is several independent draws: were runs as long as rows,
// rows of the embedding would repeat and the logits of their pieces tie.
using Pool = std::vector<std::byte>;

Pool make_pool(DType type, std::size_t cols, std::span<const float> normals, ThreadPool& threads) {
    const float std = 1 / std::sqrt(static_cast<float>(cols));
    Pool pool(tensor::row_bytes(type, normals.size()));
    threads.run([&](Team& team) {
        const Range range = team.split(normals.size(), tensor::kSuperBlock);
        std::vector<float> scaled(normals.begin() + static_cast<std::ptrdiff_t>(range.begin),
                                  normals.begin() + static_cast<std::ptrdiff_t>(range.end));
        for (float& weight : scaled) weight *= std;
        quantize_row(type, scaled, pool.data() + tensor::row_bytes(type, range.begin));
    });
    return pool;
}

void fill_from_pool(Random random, const tensor::DTypeInfo& type, const Pool& pool,
                    std::span<std::byte> out) {
    const std::size_t n_pool = pool.size() / type.block_bytes;
    const std::size_t longest = std::max<std::size_t>(1, kRunWeights / type.block_size);
    const std::size_t shortest = (longest + 1) / 2;
    while (!out.empty()) {
        const std::size_t run = shortest + random.below(longest - shortest + 1);
        const std::size_t bytes = std::min(run * type.block_bytes, out.size());
        std::memcpy(out.data(), pool.data() + random.below(n_pool - run + 1) * type.block_bytes,
                    bytes);
        out = out.subspan(bytes);
    }
}

void fill_fresh(Random random, DType type, std::size_t cols, std::span<std::byte> out) {
    const tensor::DTypeInfo& info = tensor::info(type);
    std::vector<float> weights(out.size() / info.block_bytes * info.block_size);
    fill_normal(random, weights);
    const float std = 1 / std::sqrt(static_cast<float>(cols));
    for (float& weight : weights) weight *= std;
    quantize_row(type, weights, out.data());
}

/// Makes one tensor's bytes after another's; which thread makes which part changes nothing.
class Filler {
public:
    Filler(std::uint64_t seed, std::size_t n_threads)
        : seed_(seed),
          threads_(n_threads),
          buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)) {}

    /// Calls `sink` with the tensor's bytes, part by part, until it fails.
    template <typename Sink>
    Status fill(std::size_t index, const Tensor& t, Sink&& sink) {
        if (t.is_norm()) {
            const std::vector<float> weights = norm(index, t.cols);
            return sink(std::as_bytes(std::span(weights)));
        }
        const tensor::DTypeInfo& type = tensor::info(t.type);
        const std::uint64_t n_blocks = t.n_weights() / type.block_size;
        const std::size_t chunk_bytes = kChunkWeights / type.block_size * type.block_bytes;
        const std::size_t step_bytes = kBufferBytes / chunk_bytes * chunk_bytes;
        const std::uint64_t total = n_blocks * type.block_bytes;
        const bool pooled = t.n_weights() > kChunkWeights && t.cols >= 4 * type.block_size;
        const Pool* pool = pooled ? &pool_for(t.type, t.cols) : nullptr;
        for (std::uint64_t at = 0; at < total; at += step_bytes) {
            const std::span<std::byte> part(buffer_.get(),
                                            std::min<std::uint64_t>(step_bytes, total - at));
            const std::size_t n_chunks = (part.size() + chunk_bytes - 1) / chunk_bytes;
            threads_.run([&](Team& team) {
                const Range chunks = team.split(n_chunks);
                for (std::size_t c = chunks.begin; c < chunks.end; ++c) {
                    const auto out = part.subspan(
                        c * chunk_bytes, std::min(chunk_bytes, part.size() - c * chunk_bytes));
                    const Random random(seed_, index, at / chunk_bytes + c);
                    if (pool != nullptr)
                        fill_from_pool(random, type, *pool, out);
                    else
                        fill_fresh(random, t.type, t.cols, out);
                }
            });
            if (auto status = sink(std::span<const std::byte>(part)); !status) return status;
        }
        return {};
    }

private:
    std::vector<float> norm(std::size_t index, std::size_t cols) {
        std::vector<float> weights(cols);
        Random random(seed_, index, 0);
        fill_normal(random, weights);
        for (float& weight : weights) weight = 1 + 0.1f * weight;
        return weights;
    }

    const Pool& pool_for(DType type, std::size_t cols) {
        auto [entry, is_new] = pools_.try_emplace({type, cols});
        if (is_new) {
            if (normals_.empty()) {
                normals_.resize(kPoolWeights);
                threads_.run([&](Team& team) {
                    const Range chunks = team.split(kPoolWeights / kChunkWeights);
                    for (std::size_t c = chunks.begin; c < chunks.end; ++c) {
                        Random random(seed_, ~std::uint64_t{0}, c);
                        fill_normal(random,
                                    std::span(normals_).subspan(c * kChunkWeights, kChunkWeights));
                    }
                });
            }
            entry->second = make_pool(type, cols, normals_, threads_);
        }
        return entry->second;
    }

    std::uint64_t seed_;
    ThreadPool threads_;
    std::unique_ptr<std::byte[]> buffer_;
    std::vector<float> normals_;
    std::map<std::pair<DType, std::size_t>, Pool> pools_;
};

}  // namespace

Result<SynthShape> find_shape(std::string_view name) {
    std::vector<std::string_view> names;
    for (const SynthShape& shape : kShapes) {
        if (shape.name == name) return shape;
        names.push_back(shape.name);
    }
    return fail(ErrorCode::invalid_argument, "no shape is called '{}'; there are {}", name,
                fmt::join(names, ", "));
}

Result<SynthShape> read_shape(const std::string& path) {
    auto text = read_file(path, std::size_t{1} << 20);
    if (!text) return forward(text);
    auto config = formats::parse_hf_config(path, *text);
    if (!config) return forward(config);

    const auto first_global = std::find(config->is_global.begin(), config->is_global.end(), true);
    const auto global_every =
        static_cast<std::size_t>(first_global - config->is_global.begin()) + 1;
    for (std::size_t layer = 0; layer < config->is_global.size(); ++layer) {
        if (config->is_global[layer] != ((layer + 1) % global_every == 0)) {
            return fail(ErrorCode::unsupported,
                        "{}: layer {} breaks the pattern of one global layer in {}", path, layer,
                        global_every);
        }
    }
    SynthShape shape;
    shape.name = std::filesystem::path(path).stem().string();
    shape.n_layers = config->num_hidden_layers;
    shape.dim = config->hidden_size;
    shape.ffn_dim = config->intermediate_size;
    shape.n_heads = config->num_attention_heads;
    shape.n_kv_heads = config->num_key_value_heads;
    shape.head_dim = config->head_dim;
    shape.window = config->sliding_window;
    shape.max_context = config->max_position_embeddings;
    shape.rope_divisor_global = config->rope_factor;
    shape.query_pre_attn_scalar = config->query_pre_attn_scalar;
    shape.n_vocab = std::min<std::size_t>(config->vocab_size, kGemmaPieces);
    shape.global_every = global_every;
    shape.rope_base_global = config->rope_theta;
    shape.rope_base_local = config->rope_local_base_freq;
    shape.norm_eps = config->rms_norm_eps;
    return shape;
}

Result<std::vector<SynthTensor>> synthetic_tensors(const SynthOptions& options) {
    if (auto status = check_shape(options.shape); !status) return forward(status);
    std::vector<SynthTensor> tensors;
    Layout layout = lay_out(options);
    for (Tensor& t : layout.tensors)
        tensors.push_back({std::move(t.name), t.type, std::max<std::size_t>(t.rows, 1), t.cols});
    return tensors;
}

Result<SynthReport> write_synthetic_model(
    const SynthOptions& options, const std::string& path,
    const std::function<bool(std::uint64_t, std::uint64_t)>& on_progress) {
    UNICORN_CHECK(options.n_threads >= 1);
    if (auto status = check_shape(options.shape); !status) return forward(status);
    Layout layout = lay_out(options);

    formats::GgufWriter writer;
    write_metadata(options, writer);
    for (const Tensor& t : layout.tensors) {
        const std::uint64_t dims[] = {t.cols, t.rows};
        writer.add_tensor(t.name, t.type, std::span(dims).first(t.is_norm() ? 1 : 2));
    }
    if (auto status = writer.begin(path); !status) return forward(status);

    Filler filler(options.seed, options.n_threads);
    std::uint64_t done = 0;
    for (std::size_t i = 0; i < layout.tensors.size(); ++i) {
        auto status =
            filler.fill(i, layout.tensors[i], [&](std::span<const std::byte> bytes) -> Status {
                if (auto written = writer.write(bytes); !written) return written;
                done += bytes.size();
                if (on_progress && !on_progress(done, layout.report.tensor_bytes))
                    return fail(ErrorCode::cancelled, "{}: cancelled", path);
                return {};
            });
        if (!status) return forward(status);
    }
    if (auto status = writer.finish(); !status) return forward(status);
    return std::move(layout.report);
}

}  // namespace unicorn::quant
