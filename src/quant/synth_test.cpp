#include "quant/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/testing.h"
#include "kernels/dequantize.h"
#include "quant/synthetic_vocabulary.h"

namespace unicorn::quant {
namespace {

using formats::Gguf;
using formats::TempFolder;
using tensor::DType;

// Two layers; columns of 256 and 512, so that every type fits; no matrix so large that it comes
// from a pool.
SynthShape tiny_shape() {
    SynthShape shape;
    shape.name = "tiny";
    shape.n_layers = 2;
    shape.dim = 256;
    shape.ffn_dim = 512;
    shape.n_heads = 2;
    shape.n_kv_heads = 1;
    shape.head_dim = 128;
    shape.window = 64;
    shape.max_context = 1024;
    shape.query_pre_attn_scalar = 128;
    shape.n_vocab = 512;
    return shape;
}

SynthOptions tiny_options(std::string_view recipe) {
    SynthOptions options;
    options.shape = tiny_shape();
    auto found = find_recipe(recipe);
    EXPECT_TRUE(found.has_value()) << recipe;
    options.recipe = *found;
    return options;
}

Gguf write_and_open(const SynthOptions& options, const std::string& path,
                    SynthReport* report = nullptr) {
    auto written = write_synthetic_model(options, path);
    EXPECT_TRUE(written.has_value()) << (written ? "" : written.error().message);
    if (written && report != nullptr) *report = *written;
    auto file = Gguf::open(path);
    EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
    return std::move(*file);
}

DType type_of(const Gguf& file, std::string_view name) {
    const formats::GgufTensor* found = file.find_tensor(name);
    EXPECT_NE(found, nullptr) << name;
    return found == nullptr ? DType::f32 : found->type;
}

std::vector<float> decoded(const formats::GgufTensor& t) {
    std::vector<float> weights;
    const tensor::MatrixView matrix = t.matrix();
    std::vector<float> row(matrix.cols);
    for (std::size_t r = 0; r < matrix.rows; ++r) {
        kernels::dequantize_row(matrix.type, matrix.row(r), row);
        weights.insert(weights.end(), row.begin(), row.end());
    }
    return weights;
}

struct Moments {
    double mean = 0;
    double deviation = 0;
};

Moments moments(const std::vector<float>& x) {
    double sum = 0;
    double squares = 0;
    for (const float v : x) {
        sum += static_cast<double>(v);
        squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const double mean = sum / static_cast<double>(x.size());
    return {mean, std::sqrt(squares / static_cast<double>(x.size()) - mean * mean)};
}

std::string bytes_of(const std::string& path) {
    auto file = MappedFile::open(path);
    EXPECT_TRUE(file.has_value());
    return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
}

class SynthType : public testing::TestWithParam<tensor::DTypeInfo> {};
INSTANTIATE_TEST_SUITE_P(Types, SynthType,
                         testing::ValuesIn(tensor::all_dtypes().begin(),
                                           tensor::all_dtypes().end()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(SynthType, WritesAModelOfTheRightShapesTypesAndScale) {
    const TempFolder folder;
    SynthReport report;
    const Gguf file =
        write_and_open(tiny_options(GetParam().name), folder.file("tiny.gguf"), &report);
    const DType type = GetParam().type;
    const bool keeps_embedding = !GetParam().quantized || type == DType::q8_0;

    struct Expected {
        std::uint64_t rows, cols;
        DType type;
    };
    std::map<std::string, Expected, std::less<>> expected;
    expected["token_embd.weight"] = {512, 256, keeps_embedding ? type : DType::q6_k};
    for (const std::string block : {"blk.0.", "blk.1."}) {
        expected[block + "attn_q.weight"] = {256, 256, type};
        expected[block + "attn_k.weight"] = {128, 256, type};
        expected[block + "attn_v.weight"] = {128, 256, type};
        expected[block + "attn_output.weight"] = {256, 256, type};
        expected[block + "ffn_gate.weight"] = {512, 256, type};
        expected[block + "ffn_up.weight"] = {512, 256, type};
        expected[block + "ffn_down.weight"] = {256, 512, type};
        for (const char* norm : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"}) {
            expected[block + norm + ".weight"] = {0, 256, DType::f32};
        }
        expected[block + "attn_q_norm.weight"] = {0, 128, DType::f32};
        expected[block + "attn_k_norm.weight"] = {0, 128, DType::f32};
    }
    expected["output_norm.weight"] = {0, 256, DType::f32};

    ASSERT_EQ(file.tensors().size(), expected.size());
    std::uint64_t n_weights = 0;
    for (const formats::GgufTensor& t : file.tensors()) {
        const auto entry = expected.find(t.name);
        ASSERT_NE(entry, expected.end()) << t.name;
        const auto& [rows, cols, wanted] = entry->second;
        EXPECT_EQ(t.type, wanted) << t.name;
        const std::vector<std::uint64_t> dims =
            rows == 0 ? std::vector{cols} : std::vector{cols, rows};
        EXPECT_EQ(t.dims, dims) << t.name;
        const std::vector<float> weights = decoded(t);
        n_weights += weights.size();
        const auto [mean, deviation] = moments(weights);
        if (rows == 0) {
            EXPECT_NEAR(mean, 1, 0.05) << t.name;
            EXPECT_NEAR(deviation, 0.1, 0.03) << t.name;
        } else {
            const double wanted_deviation = 1 / std::sqrt(static_cast<double>(cols));
            EXPECT_NEAR(mean, 0, 0.02 * wanted_deviation) << t.name;
            EXPECT_NEAR(deviation, wanted_deviation, 0.05 * wanted_deviation) << t.name;
        }
    }
    EXPECT_EQ(report.n_weights, n_weights);
    EXPECT_EQ(report.tensor_bytes, file.tensor_bytes());
    EXPECT_TRUE(report.fallbacks.empty());
}

TEST(Synth, WritesTheSameBytesForTheSameSeedOnly) {
    const TempFolder folder;
    SynthOptions options = tiny_options("mixed");
    options.shape.n_vocab = 8192;  // from a pool, in several chunks
    ASSERT_TRUE(write_synthetic_model(options, folder.file("one")).has_value());
    options.n_threads = 3;
    ASSERT_TRUE(write_synthetic_model(options, folder.file("three")).has_value());
    EXPECT_TRUE(bytes_of(folder.file("one")) == bytes_of(folder.file("three")));

    options.seed = 2;
    const Gguf other = write_and_open(options, folder.file("seed_2"));
    auto first = Gguf::open(folder.file("one"));
    ASSERT_TRUE(first.has_value());
    for (const formats::GgufTensor& t : first->tensors()) {
        const formats::GgufTensor* twin = other.find_tensor(t.name);
        ASSERT_NE(twin, nullptr);
        EXPECT_NE(std::memcmp(t.bytes.data(), twin->bytes.data(), t.bytes.size()), 0) << t.name;
    }
}

// Equal rows of the embedding would give two pieces the same logit, always.
TEST(Synth, RepeatsNoRowOfTheEmbedding) {
    const TempFolder folder;
    SynthOptions options = tiny_options("q4_0");
    options.embedding = DType::q4_0;
    options.shape.n_vocab = 32768;
    const Gguf file = write_and_open(options, folder.file("m"));
    const tensor::MatrixView embedding = file.find_tensor("token_embd.weight")->matrix();
    std::set<std::string_view> rows;
    for (std::size_t r = 0; r < embedding.rows; ++r) {
        rows.insert({reinterpret_cast<const char*>(embedding.row(r)), embedding.row_bytes()});
    }
    EXPECT_EQ(rows.size(), embedding.rows);

    // ... and what comes from a pool has the same scale as what does not.
    const auto [mean, deviation] = moments(decoded(*file.find_tensor("token_embd.weight")));
    EXPECT_NEAR(mean, 0, 0.02 / 16);
    EXPECT_NEAR(deviation, 1.0 / 16, 0.02 / 16);
}

TEST(Synth, MixedRecipeGivesEachRoleItsType) {
    const TempFolder folder;
    const Gguf file = write_and_open(tiny_options("mixed"), folder.file("m"));
    EXPECT_EQ(type_of(file, "token_embd.weight"), DType::q8_0);
    for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_down"}) {
        EXPECT_EQ(type_of(file, "blk.1." + std::string(part) + ".weight"), DType::q4_0) << part;
    }
    EXPECT_EQ(type_of(file, "blk.0.ffn_gate.weight"), DType::q2_k);
    EXPECT_EQ(type_of(file, "blk.0.ffn_up.weight"), DType::q2_k);
}

TEST(Synth, EmbeddingTypeCanBeChosen) {
    const TempFolder folder;
    SynthOptions options = tiny_options("q4_0");
    options.embedding = DType::f16;
    SynthReport report;
    const Gguf file = write_and_open(options, folder.file("m"), &report);
    EXPECT_EQ(type_of(file, "token_embd.weight"), DType::f16);
    EXPECT_EQ(report.embedding, DType::f16);
    EXPECT_EQ(report.shares.front().type, DType::q4_0);
    EXPECT_EQ(type_of(file, "blk.0.attn_q.weight"), DType::q4_0);
}

TEST(Synth, SaysWhichTypesDidNotFit) {
    const TempFolder folder;
    SynthOptions options = tiny_options("q4_k_m");
    options.shape.dim = 288;      // 32 fits, 256 does not
    options.shape.ffn_dim = 500;  // not even 32
    SynthReport report;
    const Gguf file = write_and_open(options, folder.file("m"), &report);
    EXPECT_EQ(type_of(file, "token_embd.weight"), DType::q8_0);
    EXPECT_EQ(type_of(file, "blk.0.attn_q.weight"), DType::q5_0);
    EXPECT_EQ(type_of(file, "blk.0.attn_output.weight"), DType::q4_k);
    EXPECT_EQ(type_of(file, "blk.0.ffn_down.weight"), DType::f16);

    std::set<std::string> fallbacks;
    for (const SynthReport::Fallback& f : report.fallbacks) {
        fallbacks.insert(
            fmt::format("{}x {} -> {} at {}", f.n_matrices, name(f.wanted), name(f.used), f.cols));
    }
    // Of two layers, the second is in the last eighth and layer 0 is not a third one.
    const std::set<std::string> expected = {"2x q6_k -> q8_0 at 288", "9x q4_k -> q5_0 at 288",
                                            "1x q4_k -> f16 at 500", "1x q6_k -> f16 at 500"};
    EXPECT_EQ(fallbacks, expected);
}

TEST(Synth, WritesTheMetadataThatReadersNeed) {
    const TempFolder folder;
    SynthOptions options = tiny_options("q8_0");
    options.shape.rope_divisor_global = 8;
    const Gguf file = write_and_open(options, folder.file("m"));
    EXPECT_EQ(file.get_string("general.architecture").value(), "gemma3");
    EXPECT_EQ(file.get_string("general.name").value(), "synthetic-gemma-3-tiny");
    EXPECT_EQ(file.get_uint("general.file_type").value(), 7U);
    EXPECT_EQ(file.get_uint("gemma3.embedding_length").value(), 256U);
    EXPECT_EQ(file.get_uint("gemma3.block_count").value(), 2U);
    EXPECT_EQ(file.get_uint("gemma3.feed_forward_length").value(), 512U);
    EXPECT_EQ(file.get_uint("gemma3.attention.head_count").value(), 2U);
    EXPECT_EQ(file.get_uint("gemma3.attention.head_count_kv").value(), 1U);
    EXPECT_EQ(file.get_uint("gemma3.attention.key_length").value(), 128U);
    EXPECT_EQ(file.get_uint("gemma3.attention.value_length").value(), 128U);
    EXPECT_EQ(file.get_uint("gemma3.attention.sliding_window").value(), 64U);
    EXPECT_EQ(file.get_uint("gemma3.context_length").value(), 1024U);
    EXPECT_FLOAT_EQ(
        static_cast<float>(file.get_float("gemma3.attention.layer_norm_rms_epsilon").value()),
        1e-6f);
    EXPECT_EQ(file.get_float("gemma3.rope.freq_base").value(), 1e6);
    EXPECT_EQ(file.get_string("gemma3.rope.scaling.type").value(), "linear");
    EXPECT_EQ(file.get_float("gemma3.rope.scaling.factor").value(), 8);
    // Derived by every reader, so not written.
    EXPECT_EQ(file.find("gemma3.rope.freq_base_swa"), nullptr);
    EXPECT_EQ(file.find("gemma3.attention.sliding_window_pattern"), nullptr);
    EXPECT_EQ(file.find("gemma3.attention.query_pre_attn_scalar"), nullptr);
}

TEST(Synth, WritesWhatIsNotDerivedFromTheSize) {
    const TempFolder folder;
    SynthOptions options = tiny_options("f32");
    options.shape.query_pre_attn_scalar = 100;
    options.shape.global_every = 2;
    options.shape.rope_base_local = 2e4;
    const Gguf file = write_and_open(options, folder.file("m"));
    EXPECT_EQ(file.get_float("gemma3.attention.query_pre_attn_scalar").value(), 100);
    EXPECT_EQ(file.get_uint("gemma3.attention.sliding_window_pattern").value(), 2U);
    EXPECT_EQ(file.get_float("gemma3.rope.freq_base_swa").value(), 2e4);
    EXPECT_EQ(file.find("gemma3.rope.scaling.factor"), nullptr);
}

TEST(Synth, VocabularyHasGemmasPlaces) {
    const TempFolder folder;
    SynthOptions options = tiny_options("q8_0");
    options.shape.dim = 32;
    options.shape.n_vocab = kGemmaPieces;
    const Gguf file = write_and_open(options, folder.file("m"));
    auto vocabulary = formats::read_vocabulary(file);
    ASSERT_TRUE(vocabulary.has_value()) << vocabulary.error().message;
    ASSERT_EQ(vocabulary->pieces.size(), kGemmaPieces);
    EXPECT_EQ(vocabulary->pieces[0].text, "<pad>");
    EXPECT_EQ(vocabulary->pieces[105].text, "<start_of_turn>");
    EXPECT_EQ(vocabulary->pieces[105].type, formats::PieceType::control);
    EXPECT_EQ(vocabulary->pieces[106].text, "<end_of_turn>");
    EXPECT_EQ(vocabulary->pieces[107].text, "<0x00>");
    EXPECT_EQ(vocabulary->pieces[107 + 255].text, "<0xFF>");
    EXPECT_EQ(vocabulary->pieces[107 + 255].type, formats::PieceType::byte);
    EXPECT_EQ(vocabulary->pad, 0);
    EXPECT_EQ(vocabulary->eos, 1);
    EXPECT_EQ(vocabulary->bos, 2);
    EXPECT_EQ(vocabulary->unk, 3);
    EXPECT_EQ(vocabulary->stop_ids, (std::vector<std::int32_t>{1, 106}));
    EXPECT_TRUE(vocabulary->add_bos);
    EXPECT_FALSE(vocabulary->add_space_prefix);
    EXPECT_NE(vocabulary->chat_template.find("<start_of_turn>"), std::string::npos);
    std::set<std::string_view> texts;
    for (const formats::Piece& piece : vocabulary->pieces) texts.insert(piece.text);
    EXPECT_EQ(texts.size(), kGemmaPieces) << "a piece appears twice";
}

TEST(Synth, ReportsProgressToTheEnd) {
    const TempFolder folder;
    std::uint64_t last = 0;
    std::uint64_t total = 0;
    auto report = write_synthetic_model(tiny_options("q4_0"), folder.file("m"),
                                        [&](std::uint64_t done, std::uint64_t all) {
                                            EXPECT_GT(done, last);
                                            last = done;
                                            total = all;
                                            return true;
                                        });
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(last, total);
    EXPECT_EQ(total, report->tensor_bytes);
}

TEST(Synth, LeavesNothingWhenCancelled) {
    const TempFolder folder;
    auto report = write_synthetic_model(tiny_options("q4_0"), folder.file("m"),
                                        [](std::uint64_t, std::uint64_t) { return false; });
    ASSERT_FALSE(report.has_value());
    EXPECT_EQ(report.error().code, ErrorCode::cancelled);
    EXPECT_FALSE(std::filesystem::exists(folder.file("m")));
    EXPECT_FALSE(std::filesystem::exists(folder.file("m.part")));
}

TEST(Synth, RefusesShapesThatCannotBe) {
    const TempFolder folder;
    const auto message = [&](void (*spoil)(SynthShape&)) {
        SynthOptions options = tiny_options("q4_0");
        spoil(options.shape);
        auto report = write_synthetic_model(options, folder.file("m"));
        EXPECT_FALSE(report.has_value());
        return report ? std::string() : report.error().message;
    };
    EXPECT_EQ(message([](SynthShape& s) { s.dim = 0; }),
              "tiny: hidden size is 0, expected 1 to 131072");
    EXPECT_EQ(message([](SynthShape& s) {
                  s.n_heads = 3;
                  s.n_kv_heads = 2;
              }),
              "tiny: 3 heads cannot share 2 key/value heads evenly");
    EXPECT_EQ(message([](SynthShape& s) { s.head_dim = 65; }),
              "tiny: head dimension is 65, expected an even number");
    EXPECT_EQ(message([](SynthShape& s) { s.n_vocab = 300; }),
              "tiny: vocabulary is 300, expected 459 to 262144");
    EXPECT_FALSE(std::filesystem::exists(folder.file("m")));
}

TEST(Synth, FailsWhereTheFileCannotBeWritten) {
    const TempFolder folder;
    auto report = write_synthetic_model(tiny_options("q4_0"), folder.file("missing/m"));
    ASSERT_FALSE(report.has_value());
    EXPECT_EQ(report.error().code, ErrorCode::io);
    EXPECT_NE(report.error().message.find("missing/m"), std::string::npos)
        << report.error().message;
}

// The totals of ../shared/reference/gemma3.md, without the 64 untrained rows that 4b and up have.
TEST(SynthShapes, HaveThePublishedNumbersOfParameters) {
    const std::pair<const char*, std::uint64_t> totals[] = {{"270m", 268098176},
                                                            {"1b", 999885952},
                                                            {"4b", 3880263168 - 64 * 2560},
                                                            {"12b", 11766034176 - 64 * 3840},
                                                            {"27b", 27009346304 - 64 * 5376}};
    for (const auto& [name, total] : totals) {
        auto s = find_shape(name);
        ASSERT_TRUE(s.has_value()) << name;
        const std::uint64_t attention = 2 * s->dim * (s->n_heads + s->n_kv_heads) * s->head_dim;
        const std::uint64_t layer =
            attention + 3 * s->dim * s->ffn_dim + 4 * s->dim + 2 * s->head_dim;
        EXPECT_EQ(s->n_vocab * s->dim + s->n_layers * layer + s->dim, total) << name;
    }
    EXPECT_EQ(find_shape("2b").error().message,
              "no shape is called '2b'; there are 270m, 1b, 4b, 12b, 27b");
}

TEST(SynthShapes, AreReadFromConfigJson) {
    const TempFolder folder;
    const std::string path = folder.write("small.json", R"({
        "model_type": "gemma3_text", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "query_pre_attn_scalar": 128,
        "sliding_window": 512, "max_position_embeddings": 2048, "vocab_size": 8192, "sliding_window_pattern": 3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 20000.0})");
    auto shape = read_shape(path);
    ASSERT_TRUE(shape.has_value()) << shape.error().message;
    EXPECT_EQ(shape->name, "small");
    EXPECT_EQ(shape->n_layers, 6U);
    EXPECT_EQ(shape->dim, 512U);
    EXPECT_EQ(shape->ffn_dim, 1536U);
    EXPECT_EQ(shape->n_heads, 4U);
    EXPECT_EQ(shape->n_kv_heads, 2U);
    EXPECT_EQ(shape->head_dim, 128U);
    EXPECT_EQ(shape->window, 512U);
    EXPECT_EQ(shape->max_context, 2048U);
    EXPECT_EQ(shape->n_vocab, 8192U);
    EXPECT_EQ(shape->global_every, 3U);
    EXPECT_EQ(shape->query_pre_attn_scalar, 128);
    EXPECT_EQ(shape->rope_divisor_global, 8);
    EXPECT_EQ(shape->rope_base_global, 1e6);
    EXPECT_EQ(shape->rope_base_local, 2e4);
    EXPECT_EQ(shape->norm_eps, 1e-6);
}

TEST(SynthShapes, LeaveOutRowsWithoutPieces) {
    const TempFolder folder;
    const std::string path = folder.write("c.json", R"({"model_type": "gemma3", "text_config": {
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 2, "vocab_size": 262208}})");
    auto shape = read_shape(path);
    ASSERT_TRUE(shape.has_value()) << shape.error().message;
    EXPECT_EQ(shape->n_vocab, kGemmaPieces);
}

TEST(SynthShapes, AreRefusedWhenGlobalLayersAreUneven) {
    const TempFolder folder;
    const std::string path =
        folder.write("c.json", R"({"model_type": "gemma3_text", "hidden_size": 512,
        "intermediate_size": 1536, "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"]})");
    auto shape = read_shape(path);
    ASSERT_FALSE(shape.has_value());
    EXPECT_EQ(shape.error().code, ErrorCode::unsupported);
    EXPECT_EQ(shape.error().message,
              path + ": layer 2 breaks the pattern of one global layer in 2");
    EXPECT_EQ(read_shape(folder.file("absent")).error().code, ErrorCode::not_found);
}

TEST(Recipes, AreFoundByNameInEitherCase) {
    EXPECT_EQ(find_recipe("Q4_K_M")->name, "q4_k_m");
    EXPECT_EQ(find_recipe("BF16")->name, "bf16");
    EXPECT_NE(find_recipe("q3_k_xl").error().message.find("q4_k_m, mixed"), std::string::npos);
}

// llama.cpp's use_more_bits for 26 layers: 0-2, 22-25 and every third from layer 5.
TEST(Recipes, GiveMoreBitsToSomeLayers) {
    const Recipe recipe = *find_recipe("q4_k_m");
    std::vector<std::size_t> more;
    for (std::size_t layer = 0; layer < 26; ++layer) {
        if (wanted_type(recipe, Role::v, layer, 26) == DType::q6_k) more.push_back(layer);
        EXPECT_EQ(wanted_type(recipe, Role::gate, layer, 26), DType::q4_k);
    }
    EXPECT_EQ(more, (std::vector<std::size_t>{0, 1, 2, 5, 8, 11, 14, 17, 20, 22, 23, 24, 25}));
}

}  // namespace
}  // namespace unicorn::quant
