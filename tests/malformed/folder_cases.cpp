// Lies of a Hugging Face folder's small files: config.json, tokenizer.model, tokenizer.json and
// others.

#include <cmath>
#include <cstdint>

#include "base/check.h"
#include "cases.h"
#include "formats/testing.h"

namespace unicorn::malformed {
namespace {

using formats::Piece;
using formats::PieceType;
using formats::proto_field;
using formats::proto_piece;
using formats::proto_varint;
using formats::raw;
using formats::TinyModel;

/// A valid folder with the vocabulary file `vocabulary` and then `file` in place of its own.
Case make(std::string name, const std::string& vocabulary, const std::string& file,
          std::string bytes, std::string message) {
    std::vector<std::pair<std::string, std::string>> files = {
        {"config.json", TinyModel().config()},
        {"model.safetensors", TinyModel().tensors().bytes()}};
    if (vocabulary == "tokenizer.model") {
        files.emplace_back(vocabulary, formats::sentencepiece_bytes(formats::tiny_vocabulary()));
    } else {
        files.emplace_back(vocabulary, formats::tokenizer_json_text(formats::tiny_vocabulary()));
    }
    std::erase_if(files, [&](const auto& entry) { return entry.first == file; });
    files.emplace_back(file, std::move(bytes));
    return {std::move(name), Kind::folder, std::move(files), std::move(message)};
}

Case config(std::string name, std::string text, std::string message) {
    return make(std::move(name), "tokenizer.model", "config.json", std::move(text),
                std::move(message));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    UNICORN_CHECK(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

/// config.json with `from` replaced.
Case config_change(std::string name, std::string_view from, std::string_view to,
                   std::string message) {
    return config(std::move(name), replaced(TinyModel().config(), from, to), std::move(message));
}

Case spm(std::string name, std::string bytes, std::string message) {
    return make(std::move(name), "tokenizer.model", "tokenizer.model", std::move(bytes),
                std::move(message));
}

/// tokenizer.model with `field` before everything else.
Case spm_field(std::string name, const std::string& field, std::string message) {
    return spm(std::move(name), field + formats::sentencepiece_bytes(formats::tiny_vocabulary()),
               std::move(message));
}

Case json(std::string name, std::string text, std::string message) {
    return make(std::move(name), "tokenizer.json", "tokenizer.json", std::move(text),
                std::move(message));
}

Case json_change(std::string name, std::string_view from, std::string_view to,
                 std::string message) {
    return json(std::move(name),
                replaced(formats::tokenizer_json_text(formats::tiny_vocabulary()), from, to),
                std::move(message));
}

}  // namespace

std::vector<Case> folder_cases() {
    const std::string deep(100000, '[');
    const std::string model = formats::sentencepiece_bytes(formats::tiny_vocabulary());
    const std::string pieces = model.substr(0, model.size() - formats::proto_specs().size());
    const std::string text = formats::tokenizer_json_text(formats::tiny_vocabulary());
    std::string many = "{\"a\":[0";
    for (int i = 0; i < 20000; ++i) many += ",0";
    many += "]}";

    return {
        config("config-empty", "", "config.json: byte 1: not valid JSON"),
        config("config-cut", TinyModel().config().substr(0, 60), "not valid JSON"),
        config("config-not-utf8", "{\"model_type\":\"gemma\xFF\"}", "not valid JSON"),
        config("config-array", "[]", "the file is an array, expected an object"),
        config("config-deep", "{\"a\":" + deep + "}", "JSON nested deeper than 64 levels"),
        config("config-many-values", many, "more than 16384 values"),
        config("config-number-overflows", R"({"model_type":"gemma3","rope_theta":1e999})",
               "not valid JSON: a number out of range"),
        config("config-other-model", R"({"model_type":"llama"})",
               "key 'model_type' is 'llama', expected 'gemma3' or 'gemma3_text'"),
        config("config-key-twice", R"({"model_type":"gemma3","model_type":"gemma3"})",
               "duplicate key 'model_type'"),
        config_change("config-no-hidden-size", "\"hidden_size\"", "\"hidden\"",
                      "key 'hidden_size' is missing"),
        config_change("config-hidden-size-string", "\"hidden_size\":64", "\"hidden_size\":\"64\"",
                      "key 'hidden_size' is a string, expected an integer"),
        config_change("config-hidden-size-float", "\"hidden_size\":64", "\"hidden_size\":64.5",
                      "key 'hidden_size' is a number, expected an integer"),
        config_change("config-layers-negative", "\"num_hidden_layers\":3",
                      "\"num_hidden_layers\":-3",
                      "key 'num_hidden_layers' is -3, expected 0 or more"),
        config_change("config-layers-huge", "\"num_hidden_layers\":3",
                      "\"num_hidden_layers\":4294967297",
                      "key 'num_hidden_layers' is 4294967297, expected 1 to 1024"),
        config_change("config-window-0", "\"sliding_window\":16", "\"sliding_window\":0",
                      "key 'sliding_window' is 0, expected 1 to"),
        config_change("config-heads-not-multiple",
                      "\"num_attention_heads\":2,\"num_key_value_heads\":1",
                      "\"num_attention_heads\":3,\"num_key_value_heads\":2",
                      "num_attention_heads = 3 is not a multiple of num_key_value_heads = 2"),
        config_change("config-rope-factor-0", "\"factor\":8.0", "\"factor\":0",
                      "key 'rope_scaling.factor' is 0, expected a positive number"),
        config_change("config-rope-type", "\"rope_type\":\"linear\"", "\"rope_type\":\"yarn\"",
                      "asks for 'yarn' scaling"),
        config_change("config-layer-types-short", "\"head_dim\":32",
                      "\"head_dim\":32,\"layer_types\":[\"full_attention\"]",
                      "key 'layer_types' has fewer elements than num_hidden_layers = 3"),
        config_change("config-layer-types-number", "\"head_dim\":32",
                      "\"head_dim\":32,\"layer_types\":[1,2,3]",
                      "key 'layer_types[0]' is an integer, expected a string"),
        config_change("config-layer-types-not-periodic", "\"head_dim\":32",
                      "\"head_dim\":32,\"layer_types\":[\"full_attention\",\"sliding_attention\","
                      "\"sliding_attention\"]",
                      "layer_types is not periodic"),
        config_change("config-eos-string", "[1,5]", "\"one\"", "key 'eos_token_id' is a string"),
        config_change("config-contradicts-shapes", "\"intermediate_size\":96",
                      "\"intermediate_size\":128",
                      "tensor 'model.layers.0.mlp.gate_proj.weight' has shape [96, 64], but "
                      "config.json asks for [128, 64]"),
        config_change("config-contradicts-embedding", "\"vocab_size\":288", "\"vocab_size\":300",
                      "tensor 'model.embed_tokens.weight' has shape [288, 64], but config.json "
                      "asks for [300, 64]"),
        config_change("config-one-layer-too-many", "\"num_hidden_layers\":3",
                      "\"num_hidden_layers\":4",
                      "tensor 'model.layers.3.input_layernorm.weight' is missing"),
        config_change("config-vocabulary-larger-than-embedding", "\"vocab_size\":288",
                      "\"vocab_size\":100",
                      "the vocabulary has 271 pieces, but the embedding only 100 rows"),

        spm("spm-empty", "", "not a SentencePiece model, or cut short: it has 0 pieces"),
        spm("spm-text", "this is not a model at all", "tokenizer.model: byte"),
        spm("spm-cut-in-piece", model.substr(0, 4000), "but"),
        spm("spm-cut-before-trainer-spec", pieces, "it has 271 pieces, no trainer_spec"),
        spm("spm-cut-in-trainer-spec", model.substr(0, pieces.size() + 5),
            "field 2 has a length of"),
        spm_field("spm-length-overflows",
                  proto_varint(1 << 3 | 2) + proto_varint(~std::uint64_t{0}),
                  "byte 0: field 1 has a length of 18446744073709551615 bytes"),
        spm_field("spm-varint-too-long", std::string(12, '\xFF'),
                  "byte 0: a field's tag is cut short or longer than 10 bytes"),
        spm_field("spm-field-0", proto_field(0, 5), "byte 0: field number 0 is not valid"),
        spm_field("spm-group", proto_varint(9 << 3 | 3), "byte 0: field 9 has wire type 3"),
        spm_field("spm-piece-is-varint", proto_field(1, 5), "byte 0: field 1 has wire type 0"),
        spm_field("spm-piece-not-utf8", proto_field(1, proto_field(1, "\xF5zzz")),
                  "piece 0 is not UTF-8: '\\xF5zzz'"),
        spm_field("spm-piece-type-9", proto_field(1, proto_field(1, "x") + proto_field(3, 9)),
                  "piece 0 has type 9, expected 1 to 6"),
        spm_field("spm-score-is-varint", proto_field(1, proto_field(1, "x") + proto_field(2, 1)),
                  "piece 0's score has wire type 0"),
        spm_field("spm-score-nan", proto_piece({"x", std::nanf(""), PieceType::normal}),
                  "piece 0 ('x') has a score of nan"),
        spm_field("spm-byte-piece", proto_piece({"x", 0, PieceType::byte}),
                  "piece 0 ('x') is a byte piece"),
        spm("spm-bos-out-of-range", model + proto_field(2, proto_field(41, 271)),
            "trainer_spec.bos_id is 271, but there are 271 pieces"),
        spm("spm-unigram", model + proto_field(2, proto_field(3, 1)),
            "trainer_spec.model_type is 1, expected 2 (BPE)"),
        spm("spm-normalises", model + proto_field(3, proto_field(2, "charsmap")),
            "character map of 8 bytes"),

        json("json-empty", "", "tokenizer.json: byte 1: not valid JSON"),
        json("json-cut", text.substr(0, text.size() / 2), "not valid JSON"),
        json("json-array", "[]", "the file is an array, expected an object"),
        json("json-deep", "{\"model\":{\"merges\":[[" + deep, "model.merges[0] is not a pair"),
        json("json-no-model", "{}", "model.type is missing"),
        json("json-no-vocab", R"({"model":{"type":"BPE","merges":[]}})",
             "model.vocab is missing or empty"),
        json_change("json-unigram", "\"type\":\"BPE\"", "\"type\":\"Unigram\"",
                    "model.type is 'Unigram', expected 'BPE'"),
        json("json-vocab-array", R"({"model":{"type":"BPE","vocab":["a"]}})",
             "model.vocab is an array, expected an object"),
        json_change("json-id-string", "\"th\":262", "\"th\":\"262\"",
                    "model.vocab: the id of 'th' is a string"),
        json_change("json-id-negative", "\"th\":262", "\"th\":-1",
                    "model.vocab: the id of 'th' is an integer, expected an integer from 0"),
        json_change("json-id-huge", "\"th\":262", "\"th\":1099511627776",
                    "model.vocab: the id of 'th' is 1099511627776, expected at most 524287"),
        json_change("json-id-twice", "\"th\":262", "\"th\":263",
                    "model.vocab: id 263 is both 'th' and 'the'"),
        json_change("json-id-missing", "\"th\":262,", "", "id 262 has no piece"),
        json_change("json-piece-twice", "\"th\":262", "\"the\":262", "piece 'the' has two ids"),
        json_change("json-piece-not-utf8", "\"th\":262", "\"t\xC3\":262", "not valid JSON"),
        json_change("json-piece-lone-surrogate", "\"th\":262", "\"\\ud800\":262", "not valid JSON"),
        json_change("json-merge-of-one", "[\"t\",\"h\"]", "[\"t\"]",
                    "model.merges[0] is not a pair"),
        json_change("json-merge-of-three", "[\"t\",\"h\"]", "[\"t\",\"h\",\"e\"]",
                    "model.merges[0] is not a pair"),
        json_change("json-merge-without-space", "\"th e\"", "\"the\"",
                    "model.merges[1] is not a pair"),
        json_change("json-merge-unknown", "\"th e\"", "\"e e\"",
                    "model.merges[1] makes 'ee', which is not in model.vocab"),
        json_change("json-merges-object", "\"merges\":[", "\"merges\":{\"a\":[",
                    "model.merges is an object, expected an array"),
        json_change("json-added-token-without-id", "{\"id\":0,", "{", "added_tokens[0] lacks id"),
        json_change("json-added-token-conflicts", "\"content\":\"<pad>\"", "\"content\":\"<x>\"",
                    "added_tokens[0]: id 0 is both '<pad>' and '<x>'"),

        make("tokenizer-config-template-number", "tokenizer.model", "tokenizer_config.json",
             R"({"chat_template":5})", "key 'chat_template' is an integer, expected a string"),
        make("tokenizer-config-cut", "tokenizer.model", "tokenizer_config.json",
             R"({"chat_template":"{{)", "tokenizer_config.json: byte"),
        make("chat-template-not-utf8", "tokenizer.model", "chat_template.jinja", "{{ \xFF }}",
             "chat_template.jinja: not UTF-8"),
        make("generation-config-eos-negative", "tokenizer.model", "generation_config.json",
             R"({"eos_token_id":[-1]})", "key 'eos_token_id[0]' is -1, expected 0 or more"),
    };
}

}  // namespace unicorn::malformed
