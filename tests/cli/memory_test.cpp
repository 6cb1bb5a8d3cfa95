// Weights are never in memory twice: not as a mapped file beside their repacked form, either.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace unicorn::cli_tests {
namespace {

TEST(Memory, RunPeaksAtWeightsCacheAnd150MiB) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    const testing::TemporaryFolder folder;
    const std::string model = folder.path("270m.gguf");  // 285 MB, 178 of them the embedding
    const Outcome made = unicorn({"synth", "270m", model, "--type", "q8_0"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const Outcome outcome =
        unicorn({"run", "-m", model, "--raw", "-n", "4", "--temp", "0", "--ctx", "1024", "Hello"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;

    // Three global layers hold 1,024 tokens, fifteen local ones their window and a chunk: 2 x 256
    // f16 each.
    constexpr std::uintmax_t kCacheBytes = 18 * 1056 * 2 * 256 * 2;
    const std::uintmax_t allowed = std::filesystem::file_size(model) + kCacheBytes + (150u << 20);
    EXPECT_LE(static_cast<std::uintmax_t>(outcome.peak_rss_kib) * 1024, allowed);
    // It does hold the weights, so the measure means something.
    EXPECT_GE(static_cast<std::uintmax_t>(outcome.peak_rss_kib) * 1024,
              std::filesystem::file_size(model) / 2);
}

class MemoryLimit : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        folder_ = new testing::TemporaryFolder();
        const Outcome made = unicorn({"synth", "270m", model(), "--type", "q8_0"});
        ASSERT_EQ(made.exit_code, 0) << made.err;
    }
    static void TearDownTestSuite() { delete folder_; }
    static std::string model() { return folder_->path("270m.gguf"); }

    static std::vector<std::string> run(std::vector<std::string> more) {
        std::vector<std::string> arguments{"run", "-m",     model(),   "--raw", "-n",
                                           "4",   "--temp", "0",       "--ctx", "128",
                                           "-t",  "2",      "--stats", "Hello"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    }

    static inline testing::TemporaryFolder* folder_ = nullptr;
};

// 107 MB of layers beside a head of 178: with 280 MB for everything most layers are streamed, the
// kernel refuses any allocation past that (RLIMIT_DATA), and the answer stays the same.
TEST_F(MemoryLimit, IsNeverPassedAndTheAnswerStays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    const Outcome unlimited = unicorn(run({}));
    ASSERT_EQ(unlimited.exit_code, 0) << unlimited.err;
    EXPECT_EQ(unlimited.err.find("stream "), std::string::npos);
    for (const std::string policy : {"pin", "lru"}) {
        // Stacks count as data, but only what is used of them is memory: small ones here.
        std::string command = "ulimit -s 512; ulimit -d $((300 * 1000)); exec \"$0\" \"$@\"";
        std::vector<std::string> arguments{"-c", command, UNICORN_BINARY};
        for (const std::string& a : run({"--memory-limit", "290MB", "--stream", policy}))
            arguments.push_back(a);
        const Outcome limited = run_program("/bin/sh", arguments);
        ASSERT_EQ(limited.exit_code, 0) << limited.err;
        EXPECT_EQ(limited.out, unlimited.out);
        EXPECT_NE(limited.err.find("layers from the disk"), std::string::npos) << limited.err;
        EXPECT_NE(limited.err.find(policy == "pin" ? " hits" : " 0 hits"), std::string::npos)
            << limited.err;
        if (policy == "pin") {
            EXPECT_EQ(limited.err.find(" 0 hits"), std::string::npos) << limited.err;
        }
    }
}

TEST_F(MemoryLimit, TooLittleSaysWhatItTakes) {
    const Outcome outcome = unicorn(run({"--memory-limit", "150 MB"}));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    EXPECT_NE(outcome.err.find("does not fit: needs "), std::string::npos) << outcome.err;
    const std::size_t at = outcome.err.find("--memory-limit ") + 15;
    const std::string least = outcome.err.substr(at, outcome.err.find(' ', at) - at);
    const Outcome enough = unicorn(run({"--memory-limit", least}));
    EXPECT_EQ(enough.exit_code, 0) << enough.err;

    const Outcome no_size = unicorn(run({"--memory-limit", "2 bananas"}));
    EXPECT_EQ(no_size.exit_code, 2);
    EXPECT_TRUE(is_one_error_line(no_size.err)) << no_size.err;
}

TEST_F(MemoryLimit, VerifyAndLoadReport) {
    const Outcome verified = unicorn({"inspect", "--verify", model()});
    EXPECT_EQ(verified.exit_code, 0) << verified.err;
    const Outcome report = unicorn({"bench", "--load", "-r", "1", "--json", "-m", model()});
    ASSERT_EQ(report.exit_code, 0) << report.err;
    const auto json = nlohmann::json::parse(report.out);
    EXPECT_GT(json["raw_gb_s"], 0);
    EXPECT_GT(json["cold"]["gb_s"], 0);
    EXPECT_GT(json["warm"]["gb_s"], 0);
    EXPECT_GT(json["repack_gb_s_per_core"], 0);
    EXPECT_LE(json["peak_of_model"], 1.05);
    EXPECT_GT(json["peak_of_model"], 0.9);
}

}  // namespace
}  // namespace unicorn::cli_tests
