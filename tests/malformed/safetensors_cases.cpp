// Lies of safetensors files and of model.safetensors.index.json.

#include <cstdint>

#include "base/check.h"
#include "cases.h"
#include "formats/testing.h"

namespace unicorn::malformed {
namespace {

using formats::raw;

constexpr const char* kIndex = "model.safetensors.index.json";

/// A valid folder's small files and these.
Case make(std::string name, std::vector<std::pair<std::string, std::string>> files,
          std::string message) {
    files.emplace_back("config.json", formats::TinyModel().config());
    files.emplace_back("tokenizer.model", formats::sentencepiece_bytes(formats::tiny_vocabulary()));
    return {std::move(name), Kind::folder, std::move(files), std::move(message)};
}

Case file(std::string name, std::string bytes, std::string message) {
    return make(std::move(name), {{"model.safetensors", std::move(bytes)}}, std::move(message));
}

/// A file of `header` and 16 bytes of data.
Case header(std::string name, const std::string& json, std::string message) {
    return file(std::move(name), raw(std::uint64_t{json.size()}) + json + std::string(16, '\0'),
                std::move(message));
}

/// One tensor "w" of 16 bytes with these members.
Case members(std::string name, const std::string& json, std::string message) {
    return header(std::move(name), "{\"w\":{" + json + "}}", std::move(message));
}

Case index(std::string name, std::string json, std::string message) {
    formats::SafetensorsBuilder shard;
    shard.add("a", "F32", {1}, "1234");
    return make(std::move(name),
                {{kIndex, std::move(json)},
                 {"s.safetensors", shard.bytes()},
                 {"t.safetensors", shard.bytes()}},
                std::move(message));
}

}  // namespace

std::vector<Case> safetensors_cases() {
    const std::string valid = formats::TinyModel().tensors().bytes();
    const std::string deep(100000, '[');
    const std::string good = R"("dtype":"F32","shape":[4],"data_offsets":[0,16])";
    return {
        file("safetensors-empty", "", "0 bytes, too short for a safetensors header"),
        file("safetensors-cut-in-length", valid.substr(0, 5), "5 bytes, too short"),
        file("safetensors-header-length-overflows", raw(~std::uint64_t{0}) + "{}",
             "byte 0: a header of 18446744073709551615 bytes"),
        file("safetensors-header-too-long", raw(std::uint64_t{1000}) + "{}",
             "byte 0: a header of 1000 bytes, but 2 remain in the file"),
        file("safetensors-cut-in-header", valid.substr(0, 100), "but 92 remain in the file"),
        file("safetensors-cut-in-data", valid.substr(0, valid.size() - 1),
             "tensor 'model.norm.weight' has data_offsets"),
        file("safetensors-trailing-bytes", valid + "x", "the tensors end at byte"),
        header("safetensors-header-empty", "", "not valid JSON"),
        header("safetensors-not-json", "{\"w\": nope}", "not valid JSON"),
        header("safetensors-json-cut", "{\"w\":{\"dtype\":\"F32\",", "not valid JSON"),
        header("safetensors-json-then-more", "{} {}", "not valid JSON"),
        header("safetensors-array", "[]", "the header is an array, expected an object"),
        header("safetensors-deep", deep, "the header is an array"),
        header("safetensors-deep-member", "{\"__metadata__\":{},\"w\":{\"shape\":" + deep + "}}",
               "tensor 'w': shape holds an array"),
        header("safetensors-name-not-utf8", "{\"w\xFF\":{" + good + "}}", "not valid JSON"),
        header("safetensors-tensor-twice", "{\"w\":{" + good + "},\"w\":{" + good + "}}",
               "duplicate tensor 'w'"),
        header("safetensors-tensor-is-number", "{\"w\":5}",
               "tensor 'w' is an integer, expected an object"),
        header("safetensors-metadata-nested", "{\"__metadata__\":{\"a\":{}},\"w\":{" + good + "}}",
               "__metadata__ is not an object of strings"),
        header("safetensors-long-string",
               "{\"__metadata__\":{\"a\":\"" + std::string(3u << 20, 'x') + "\"}}",
               "bytes without a quotation mark, expected at most 1048576"),
        members("safetensors-no-dtype", R"("shape":[4],"data_offsets":[0,16])",
                "tensor 'w' lacks dtype"),
        members("safetensors-no-shape", R"("dtype":"F32","data_offsets":[0,16])",
                "tensor 'w' lacks shape"),
        members("safetensors-no-offsets", R"("dtype":"F32","shape":[4])",
                "tensor 'w' lacks data_offsets"),
        members("safetensors-one-offset", R"("dtype":"F32","shape":[4],"data_offsets":[16])",
                "tensor 'w' lacks data_offsets"),
        members("safetensors-three-offsets", R"("dtype":"F32","shape":[4],"data_offsets":[0,8,16])",
                "data_offsets has more than 2 elements"),
        members("safetensors-dtype-number", R"("dtype":1,"shape":[4],"data_offsets":[0,16])",
                "dtype is an integer, expected a string"),
        members("safetensors-dtype-twice",
                R"("dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16])",
                "tensor 'w' has two of dtype"),
        members("safetensors-member-unknown", good + R"(,"stride":[1])",
                "tensor 'w' has the unknown member 'stride'"),
        members("safetensors-shape-negative", R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])",
                "shape holds an integer, expected integers from 0"),
        members("safetensors-shape-float", R"("dtype":"F32","shape":[4.0],"data_offsets":[0,16])",
                "shape holds a number"),
        members("safetensors-shape-too-large",
                R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,16])",
                "shape holds a number"),
        members("safetensors-shape-overflows",
                R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,16])",
                "whose size overflows"),
        members("safetensors-nine-dimensions",
                R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16])",
                "shape has more than 8 elements"),
        members("safetensors-offsets-reversed",
                R"("dtype":"F32","shape":[4],"data_offsets":[16,0])",
                "data_offsets [16, 0], but there are 16 bytes of data"),
        members("safetensors-offsets-past-end",
                R"("dtype":"F32","shape":[8],"data_offsets":[0,32])",
                "data_offsets [0, 32], but there are 16 bytes of data"),
        members("safetensors-size-contradicts-shape",
                R"("dtype":"F32","shape":[3],"data_offsets":[0,16])",
                "takes 12 bytes, but data_offsets [0, 16] hold 16"),
        header(
            "safetensors-overlap",
            R"({"a":{"dtype":"U8","shape":[10],"data_offsets":[0,10]},"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})",
            "(they overlap)"),
        header(
            "safetensors-hole",
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})",
            "(a hole)"),
        header("safetensors-no-embedding", "{\"w\":{" + good + "}}",
               "no tensor is called embed_tokens.weight"),

        index("index-not-json", "{", "not valid JSON"),
        index("index-array", "[1]", "the file is an array, expected an object"),
        index("index-no-weight-map", "{\"metadata\":{}}", "weight_map is missing or empty"),
        index("index-weight-map-array", R"({"weight_map":["s.safetensors"]})",
              "weight_map is an array, expected one object"),
        index("index-weight-map-twice", R"({"weight_map":{"a":"s.safetensors"},"weight_map":{}})",
              "weight_map is there twice"),
        index("index-shard-number", R"({"weight_map":{"a":7}})",
              "tensor 'a' is in an integer, expected a file name"),
        index("index-shard-in-parent", R"({"weight_map":{"a":"../s.safetensors"}})",
              "is in '../s.safetensors', expected the name of a file in the same folder"),
        index("index-shard-absolute", R"({"weight_map":{"a":"/etc/hostname"}})",
              "is in '/etc/hostname', expected the name of a file"),
        index("index-shard-dots", R"({"weight_map":{"a":".."}})",
              "is in '..', expected the name of a file"),
        index("index-shard-nul", R"({"weight_map":{"a":"s.safetensors\u0000x"}})",
              "is in 's.safetensors\\x00x'"),
        index("index-shard-missing", R"({"weight_map":{"a":"gone.safetensors"}})",
              "gone.safetensors: cannot open"),
        index("index-tensor-not-in-shard", R"({"weight_map":{"b":"s.safetensors"}})",
              "weight_map: tensor 'b' is not in 's.safetensors'"),
        index("index-tensor-listed-twice",
              R"({"weight_map":{"a":"s.safetensors","a":"s.safetensors"}})",
              "weight_map: duplicate tensor 'a'"),
        index("index-tensor-in-two-shards",
              R"({"weight_map":{"a":"s.safetensors","c":"t.safetensors"}})",
              "t.safetensors: duplicate tensor 'a'"),
        index("index-deep", "{\"weight_map\":{\"a\":" + deep + "}}", "expected a file name"),
    };
}

}  // namespace unicorn::malformed
