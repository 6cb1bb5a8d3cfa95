#include "formats/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing.h"

namespace unicorn::formats {
namespace {

TEST(HfConfigTest, PublishedMultimodalFilesLeaveOutTheDefaults) {
    // As published for 4B, the vision part cut.
    auto config = parse_hf_config("config.json", R"({
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eos_token_id": [1, 106],
        "model_type": "gemma3",
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                        "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                        "sliding_window": 1024},
        "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}})");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->hidden_size, 2560U);
    EXPECT_EQ(config->intermediate_size, 10240U);
    EXPECT_EQ(config->num_hidden_layers, 34U);
    EXPECT_EQ(config->num_attention_heads, 8U);
    EXPECT_EQ(config->num_key_value_heads, 4U);
    EXPECT_EQ(config->head_dim, 256U);
    EXPECT_EQ(config->vocab_size, 262208U);
    EXPECT_EQ(config->max_position_embeddings, 131072U);
    EXPECT_EQ(config->sliding_window, 1024U);
    EXPECT_EQ(config->query_pre_attn_scalar, 256.0);
    EXPECT_EQ(config->rms_norm_eps, 1e-6);
    EXPECT_EQ(config->rope_theta, 1e6);
    EXPECT_EQ(config->rope_local_base_freq, 1e4);
    EXPECT_EQ(config->rope_factor, 8.0);
    EXPECT_TRUE(config->tie_word_embeddings);
    EXPECT_THAT(config->eos_token_ids, testing::ElementsAre(1, 106));
    ASSERT_EQ(config->is_global.size(), 34U);
    EXPECT_EQ(std::ranges::count(config->is_global, true), 5);
    EXPECT_TRUE(config->is_global[5]);
    EXPECT_FALSE(config->is_global[6]);
}

TEST(HfConfigTest, TransformersFiveWritesRopeParametersAndLayerTypes) {
    auto config = parse_hf_config("config.json", R"({
        "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "eos_token_id": 1,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0}},
        "final_logit_softcapping": null, "hidden_activation": "gelu_pytorch_tanh", "use_bidirectional_attention": false})");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->rope_theta, 5e5);
    EXPECT_EQ(config->rope_local_base_freq, 2e4);
    EXPECT_EQ(config->rope_factor, 4.0);
    EXPECT_THAT(config->is_global, testing::ElementsAre(false, true, false));
    EXPECT_THAT(config->eos_token_ids, testing::ElementsAre(1));
}

TEST(HfConfigTest, WhatGemma3DoesNotHaveIsUnsupported) {
    const std::string base =
        R"("hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3)";
    const std::pair<const char*, const char*> cases[] = {
        {R"("model_type": "llama")", "key 'model_type' is 'llama'"},
        {R"("model_type": "gemma3", "attention_bias": true)", "key 'attention_bias' is true"},
        {R"("model_type": "gemma3", "final_logit_softcapping": 30.0)",
         "key 'final_logit_softcapping' is set"},
        {R"("model_type": "gemma3", "hidden_activation": "silu")",
         "key 'hidden_activation' is 'silu'"},
        {R"("model_type": "gemma3", "rope_scaling": {"type": "yarn"})", "asks for 'yarn' scaling"},
        {R"("model_type": "gemma3", "layer_types": ["full_attention", "chunked_attention"])",
         "key 'layer_types[1]' is 'chunked_attention'"}};
    for (const auto& [members, message] : cases) {
        auto config = parse_hf_config("config.json", "{" + base + "," + members + "}");
        ASSERT_FALSE(config) << members;
        EXPECT_EQ(config.error().code, ErrorCode::unsupported) << members;
        EXPECT_THAT(config.error().message, testing::HasSubstr(message));
    }
}

TEST(HfConfigTest, GenerationConfigMayBeAbsent) {
    const TempFolder folder;
    EXPECT_THAT(read_hf_generation_config(folder.path()).value().eos_token_ids, testing::IsEmpty());
    folder.write("generation_config.json", R"({"eos_token_id": [1, 106], "top_k": 64})");
    const auto config = read_hf_generation_config(folder.path());
    ASSERT_TRUE(config);
    EXPECT_THAT(config->eos_token_ids, testing::ElementsAre(1, 106));
    EXPECT_EQ(config->top_k, 64U);
    EXPECT_EQ(config->temperature, std::nullopt);
    folder.write("generation_config.json", R"({"eos_token_id": "one"})");
    EXPECT_THAT(read_hf_generation_config(folder.path()).error().message,
                testing::HasSubstr("key 'eos_token_id' is a string"));
}

}  // namespace
}  // namespace unicorn::formats
