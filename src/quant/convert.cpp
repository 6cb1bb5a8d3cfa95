#include "quant/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

#include "base/thread_pool.h"
#include "formats/gemma3_keys.h"
#include "formats/gguf_writer.h"
#include "formats/hf_config.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"
#include "formats/utf8.h"
#include "quant/quantize.h"

namespace unicorn::quant {
namespace {

using formats::HfConfig;
using formats::PieceType;
using formats::Safetensors;
using formats::SafetensorsTensor;
using formats::Vocabulary;
using tensor::DType;

constexpr std::size_t kChunkBytes = 16u << 20;  // of the output, written at once

/// One tensor of the output and where it comes from.
struct Job {
    std::string gguf_name;
    const SafetensorsTensor* source = nullptr;
    DType type = DType::f32;
    std::uint64_t rows = 1;  // of the output; the source may have more
    std::uint64_t cols = 0;
    bool norm = false;  // a vector, stored as 1 + weight
};

/// general.file_type, as ggml numbers it (llama.h, enum llama_ftype); nothing for a type that
/// convert does not offer.
std::optional<std::uint32_t> file_type(DType type) {
    switch (type) {
        case DType::f32: return 0;
        case DType::f16: return 1;
        case DType::q4_0: return 2;
        case DType::q8_0: return 7;
        case DType::bf16: return 32;
        default: return {};
    }
}

/// What the text model's tensor names begin with: checkpoints of four origins differ.
Result<std::string> find_prefix(const Safetensors& files, const std::string& folder) {
    for (const char* prefix : {"model.", "language_model.model.", "model.language_model.", ""}) {
        if (files.find(std::string(prefix) + "embed_tokens.weight") != nullptr)
            return std::string(prefix);
    }
    return fail(ErrorCode::invalid_file,
                "{}: no tensor is called embed_tokens.weight, with any prefix of Gemma 3's",
                folder);
}

bool is_vision(std::string_view name) {
    return name.find("vision_tower.") != std::string_view::npos ||
           name.find("multi_modal_projector.") != std::string_view::npos ||
           name.find("vision_model.") != std::string_view::npos;
}

/// Lists the tensors to write, in the file's order, and checks each source.
class Planner {
public:
    Planner(const Safetensors& files, const HfConfig& config, DType type, std::string prefix,
            ConvertReport& report)
        : files_(files),
          config_(config),
          type_(type),
          prefix_(std::move(prefix)),
          report_(report) {}

    std::vector<Job> jobs;

    Status plan(std::uint64_t n_pieces) {
        const std::uint64_t d = config_.hidden_size;
        const std::uint64_t f = config_.intermediate_size;
        const std::uint64_t e = config_.head_dim;
        const std::uint64_t q = config_.num_attention_heads * e;
        const std::uint64_t kv = config_.num_key_value_heads * e;
        matrix(prefix_ + "embed_tokens.weight", "token_embd.weight", config_.vocab_size, d,
               embedding_type(), n_pieces);
        for (std::uint64_t i = 0; i < config_.num_hidden_layers; ++i) {
            const std::string hf = fmt::format("{}layers.{}.", prefix_, i);
            const std::string gguf = fmt::format("blk.{}.", i);
            norm(hf + "input_layernorm.weight", gguf + "attn_norm.weight", d);
            matrix(hf + "self_attn.q_proj.weight", gguf + "attn_q.weight", q, d, type_);
            matrix(hf + "self_attn.k_proj.weight", gguf + "attn_k.weight", kv, d, type_);
            matrix(hf + "self_attn.v_proj.weight", gguf + "attn_v.weight", kv, d, type_);
            matrix(hf + "self_attn.o_proj.weight", gguf + "attn_output.weight", d, q, type_);
            norm(hf + "self_attn.q_norm.weight", gguf + "attn_q_norm.weight", e);
            norm(hf + "self_attn.k_norm.weight", gguf + "attn_k_norm.weight", e);
            norm(hf + "post_attention_layernorm.weight", gguf + "post_attention_norm.weight", d);
            norm(hf + "pre_feedforward_layernorm.weight", gguf + "ffn_norm.weight", d);
            matrix(hf + "mlp.gate_proj.weight", gguf + "ffn_gate.weight", f, d, type_);
            matrix(hf + "mlp.up_proj.weight", gguf + "ffn_up.weight", f, d, type_);
            matrix(hf + "mlp.down_proj.weight", gguf + "ffn_down.weight", d, f, type_);
            norm(hf + "post_feedforward_layernorm.weight", gguf + "post_ffw_norm.weight", d);
        }
        norm(prefix_ + "norm.weight", "output_norm.weight", d);
        head(n_pieces);
        if (status_) status_ = account_for_the_rest();
        return std::move(status_);
    }

private:
    DType embedding_type() const {
        if (type_ != DType::q4_0) return type_;
        return config_.hidden_size % tensor::info(DType::q6_k).block_size == 0 ? DType::q6_k
                                                                               : DType::q8_0;
    }

    /// The tensor `name` of the given shape; nullptr once anything has failed.
    const SafetensorsTensor* source(const std::string& name, std::vector<std::uint64_t> shape) {
        if (!status_) return nullptr;
        const SafetensorsTensor* found = files_.find(name);
        if (found == nullptr) {
            status_ = fail(ErrorCode::invalid_file, "{}: tensor {} is missing",
                           files_.files()[0].path(), formats::shown(name));
        } else if (found->shape != shape) {
            status_ = fail(ErrorCode::invalid_file,
                           "{}: tensor {} has shape [{}], but config.json asks for [{}]",
                           files_.path_of(*found), formats::shown(name),
                           fmt::join(found->shape, ", "), fmt::join(shape, ", "));
        } else if (!formats::is_float(found->type)) {
            status_ = fail(ErrorCode::unsupported,
                           "{}: tensor {} has dtype {}, expected F32, F16 or BF16",
                           files_.path_of(*found), formats::shown(name), found->type_name);
        }
        if (!status_) return nullptr;
        used_.insert(name);
        return found;
    }

    void norm(const std::string& name, const std::string& gguf_name, std::uint64_t size) {
        if (const auto* found = source(name, {size}))
            jobs.push_back({gguf_name, found, DType::f32, 1, size, true});
    }

    void matrix(const std::string& name, const std::string& gguf_name, std::uint64_t rows,
                std::uint64_t cols, DType type,
                std::uint64_t rows_kept = std::numeric_limits<std::uint64_t>::max()) {
        const auto* found = source(name, {rows, cols});
        if (found == nullptr) return;
        if (cols % tensor::info(type).block_size != 0) {
            type = DType::f16;
            report_.stored_as_f16.push_back(gguf_name);
        }
        jobs.push_back({gguf_name, found, type, std::min(rows, rows_kept), cols, false});
    }

    /// lm_head becomes output.weight when it is a matrix of its own.
    void head(std::uint64_t n_pieces) {
        std::string name;
        for (const char* candidate :
             {"lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"}) {
            if (files_.find(candidate) != nullptr) name = candidate;
        }
        if (name.empty() && config_.tie_word_embeddings) return;
        if (name.empty()) name = "lm_head.weight";  // its absence is reported by source()
        if (!config_.tie_word_embeddings) {
            const auto* found = source(name, {config_.vocab_size, config_.hidden_size});
            if (found == nullptr) return;
            const SafetensorsTensor& embedding = *jobs.front().source;
            if (!same_bytes(*found, embedding)) {
                matrix(name, "output.weight", config_.vocab_size, config_.hidden_size,
                       embedding_type(), n_pieces);
                return;
            }
        }
        used_.insert(name);
        report_.other_skipped.push_back(name);
    }

    /// Compares gigabytes without keeping them resident.
    bool same_bytes(const SafetensorsTensor& a, const SafetensorsTensor& b) const {
        if (a.type != b.type || a.bytes.size() != b.bytes.size()) return false;
        for (std::size_t at = 0; at < a.bytes.size(); at += kChunkBytes) {
            const std::size_t n = std::min(kChunkBytes, a.bytes.size() - at);
            const auto part_a = a.bytes.subspan(at, n);
            const auto part_b = b.bytes.subspan(at, n);
            const bool same = std::ranges::equal(part_a, part_b);
            files_.files()[a.file].drop(part_a);
            files_.files()[b.file].drop(part_b);
            if (!same) return false;
        }
        return true;
    }

    /// A tensor of the text model that nothing above asked for would be missing from the result.
    Status account_for_the_rest() {
        for (const SafetensorsTensor& tensor : files_.tensors()) {
            if (used_.contains(tensor.name)) continue;
            if (is_vision(tensor.name)) {
                ++report_.n_vision_skipped;
            } else if (tensor.name.ends_with("rotary_emb.inv_freq") ||
                       tensor.name.ends_with("position_ids")) {
                report_.other_skipped.push_back(
                    tensor.name);  // a buffer, computed from config.json
            } else {
                return fail(
                    ErrorCode::unsupported, "{}: tensor {} has no place in Gemma 3 of {} layers",
                    files_.path_of(tensor), formats::shown(tensor.name), config_.num_hidden_layers);
            }
        }
        return {};
    }

    const Safetensors& files_;
    const HfConfig& config_;
    DType type_;
    std::string prefix_;
    ConvertReport& report_;
    Status status_;
    std::set<std::string> used_;
};

/// The period p for which layer i is global iff (i + 1) % p == 0: 6 where it fits, since other
/// tools take 6 for granted, else the smallest.
std::optional<std::uint32_t> pattern_of(const std::vector<bool>& is_global) {
    const auto fits = [&](std::size_t period) {
        for (std::size_t i = 0; i < is_global.size(); ++i) {
            if (is_global[i] != ((i + 1) % period == 0)) return false;
        }
        return true;
    };
    if (fits(6)) return 6;
    for (std::size_t period = 1; period <= is_global.size() + 1; ++period) {
        if (fits(period)) return static_cast<std::uint32_t>(period);
    }
    return {};
}

/// The sampling that the makers suggest. Hugging Face's repetition penalty looks back on the whole
/// text, so penalty_last_n says so where there is one.
Status set_sampling(formats::GgufWriter& writer, const std::string& folder) {
    namespace keys = formats::sampling;
    auto config = formats::read_hf_generation_config(folder);
    if (!config) return forward(config);
    const auto f32 = [&](std::string_view key, const std::optional<double>& value) {
        if (value) writer.set_float32(key, static_cast<float>(*value));
    };
    f32(keys::kTemperature, config->temperature);
    f32(keys::kTopP, config->top_p);
    f32(keys::kMinP, config->min_p);
    f32(keys::kRepeatPenalty, config->repetition_penalty);
    if (config->top_k) {
        constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
        writer.set_int32(keys::kTopK, static_cast<std::int32_t>(std::min(*config->top_k, kMost)));
    }
    if (config->repetition_penalty) writer.set_int32(keys::kPenaltyLastN, -1);
    return {};
}

Status set_metadata(formats::GgufWriter& writer, const HfConfig& config, const std::string& folder,
                    const ConvertOptions& options) {
    namespace keys = formats::gemma3;
    const auto pattern = pattern_of(config.is_global);
    if (!pattern) {
        return fail(
            ErrorCode::unsupported,
            "{}: layer_types is not periodic: GGUF can only say that every n-th layer is global",
            folder);
    }
    const auto u32 = [&](std::string_view key, std::uint64_t value) {
        writer.set_uint32(key, static_cast<std::uint32_t>(value));
    };
    const auto f32 = [&](std::string_view key, double value) {
        writer.set_float32(key, static_cast<float>(value));
    };
    writer.set_string("general.architecture", keys::kArchitecture);
    writer.set_string("general.type", "model");
    const auto path = std::filesystem::absolute(folder).lexically_normal();
    const std::string folder_name =
        (path.has_filename() ? path : path.parent_path()).filename().string();
    const std::string& name = options.name.empty() ? folder_name : options.name;
    writer.set_string("general.name", formats::valid_utf8(name) ? name : formats::shown(name));
    u32("general.file_type", *file_type(options.type));
    u32("general.quantization_version", 2);
    u32(keys::kContextLength, config.max_position_embeddings);
    u32(keys::kEmbeddingLength, config.hidden_size);
    u32(keys::kBlockCount, config.num_hidden_layers);
    u32(keys::kFeedForwardLength, config.intermediate_size);
    u32(keys::kHeadCount, config.num_attention_heads);
    u32(keys::kHeadCountKv, config.num_key_value_heads);
    u32(keys::kKeyLength, config.head_dim);
    u32(keys::kValueLength, config.head_dim);
    f32(keys::kNormEpsilon, config.rms_norm_eps);
    u32(keys::kSlidingWindow, config.sliding_window);
    f32(keys::kRopeBase, config.rope_theta);
    if (config.rope_factor != 1) {
        writer.set_string(keys::kRopeScalingType, "linear");
        f32(keys::kRopeScalingFactor, config.rope_factor);
    }
    // What other readers take for granted is only written where it is not so.
    if (config.rope_local_base_freq != 1e4) f32(keys::kRopeBaseLocal, config.rope_local_base_freq);
    if (*pattern != 6) u32(keys::kSlidingWindowPattern, *pattern);
    const double derived = config.num_hidden_layers == keys::kLayersOf27b
                               ? static_cast<double>(config.hidden_size) /
                                     static_cast<double>(config.num_attention_heads)
                               : static_cast<double>(config.head_dim);
    if (config.query_pre_attn_scalar != derived)
        f32(keys::kQueryPreAttnScalar, config.query_pre_attn_scalar);
    return set_sampling(writer, folder);
}

/// Makes the vocabulary's pieces and the embedding's rows equally many.
Status fit_vocabulary(Vocabulary& vocabulary, std::uint64_t rows, const std::string& folder,
                      ConvertReport& report) {
    const std::size_t n_pieces = vocabulary.pieces.size();
    report.embedding_rows_dropped = rows > n_pieces ? rows - n_pieces : 0;
    if (rows >= n_pieces) return {};
    for (std::size_t i = rows; i < n_pieces; ++i) {
        const PieceType type = vocabulary.pieces[i].type;
        if (type != PieceType::control && type != PieceType::unused) {
            return fail(ErrorCode::invalid_file,
                        "{}: the vocabulary has {} pieces, but the embedding only {} rows", folder,
                        n_pieces, rows);
        }
    }
    std::vector<std::int32_t> ids = vocabulary.stop_ids;
    for (const auto& id : {vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.pad}) {
        if (id) ids.push_back(*id);
    }
    for (const std::int32_t id : ids) {
        if (static_cast<std::uint64_t>(id) >= rows) {
            return fail(ErrorCode::invalid_file,
                        "{}: the special token {} has no row in the embedding of {}", folder, id,
                        rows);
        }
    }
    report.pieces_dropped = n_pieces - rows;
    vocabulary.pieces.resize(rows);
    return {};
}

/// Rows first, first + 1, ... of `job`, encoded into `out` (rows * row_bytes) by all threads.
/// Gives the first row with a weight that is not finite, if there is one.
std::optional<std::uint64_t> encode_rows(ThreadPool& pool, const Job& job, std::uint64_t first,
                                         std::uint64_t rows, std::span<std::byte> out) {
    constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();
    std::atomic<std::uint64_t> bad_row{kNone};
    const std::size_t row_bytes = tensor::row_bytes(job.type, job.cols);
    pool.run([&](Team& team) {
        std::vector<float> row(job.cols);
        const Range range = team.split(rows);
        for (std::size_t r = range.begin; r < range.end; ++r) {
            formats::decode_floats(*job.source, (first + r) * job.cols, row);
            bool finite = true;
            for (const float x : row)
                finite = finite && std::abs(x) <= std::numeric_limits<float>::max();
            if (!finite) {
                std::uint64_t seen = bad_row.load();
                while (first + r < seen && !bad_row.compare_exchange_weak(seen, first + r)) {
                }
                return;
            }
            if (job.norm) {
                for (float& x : row) x += 1.0f;
            }
            quantize_row(job.type, row, out.data() + r * row_bytes);
        }
    });
    return bad_row == kNone ? std::nullopt : std::optional(bad_row.load());
}

using OnProgress = std::function<bool(std::uint64_t, std::uint64_t)>;

Status write_tensors(formats::GgufWriter& writer, const Safetensors& files,
                     std::span<const Job> jobs, std::size_t n_threads,
                     const OnProgress& on_progress) {
    ThreadPool pool(n_threads);
    std::uint64_t done = 0;
    std::vector<std::byte> out;
    for (const Job& job : jobs) {
        const std::size_t row_bytes = tensor::row_bytes(job.type, job.cols);
        const std::uint64_t rows_at_once = std::max<std::uint64_t>(1, kChunkBytes / row_bytes);
        const std::uint64_t source_row_bytes =
            job.source->bytes.size() / job.source->n_elements() * job.cols;
        const MappedFile& file = files.files()[job.source->file];
        for (std::uint64_t first = 0; first < job.rows; first += rows_at_once) {
            const std::uint64_t rows = std::min(rows_at_once, job.rows - first);
            out.resize(rows * row_bytes);
            if (const auto bad = encode_rows(pool, job, first, rows, out)) {
                return fail(ErrorCode::invalid_file,
                            "{}: tensor {} holds a NaN or an infinity in row {}", file.path(),
                            formats::shown(job.source->name), *bad);
            }
            if (auto status = file.unchanged(); !status) return status;
            if (auto status = writer.write(out); !status) return status;
            file.drop(job.source->bytes.subspan(first * source_row_bytes, rows * source_row_bytes));
            done += out.size();
            if (on_progress && !on_progress(done, writer.tensor_bytes()))
                return fail(ErrorCode::cancelled, "cancelled");
        }
    }
    return {};
}

}  // namespace

Result<ConvertReport> convert_hf(const std::string& folder, const std::string& out,
                                 const ConvertOptions& options, const OnProgress& on_progress) {
    if (!file_type(options.type)) {
        return fail(ErrorCode::invalid_argument,
                    "convert does not write {}, only f32, f16, bf16, q8_0 and q4_0",
                    tensor::name(options.type));
    }
    auto config = formats::read_hf_config(folder);
    if (!config) return forward(config);
    auto vocabulary = formats::read_hf_vocabulary(folder);
    if (!vocabulary) return forward(vocabulary);
    auto files = Safetensors::open(folder);
    if (!files) return forward(files);
    auto prefix = find_prefix(*files, folder);
    if (!prefix) return forward(prefix);

    ConvertReport report;
    if (auto status = fit_vocabulary(*vocabulary, config->vocab_size, folder, report); !status)
        return forward(status);
    Planner planner(*files, *config, options.type, *prefix, report);
    if (auto status = planner.plan(vocabulary->pieces.size()); !status) return forward(status);

    formats::GgufWriter writer;
    if (auto status = set_metadata(writer, *config, folder, options); !status)
        return forward(status);
    formats::write_vocabulary(writer, *vocabulary);
    for (const Job& job : planner.jobs) {
        const std::uint64_t dims[] = {job.cols, job.rows};
        writer.add_tensor(job.gguf_name, job.type, std::span(dims).first(job.norm ? 1 : 2));
    }
    report.n_tensors = planner.jobs.size();
    report.tensor_bytes = writer.tensor_bytes();
    if (auto status = writer.begin(out); !status) return forward(status);
    const std::size_t n_threads = options.n_threads == 0 ? available_cpus() : options.n_threads;
    if (auto status = write_tensors(writer, *files, planner.jobs, n_threads, on_progress); !status)
        return forward(status);
    for (const MappedFile& file : files->files()) {
        if (auto status = file.unchanged(); !status) return forward(status);
    }
    if (auto status = writer.finish(); !status) return forward(status);
    return report;
}

}  // namespace unicorn::quant
