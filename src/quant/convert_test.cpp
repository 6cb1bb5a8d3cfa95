#include "quant/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/gemma3_keys.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/testing.h"
#include "quant/quantize.h"
#include "tensor/half.h"

namespace unicorn::quant {
namespace {

using formats::Gguf;
using formats::PieceType;
using formats::SafetensorsBuilder;
using formats::TempFolder;
using formats::tiny_vocabulary;
using formats::TinyModel;
using tensor::DType;
namespace keys = formats::gemma3;

void write_small_files(const TempFolder& folder, const TinyModel& model) {
    folder.write("config.json", model.config());
    folder.write("tokenizer.model", formats::sentencepiece_bytes(tiny_vocabulary()));
    folder.write("tokenizer_config.json",
                 "{\"chat_template\":\"{{ bos_token }}<start_of_turn>\",\"bos_token\":\"<bos>\"}");
}

void write_model(const TempFolder& folder, const TinyModel& model) {
    write_small_files(folder, model);
    folder.write("model.safetensors", model.tensors().bytes());
}

float f32_at(const Gguf& gguf, std::string_view name, std::size_t i) {
    float value = 0;
    std::memcpy(&value, gguf.find_tensor(name)->bytes.data() + 4 * i, 4);
    return value;
}

TEST(ConvertTest, F32IsTheCheckpointItself) {
    const TempFolder folder;
    write_model(folder, {});
    auto report =
        convert_hf(folder.path(), folder.file("out.gguf"), {.type = DType::f32, .name = "tiny"});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->n_tensors, 2U + 3 * 13);
    EXPECT_EQ(report->embedding_rows_dropped, 288U - 271U);
    EXPECT_EQ(report->pieces_dropped, 0U);
    EXPECT_THAT(report->other_skipped, testing::IsEmpty());

    const Gguf gguf = Gguf::open(folder.file("out.gguf")).value();
    EXPECT_EQ(report->tensor_bytes, gguf.tensor_bytes());
    EXPECT_EQ(gguf.get_string("general.architecture").value(), "gemma3");
    EXPECT_EQ(gguf.get_string("general.name").value(), "tiny");
    EXPECT_EQ(gguf.get_uint(keys::kEmbeddingLength).value(), 64U);
    EXPECT_EQ(gguf.get_uint(keys::kFeedForwardLength).value(), 96U);
    EXPECT_EQ(gguf.get_uint(keys::kBlockCount).value(), 3U);
    EXPECT_EQ(gguf.get_uint(keys::kHeadCount).value(), 2U);
    EXPECT_EQ(gguf.get_uint(keys::kHeadCountKv).value(), 1U);
    EXPECT_EQ(gguf.get_uint(keys::kKeyLength).value(), 32U);
    EXPECT_EQ(gguf.get_uint(keys::kValueLength).value(), 32U);
    EXPECT_EQ(gguf.get_uint(keys::kContextLength).value(), 128U);
    EXPECT_EQ(gguf.get_uint(keys::kSlidingWindow).value(), 16U);
    EXPECT_EQ(gguf.get_uint(keys::kSlidingWindowPattern).value(), 3U);
    EXPECT_EQ(gguf.get_float(keys::kQueryPreAttnScalar).value(), 48.0);
    EXPECT_EQ(gguf.get_float(keys::kRopeBase).value(), 1e6);
    EXPECT_EQ(gguf.get_float(keys::kRopeBaseLocal).value(), 2e4);
    EXPECT_EQ(gguf.get_string(keys::kRopeScalingType).value(), "linear");
    EXPECT_EQ(gguf.get_float(keys::kRopeScalingFactor).value(), 8.0);
    EXPECT_EQ(gguf.get_float(keys::kNormEpsilon).value(), static_cast<double>(1e-6f));

    // The k-th tensor of the checkpoint was filled with seed k: embed_tokens 0, then layer 0.
    const auto* embedding = gguf.find_tensor("token_embd.weight");
    ASSERT_NE(embedding, nullptr);
    EXPECT_THAT(embedding->dims, testing::ElementsAre(64, 271));
    const std::pair<const char*, std::size_t> matrices[] = {
        {"token_embd.weight", 0},        {"blk.0.attn_q.weight", 1},
        {"blk.0.attn_k.weight", 2},      {"blk.0.attn_v.weight", 3},
        {"blk.0.attn_output.weight", 4}, {"blk.0.ffn_gate.weight", 11},
        {"blk.0.ffn_up.weight", 12},     {"blk.0.ffn_down.weight", 13},
        {"blk.2.ffn_down.weight", 39}};
    for (const auto& [name, seed] : matrices) {
        ASSERT_NE(gguf.find_tensor(name), nullptr) << name;
        for (std::size_t i = 0; i < gguf.find_tensor(name)->bytes.size() / 4; ++i) {
            ASSERT_EQ(f32_at(gguf, name, i), TinyModel::weight(seed, i)) << name << " " << i;
        }
    }
    const std::pair<const char*, std::size_t> norms[] = {
        {"blk.0.attn_q_norm.weight", 5}, {"blk.0.attn_k_norm.weight", 6},
        {"blk.0.attn_norm.weight", 7},   {"blk.0.post_attention_norm.weight", 8},
        {"blk.0.ffn_norm.weight", 9},    {"blk.0.post_ffw_norm.weight", 10},
        {"output_norm.weight", 40}};
    for (const auto& [name, seed] : norms) {
        ASSERT_NE(gguf.find_tensor(name), nullptr) << name;
        EXPECT_EQ(gguf.find_tensor(name)->dims.size(), 1U);
        for (std::size_t i = 0; i < gguf.find_tensor(name)->bytes.size() / 4; ++i) {
            ASSERT_EQ(f32_at(gguf, name, i), 1.0f + TinyModel::weight(seed, i)) << name << " " << i;
        }
    }

    auto vocabulary = formats::read_vocabulary(gguf);
    ASSERT_TRUE(vocabulary) << vocabulary.error().message;
    EXPECT_EQ(vocabulary->pieces.size(), 271U);
    EXPECT_EQ(vocabulary->pieces[4].type, PieceType::control);
    EXPECT_THAT(vocabulary->stop_ids, testing::ElementsAre(1, 5));
    EXPECT_EQ(vocabulary->chat_template, "{{ bos_token }}<start_of_turn>");
}

TEST(ConvertTest, QuantisedRowsAreThoseOfQuantizeRow) {
    const TempFolder folder;
    write_model(folder, {});
    for (const DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
        ASSERT_TRUE(
            convert_hf(folder.path(), folder.file("out.gguf"), {.type = type, .n_threads = 3}));
        const Gguf gguf = Gguf::open(folder.file("out.gguf")).value();
        const auto* down = gguf.find_tensor("blk.1.ffn_down.weight");
        ASSERT_EQ(down->type, type);
        std::vector<float> x(96);
        std::vector<std::byte> expected(down->matrix().row_bytes());
        for (std::size_t r = 0; r < 64; ++r) {
            for (std::size_t i = 0; i < 96; ++i) x[i] = TinyModel::weight(26, r * 96 + i);
            quantize_row(type, x, expected.data());
            ASSERT_TRUE(std::ranges::equal(
                down->bytes.subspan(r * expected.size(), expected.size()), expected))
                << r;
        }
        EXPECT_EQ(gguf.find_tensor("token_embd.weight")->type,
                  type == DType::q4_0 ? DType::q8_0 : type);
        EXPECT_EQ(gguf.find_tensor("blk.1.ffn_norm.weight")->type, DType::f32);
    }
}

TEST(ConvertTest, ShardsAndEveryPrefixGiveTheSameFile) {
    std::string expected;
    for (const char* prefix : {"model.", "language_model.model.", "model.language_model.", ""}) {
        const TempFolder folder;
        TinyModel model;
        model.prefix = prefix;
        write_small_files(folder, model);
        // Odd tensors go to the second shard, with a vision tensor that is to be skipped.
        SafetensorsBuilder shards[2];
        std::string map;
        const std::string all = folder.write("all", model.tensors().bytes());
        const auto files = formats::Safetensors::open(all).value();
        for (std::size_t i = 0; i < files.tensors().size(); ++i) {
            const auto& t = files.tensors()[i];
            shards[i % 2].add(t.name, "F32", t.shape,
                              {reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()});
            map +=
                fmt::format("{}\"{}\":\"part-{}.safetensors\"", i == 0 ? "" : ",", t.name, i % 2);
        }
        shards[1].add("vision_tower.patch.weight", "F16", {2}, "\1\2\3\4");
        folder.write("part-0.safetensors", shards[0].bytes());
        folder.write("part-1.safetensors", shards[1].bytes());
        folder.write("model.safetensors.index.json",
                     "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + map + "}}");
        auto report = convert_hf(folder.path(), folder.file("out.gguf"),
                                 {.type = DType::q8_0, .name = "same"});
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->n_vision_skipped, 1U);
        const std::string bytes = read_file(folder.file("out.gguf"), 1 << 24).value();
        if (expected.empty()) expected = bytes;
        EXPECT_TRUE(bytes == expected) << prefix;
    }
}

TEST(ConvertTest, UntiedHeadIsKeptOnlyWhenItDiffers) {
    for (const bool differs : {false, true}) {
        const TempFolder folder;
        const TinyModel model;
        write_small_files(folder, model);
        std::string config = model.config();
        config.insert(1, "\"tie_word_embeddings\":false,");
        folder.write("config.json", config);
        SafetensorsBuilder tensors = model.tensors();
        tensors.add("lm_head.weight", "F32", {288, 64},
                    TinyModel::weights(differs ? 99 : 0, 288 * 64));
        folder.write("model.safetensors", tensors.bytes());
        auto report = convert_hf(folder.path(), folder.file("out.gguf"), {.type = DType::f32});
        ASSERT_TRUE(report) << report.error().message;
        const Gguf gguf = Gguf::open(folder.file("out.gguf")).value();
        EXPECT_EQ(gguf.find_tensor("output.weight") != nullptr, differs);
        if (differs) {
            EXPECT_EQ(f32_at(gguf, "output.weight", 70), TinyModel::weight(99, 70));
        } else {
            EXPECT_THAT(report->other_skipped, testing::ElementsAre("lm_head.weight"));
        }
    }
}

TEST(ConvertTest, PiecesWithoutARowAreDroppedOnlyWhenNothingIsLost) {
    const TempFolder folder;
    TinyModel model;
    model.embedding_rows = 271;
    write_model(folder, model);
    auto vocabulary = tiny_vocabulary();
    vocabulary.pieces.push_back(
        {"<image_soft_token>", 0, PieceType::control});  // as in Gemma 3's tokenizer.json
    folder.write("tokenizer.model", formats::sentencepiece_bytes(vocabulary));
    auto report = convert_hf(folder.path(), folder.file("out.gguf"), {});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->pieces_dropped, 1U);
    EXPECT_EQ(Gguf::open(folder.file("out.gguf"))->find_tensor("token_embd.weight")->dims[1], 271U);

    vocabulary.pieces.back().type = PieceType::normal;
    folder.write("tokenizer.model", formats::sentencepiece_bytes(vocabulary));
    EXPECT_THAT(
        convert_hf(folder.path(), folder.file("out.gguf"), {}).error().message,
        testing::HasSubstr("the vocabulary has 272 pieces, but the embedding only 271 rows"));
}

TEST(ConvertTest, CancellingLeavesTheOldFile) {
    const TempFolder folder;
    write_model(folder, TinyModel());
    folder.write("out.gguf", "old");
    auto report = convert_hf(folder.path(), folder.file("out.gguf"), {},
                             [](std::uint64_t, std::uint64_t) { return false; });
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::cancelled);
    EXPECT_EQ(read_file(folder.file("out.gguf"), 100).value(), "old");
    EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf.part")));
}

TEST(ConvertTest, WhatDoesNotFitIsAnErrorAndLeavesTheOldFile) {
    const TempFolder folder;
    const TinyModel model;
    write_model(folder, model);
    folder.write("out.gguf", "old");
    const auto message = [&] {
        auto report = convert_hf(folder.path(), folder.file("out.gguf"), {});
        EXPECT_EQ(read_file(folder.file("out.gguf"), 100).value(), "old");
        EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf.part")));
        return report ? std::string("no error") : report.error().message;
    };
    SafetensorsBuilder extra = model.tensors();
    extra.add("model.layers.3.mlp.up_proj.weight", "F32", {1}, "\1\2\3\4");
    folder.write("model.safetensors", extra.bytes());
    EXPECT_THAT(
        message(),
        testing::HasSubstr(
            "tensor 'model.layers.3.mlp.up_proj.weight' has no place in Gemma 3 of 3 layers"));

    std::string bytes = model.tensors().bytes();
    const float nan = std::nanf("");
    std::memcpy(bytes.data() + bytes.size() - 64 * 4 - 8, &nan,
                4);  // last but one of blk.2.ffn_down
    folder.write("model.safetensors", bytes);
    EXPECT_THAT(
        message(),
        testing::HasSubstr(
            "tensor 'model.layers.2.mlp.down_proj.weight' holds a NaN or an infinity in row 63"));

    std::string config = model.config();
    config.replace(config.find("\"hidden_size\":64"), 16, "\"hidden_size\":32");
    folder.write("config.json", config);
    EXPECT_THAT(message(),
                testing::HasSubstr("has shape [288, 64], but config.json asks for [288, 32]"));
    EXPECT_EQ(
        convert_hf(folder.path(), folder.file("out.gguf"), {.type = DType::q6_k}).error().code,
        ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace unicorn::quant
