#include "engine/suggested_sampling.h"

#include <gtest/gtest.h>

#include "formats/gemma3_keys.h"
#include "formats/gguf_writer.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

namespace keys = formats::sampling;

template <typename Fill>
Result<SamplerOptions> suggested(Fill&& fill) {
    const testing::TemporaryFolder folder;
    formats::GgufWriter writer;
    writer.set_string("general.architecture", "gemma3");
    fill(writer);
    EXPECT_TRUE(writer.begin(folder.path("a.gguf")));
    EXPECT_TRUE(writer.finish());
    const auto file = formats::Gguf::open(folder.path("a.gguf"));
    EXPECT_TRUE(file) << file.error().message;
    return suggested_sampling(*file, 2048);
}

TEST(SuggestedSampling, IsGemmasWhereTheFileIsSilent) {
    const auto options = suggested([](formats::GgufWriter&) {});
    ASSERT_TRUE(options);
    EXPECT_EQ(options->temperature, 1.0f);
    EXPECT_EQ(options->top_k, 64U);
    EXPECT_EQ(options->top_p, 0.95f);
    EXPECT_EQ(options->repeat_penalty, 1.0f);
}

TEST(SuggestedSampling, IsTheFilesWhereItSpeaks) {
    const auto options = suggested([](formats::GgufWriter& writer) {
        writer.set_float32(keys::kTemperature, 0.5f);
        writer.set_uint32(keys::kTopK, 20);
        writer.set_float32(keys::kTopP, 0.75f);
        writer.set_float32(keys::kMinP, 0.25f);
        writer.set_float32(keys::kRepeatPenalty, 1.5f);
        writer.set_int32(keys::kPenaltyLastN, -1);
    });
    ASSERT_TRUE(options);
    EXPECT_EQ(options->temperature, 0.5f);
    EXPECT_EQ(options->top_k, 20U);
    EXPECT_EQ(options->top_p, 0.75f);
    EXPECT_EQ(options->min_p, 0.25f);
    EXPECT_EQ(options->repeat_penalty, 1.5f);
    EXPECT_EQ(options->penalty_last_n, 2048U);
}

TEST(SuggestedSampling, NonsenseIsAnErrorOfTheFile) {
    const auto options =
        suggested([](formats::GgufWriter& writer) { writer.set_float32(keys::kTopP, 7.0f); });
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().code, ErrorCode::invalid_file);
    EXPECT_NE(options.error().message.find("top-p is 7"), std::string::npos)
        << options.error().message;
}

}  // namespace
}  // namespace unicorn::engine
