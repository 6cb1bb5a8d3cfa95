#pragma once
// A folder with a tiny synthetic model in it, made once by `unicorn synth` itself.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "process.h"
#include "testing/tiny_model.h"

namespace unicorn::cli_tests {

inline std::string contents(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
}

/// Standard error without the remark that says where the model went, which --quiet takes away.
inline std::string without_plan(const std::string& err) {
    return err.starts_with("plan: ") ? err.substr(err.find('\n') + 1) : err;
}

class WithModel : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        folder_ = new testing::TemporaryFolder();
        std::ofstream(path("tiny.json"))
            << R"({"model_type": "gemma3_text", "num_hidden_layers": 6, "hidden_size": 128,
            "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
            "query_pre_attn_scalar": 32, "vocab_size": 700, "sliding_window": 32, "max_position_embeddings": 256})";
        const Outcome made =
            unicorn({"synth", "--config", path("tiny.json"), model(), "--type", "q8_0"});
        ASSERT_EQ(made.exit_code, 0) << made.err;
        EXPECT_EQ(made.out, "");
    }
    static void TearDownTestSuite() { delete folder_; }

    /// A model with a long context and a large head, made when first asked for.
    static std::string long_model() {
        const std::string made = path("long.gguf");
        if (std::ifstream(made)) return made;
        std::ofstream(path("long.json"))
            << R"({"model_type": "gemma3_text", "num_hidden_layers": 6, "hidden_size": 128,
            "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
            "query_pre_attn_scalar": 32, "vocab_size": 20000, "sliding_window": 32, "max_position_embeddings": 65536})";
        const Outcome outcome =
            unicorn({"synth", "--config", path("long.json"), made, "--type", "q8_0"});
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        return made;
    }

    static std::string path(const std::string& name) { return folder_->path(name); }
    static std::string model() { return path("tiny.gguf"); }

    static inline testing::TemporaryFolder* folder_ = nullptr;
};

}  // namespace unicorn::cli_tests
