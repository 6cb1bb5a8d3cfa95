#include "model/config.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "formats/gemma3_keys.h"
#include "formats/gguf_writer.h"
#include "testing/tiny_model.h"

namespace unicorn::model {
namespace {

namespace keys = formats::gemma3;

/// The metadata of a small model, after `change`, and an embedding of 40 rows.
Result<Config> config_after(
    const std::function<void(std::map<std::string_view, std::uint32_t>&)>& change,
    double eps = 1e-6, const std::string& architecture = "gemma3") {
    std::map<std::string_view, std::uint32_t> counts = {
        {keys::kContextLength, 512},     {keys::kEmbeddingLength, 64}, {keys::kBlockCount, 7},
        {keys::kFeedForwardLength, 128}, {keys::kHeadCount, 4},        {keys::kHeadCountKv, 2},
        {keys::kKeyLength, 32},          {keys::kValueLength, 32},     {keys::kSlidingWindow, 16}};
    change(counts);
    const testing::TemporaryFolder folder;
    formats::GgufWriter writer;
    writer.set_string("general.architecture", architecture);
    for (const auto& [key, value] : counts) writer.set_uint32(key, value);
    writer.set_float32(keys::kNormEpsilon, static_cast<float>(eps));
    writer.add_tensor("token_embd.weight", tensor::DType::f32,
                      std::array<std::uint64_t, 2>{64, 40});
    EXPECT_TRUE(writer.begin(folder.path("a.gguf")));
    EXPECT_TRUE(writer.write(std::vector<std::byte>(64 * 40 * 4)));
    EXPECT_TRUE(writer.finish());
    const auto file = formats::Gguf::open(folder.path("a.gguf"));
    EXPECT_TRUE(file) << file.error().message;
    return read_config(*file);
}

TEST(Config, IsReadFromMetadataAlone) {
    const auto config = config_after([](auto&) {});
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->n_vocab, 40U);
    EXPECT_EQ(config->n_global_layers(), 1U);
    EXPECT_TRUE(config->is_global(5));
    EXPECT_FALSE(config->is_global(6));
    EXPECT_EQ(config->rope_divisor_global, 1.0);
    EXPECT_DOUBLE_EQ(config->query_scale, 1 / std::sqrt(32.0));
}

TEST(Config, The27bHasItsOwnQueryScale) {
    const auto config = config_after([](auto& counts) { counts[keys::kBlockCount] = 62; });
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_DOUBLE_EQ(config->query_scale, 1 / std::sqrt(64.0 / 4));
}

struct Refusal {
    std::string_view key;
    std::uint32_t value;
    const char* message;
};

TEST(Config, RefusesWhatNoModelHas) {
    for (const Refusal& refusal : {
             Refusal{keys::kHeadCountKv, 3, "not a multiple of"},
             Refusal{keys::kHeadCountKv, 0, "expected 1 to 1024"},
             Refusal{keys::kSlidingWindow, 0, "sliding_window is 0"},
             Refusal{keys::kKeyLength, 48, "equal multiples of 16"},
             Refusal{keys::kValueLength, 8, "expected 16 to 256"},
             Refusal{keys::kFeedForwardLength, 262176,
                     "expected 16 to 262144"},  // aborted once, in matmul_packed
             Refusal{keys::kSlidingWindowPattern, 0, "expected 1 to 1024"},
         }) {
        const auto config =
            config_after([&](auto& counts) { counts[refusal.key] = refusal.value; });
        ASSERT_FALSE(config) << refusal.key;
        EXPECT_NE(config.error().message.find(refusal.message), std::string::npos)
            << config.error().message;
        EXPECT_NE(config.error().message.find("a.gguf"), std::string::npos);
    }
    EXPECT_FALSE(config_after([](auto&) {}, 2.0));
    const auto other = config_after([](auto&) {}, 1e-6, "llama");
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, ErrorCode::unsupported);
}

}  // namespace
}  // namespace unicorn::model
