// Weights are never in memory twice: not as a mapped file beside their repacked form, either.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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

/// A control group of this test's own that holds a process to `bytes` of memory, page cache
/// included: v2 where its memory controller can be had, else v1.
class MemoryGroup {
public:
    explicit MemoryGroup(std::size_t bytes) {
        const std::string name = "unicorn-test-" + std::to_string(::getpid());
        for (const auto& [root, file] :
             {std::pair("/sys/fs/cgroup/", "memory.max"),
              std::pair("/sys/fs/cgroup/memory/", "memory.limit_in_bytes")}) {
            path_ = root + name;
            std::error_code error;
            if (!std::filesystem::create_directory(path_, error)) continue;
            // The kernel's own files, not any that could be made there.
            if (std::filesystem::exists(path_ + "/" + file, error)) {
                std::ofstream limit(path_ + "/" + file);
                limit << bytes << std::flush;
                if (limit) return;
            }
            std::filesystem::remove(path_, error);
        }
        path_.clear();
    }
    ~MemoryGroup() {
        if (!path_.empty()) ::rmdir(path_.c_str());
    }
    MemoryGroup(const MemoryGroup&) = delete;
    MemoryGroup& operator=(const MemoryGroup&) = delete;

    bool exists() const { return !path_.empty(); }
    Outcome run(const std::vector<std::string>& arguments) const {
        std::vector<std::string> all{
            "-c", "echo $$ > " + path_ + "/cgroup.procs && exec \"$0\" \"$@\"", UNICORN_BINARY};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return run_program("/bin/sh", all);
    }

private:
    std::string path_;
};

// 107 MB of layers beside a head of 178: with 290 MB for everything many layers are streamed. The
// kernel refuses allocations of much more than that (RLIMIT_DATA counts the program's own data and
// all of each stack, too), and the answer stays the same.
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

// The kernel ends what passes the limit of its control group.
TEST_F(MemoryLimit, HoldsWhereTheKernelCountsEveryPage) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    const Outcome unlimited = unicorn(run({}));
    for (const std::size_t mb : {260u, 290u}) {
        const MemoryGroup group(mb * 1'000'000);
        if (!group.exists()) GTEST_SKIP() << "no right to make a memory control group";
        // A limit that is given, and one that the program has to find out about.
        for (const auto& limit :
             {std::vector<std::string>{"--memory-limit", std::to_string(mb) + "MB"},
              std::vector<std::string>{}}) {
            const Outcome limited = group.run(run(limit));
            ASSERT_EQ(limited.exit_code, 0)
                << mb << " MB" << (limit.empty() ? ", not told" : "") << "\n"
                << limited.err;
            EXPECT_EQ(limited.out, unlimited.out);
            EXPECT_NE(limited.err.find("layers from the disk"), std::string::npos) << limited.err;
        }
        const Outcome planned = group.run({"plan", "-m", model()});
        EXPECT_EQ(planned.exit_code, 0) << planned.err;
    }
    const MemoryGroup group(330'000'000);
    const Outcome loaded = group.run({"bench", "--load", "-r", "1", "-m", model()});
    EXPECT_EQ(loaded.exit_code, 0) << loaded.err;
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
