// Weights are never in memory twice: not as a mapped file beside their repacked form, either.

#include <gtest/gtest.h>

#include <filesystem>

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

}  // namespace
}  // namespace unicorn::cli_tests
