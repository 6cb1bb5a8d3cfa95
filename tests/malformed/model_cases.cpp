// Well-formed GGUF files that are no Gemma 3 model: vocabulary, metadata and tensors that
// contradict each other.

#include <cstdint>
#include <limits>

#include "base/check.h"
#include "base/file.h"
#include "cases.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/testing.h"
#include "quant/convert.h"

namespace unicorn::malformed {
namespace {

using formats::raw;
using formats::Vocabulary;

/// A model that runs, as convert makes it.
std::string valid_model() {
    const formats::TempFolder folder;
    const formats::TinyModel model;
    folder.write("config.json", model.config());
    folder.write("tokenizer.model", formats::sentencepiece_bytes(formats::tiny_vocabulary()));
    folder.write("model.safetensors", model.tensors().bytes());
    const auto report =
        quant::convert_hf(folder.path(), folder.file("m.gguf"),
                          {.type = tensor::DType::f32, .name = "tiny", .n_threads = 1});
    UNICORN_CHECK(report.has_value());
    return read_file(folder.file("m.gguf"), 1u << 24).value();
}

Case make(std::string name, Kind kind, std::string bytes, std::string message) {
    return {std::move(name), kind, {{"m.gguf", std::move(bytes)}}, std::move(message)};
}

/// Where `name` stands in `bytes`, with its length in front: a key or a tensor's name.
std::size_t find_name(const std::string& bytes, std::string_view name) {
    const std::size_t at = bytes.find(raw(std::uint64_t{name.size()}) + std::string(name));
    UNICORN_CHECK(at != std::string::npos);
    return at + 8;
}

/// The key or tensor `name` under a name of the same length that nobody asks for.
std::string without(std::string bytes, std::string_view name) {
    bytes[find_name(bytes, name)] = '_';
    return bytes;
}

/// The four bytes of `key`'s value, a scalar, replaced.
template <typename T>
std::string with_value(std::string bytes, std::string_view key, T value) {
    static_assert(sizeof value == 4);
    bytes.replace(find_name(bytes, key) + key.size() + 4, 4, raw(value));
    return bytes;
}

std::string with_type(std::string bytes, std::string_view key, std::uint32_t type) {
    bytes.replace(find_name(bytes, key) + key.size(), 4, raw(type));
    return bytes;
}

/// Dimension `d` of `tensor` replaced.
std::string with_dimension(std::string bytes, std::string_view tensor, std::size_t d,
                           std::uint64_t value) {
    bytes.replace(find_name(bytes, tensor) + tensor.size() + 4 + 8 * d, 8, raw(value));
    return bytes;
}

/// Only the tokenizer.* keys, of a vocabulary that `change` has been at.
template <typename Change>
std::string vocabulary_file(const Change& change) {
    Vocabulary vocabulary = formats::tiny_vocabulary();
    change(vocabulary);
    const formats::TempFolder folder;
    formats::GgufWriter writer;
    writer.set_string("general.architecture", "gemma3");
    formats::write_vocabulary(writer, vocabulary);
    UNICORN_CHECK(writer.begin(folder.file("v.gguf")) && writer.finish());
    return read_file(folder.file("v.gguf"), 1u << 24).value();
}

}  // namespace

std::vector<Case> model_cases() {
    const std::string valid = valid_model();
    const auto piece_type = [](std::uint8_t type) {
        return vocabulary_file(
            [&](Vocabulary& v) { v.pieces[7].type = static_cast<formats::PieceType>(type); });
    };
    const std::string_view scores = "tokenizer.ggml.scores";
    const auto int32 = static_cast<std::uint32_t>(formats::GgufType::int32);
    const std::string integer_scores = with_value(valid, scores, int32);  // the elements' type

    std::string fewer_scores = vocabulary_file([](Vocabulary&) {});
    const std::size_t count_at = find_name(fewer_scores, scores) + scores.size() + 4 + 4;
    fewer_scores.replace(count_at, 8, raw(std::uint64_t{270}));
    fewer_scores.erase(count_at + 8, 4);

    return {
        make("vocabulary-no-model", Kind::vocabulary, without(valid, "tokenizer.ggml.model"),
             "key 'tokenizer.ggml.model' is missing"),
        make("vocabulary-no-tokens", Kind::vocabulary, without(valid, "tokenizer.ggml.tokens"),
             "key 'tokenizer.ggml.tokens' is missing"),
        make("vocabulary-no-scores", Kind::vocabulary, without(valid, scores),
             "key 'tokenizer.ggml.scores' is missing"),
        make("vocabulary-no-types", Kind::vocabulary, without(valid, "tokenizer.ggml.token_type"),
             "key 'tokenizer.ggml.token_type' is missing"),
        make("vocabulary-scores-of-integers", Kind::vocabulary, integer_scores,
             "key 'tokenizer.ggml.scores' is array of int32, expected array of float32"),
        make("vocabulary-scores-too-short", Kind::vocabulary, fewer_scores,
             "key 'tokenizer.ggml.scores' has 270 elements, but 'tokenizer.ggml.tokens' has 271"),
        make("vocabulary-empty", Kind::vocabulary, vocabulary_file([](Vocabulary& v) { v = {}; }),
             "key 'tokenizer.ggml.tokens' is empty"),
        make("vocabulary-too-large", Kind::vocabulary,
             vocabulary_file([](Vocabulary& v) { v.pieces.resize(524289); }),
             "has 524289 pieces, expected at most 524288"),
        make("vocabulary-score-nan", Kind::vocabulary, vocabulary_file([](Vocabulary& v) {
                 v.pieces[260].score = std::numeric_limits<float>::quiet_NaN();
             }),
             "has a score of nan"),
        make("vocabulary-score-infinite", Kind::vocabulary, vocabulary_file([](Vocabulary& v) {
                 v.pieces[9].score = std::numeric_limits<float>::infinity();
             }),
             "piece 9 ('<0x03>') has a score of inf"),
        make("vocabulary-type-0", Kind::vocabulary, piece_type(0),
             "key 'tokenizer.ggml.token_type'[7] is 0, expected 1 to 6"),
        make("vocabulary-type-7", Kind::vocabulary, piece_type(7),
             "key 'tokenizer.ggml.token_type'[7] is 7, expected 1 to 6"),
        make("vocabulary-byte-piece", Kind::vocabulary,
             vocabulary_file([](Vocabulary& v) { v.pieces[7].text = "<0xG1>"; }),
             "piece 7 ('<0xG1>') is a byte piece, expected '<0xNN>'"),
        make("vocabulary-piece-not-utf8", Kind::container,
             vocabulary_file([](Vocabulary& v) { v.pieces[265].text = "\xE2\x96"; }),
             "key 'tokenizer.ggml.tokens'[265] is not UTF-8"),
        make("vocabulary-bos-out-of-range", Kind::vocabulary,
             with_value(valid, "tokenizer.ggml.bos_token_id", 271u),
             "key 'tokenizer.ggml.bos_token_id' is 271, but the vocabulary has 271 pieces"),
        make("vocabulary-eos-overflows", Kind::vocabulary,
             with_value(valid, "tokenizer.ggml.eos_token_id", 0xFFFFFFFFu),
             "key 'tokenizer.ggml.eos_token_id' is 4294967295"),
        make("vocabulary-unknown-id-type", Kind::vocabulary,
             with_type(valid, "tokenizer.ggml.unknown_token_id", 6),
             "key 'tokenizer.ggml.unknown_token_id' is float32, expected an integer"),
        make("vocabulary-pad-negative", Kind::vocabulary,
             with_type(with_value(valid, "tokenizer.ggml.padding_token_id", -5),
                       "tokenizer.ggml.padding_token_id", 5),
             "key 'tokenizer.ggml.padding_token_id' is -5, expected 0 or more"),
        make("model-no-architecture", Kind::model, without(valid, "general.architecture"),
             "general.architecture"),
        make("model-no-block-count", Kind::model, without(valid, "gemma3.block_count"),
             "gemma3.block_count"),
        make("model-no-window", Kind::model, without(valid, "gemma3.attention.sliding_window"),
             "gemma3.attention.sliding_window"),
        make("model-block-count-0", Kind::model, with_value(valid, "gemma3.block_count", 0u),
             "gemma3.block_count is 0"),
        make("model-block-count-huge", Kind::model,
             with_value(valid, "gemma3.block_count", 0xFFFFFFFFu),
             "gemma3.block_count is 4294967295"),
        make("model-block-count-float", Kind::model, with_type(valid, "gemma3.block_count", 6),
             "'gemma3.block_count' is float32"),
        make("model-one-layer-too-many", Kind::model, with_value(valid, "gemma3.block_count", 4u),
             "blk.3."),
        make("model-heads-not-multiple", Kind::model,
             with_value(with_value(valid, "gemma3.attention.head_count", 3u),
                        "gemma3.attention.head_count_kv", 2u),
             "gemma3.attention.head_count is 3"),
        make("model-heads-contradict-shapes", Kind::model,
             with_value(valid, "gemma3.attention.head_count", 4u), "blk.0.attn_q.weight"),
        make("model-dim-contradicts-shapes", Kind::model,
             with_value(valid, "gemma3.embedding_length", 32u), "token_embd.weight"),
        make("model-epsilon-nan", Kind::model,
             with_value(valid, "gemma3.attention.layer_norm_rms_epsilon",
                        std::numeric_limits<float>::quiet_NaN()),
             "gemma3.attention.layer_norm_rms_epsilon' is nan"),
        make("model-rope-base-negative", Kind::model,
             with_value(valid, "gemma3.rope.freq_base", -1.0f), "gemma3.rope.freq_base is -1"),
        make("model-no-embedding", Kind::model, without(valid, "token_embd.weight"),
             "token_embd.weight"),
        make("model-no-output-norm", Kind::model, without(valid, "output_norm.weight"),
             "output_norm.weight"),
        make("model-tensor-missing", Kind::model, without(valid, "blk.1.ffn_up.weight"),
             "blk.1.ffn_up.weight"),
        make("model-tensor-shape", Kind::model,
             with_dimension(with_dimension(valid, "blk.2.ffn_down.weight", 0, 64),
                            "blk.2.ffn_down.weight", 1, 96),
             "blk.2.ffn_down.weight"),
        make("model-norm-shape", Kind::model,
             with_dimension(valid, "blk.2.attn_norm.weight", 0, 32), "blk.2.attn_norm.weight"),
    };
}

}  // namespace unicorn::malformed
