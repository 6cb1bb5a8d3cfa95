// unicorn plan, and what run, chat and bench make of it.

#include <gmock/gmock.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace unicorn::cli_tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json plan(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"plan", "--json"});
    const Outcome outcome = unicorn(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return json::parse(outcome.out, nullptr, false);
}

void expect_gb(const json& bytes, double gb) {
    EXPECT_NEAR(bytes.get<double>() / 1e9, gb, 0.01 * gb);
}

TEST(Plan, GemmaOf27BInTheMixedRecipeTakesWhatItsTensorsTake) {
    const json p = plan({"--shape", "27b", "--recipe", "mixed", "--hardware", "ryzen-8945hs-96gb"});
    EXPECT_EQ(p["fits"], true);
    EXPECT_EQ(p["verdict"], "fits");
    expect_gb(p["weights"]["total_bytes"], 12.54);
    const json& roles = p["weights"]["by_role"];
    expect_gb(roles["embedding/head"], 1.498);
    expect_gb(roles["q+k+v"], 1.536);
    expect_gb(roles["o"], 0.768);
    expect_gb(roles["gate+up"], 4.704);
    expect_gb(roles["down"], 4.032);
    std::uint64_t sum = 0;
    for (const auto& role : roles) sum += role.get<std::uint64_t>();
    EXPECT_EQ(p["weights"]["total_bytes"], sum);

    // Every tier is accounted for, and the bound is bytes over bandwidth.
    ASSERT_EQ(p["tiers"].size(), 3u);
    std::uint64_t used = 0;
    for (const auto& tier : p["tiers"]) {
        EXPECT_LE(
            tier["used_bytes"].get<std::uint64_t>() + tier["headroom_bytes"].get<std::uint64_t>(),
            tier["capacity_bytes"].get<std::uint64_t>());
        used += tier["used_bytes"].get<std::uint64_t>();
    }
    EXPECT_EQ(p["needed_bytes"], used);
    EXPECT_EQ(p["kv"]["max_context"], 131072);
    EXPECT_NEAR(p["bound"]["tok_s"].get<double>(), 73e9 / p["read_bytes_per_token"].get<double>(),
                0.01);
    EXPECT_THAT(p["bound"]["limited_by"].get<std::string>(), HasSubstr("bandwidth"));
}

TEST(Plan, TheKvCacheGrowsWithTheContextAsTheWindowsAllow) {
    // Reference: Gemma 3 27B in f16 with windows of 1,024 in five of six layers.
    for (const auto& [context, gb] :
         std::vector<std::pair<const char*, double>>{{"1024", 0.520},
                                                     {"4096", 0.772},
                                                     {"8192", 1.107},
                                                     {"32768", 3.121},
                                                     {"131072", 11.174}}) {
        const json p = plan({"--shape", "27b", "--recipe", "mixed", "--hardware",
                             "ryzen-8945hs-96gb", "--ctx", context});
        expect_gb(p["kv"]["total_bytes"], gb);
        EXPECT_EQ(p["fits"], true) << context;
        EXPECT_EQ(p["read_bytes_per_token"], p["weights"]["total_bytes"].get<std::uint64_t>() +
                                                 p["kv"]["total_bytes"].get<std::uint64_t>());
    }
}

TEST(Plan, EveryShapeOnEveryProfileTakesLessThanATenthOfASecond) {
    // The middle of several, as other work may come between.
    std::vector<double> seconds;
    for (const char* machine :
         {"ryzen-8945hs-96gb", "ryzen-7840hs-32gb", "strix-halo-128gb", "cpu-only-16gb", "h200"}) {
        for (const char* shape : {"270m", "27b"}) {
            const auto start = std::chrono::steady_clock::now();
            const json p = plan({"--shape", shape, "--recipe", "bf16", "--hardware", machine});
            seconds.push_back(
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
            EXPECT_EQ(p["hardware"], machine);
            EXPECT_THAT(p["verdict"].get<std::string>(),
                        ::testing::StartsWith(p["fits"] == true ? "fits" : "does not fit: needs"));
        }
    }
    std::ranges::sort(seconds);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(seconds[seconds.size() / 2], 0.1);
#endif
}

TEST(Plan, WhatDoesNotFitIsStreamedOrSaysWhatWould) {
    json p = plan({"--shape", "27b", "--recipe", "mixed", "--hardware", "cpu-only-16gb",
                   "--memory-limit", "8GiB"});
    EXPECT_EQ(p["fits"], true);
    EXPECT_THAT(p["verdict"].get<std::string>(),
                ::testing::MatchesRegex("fits with [0-9]+ layers streamed: about [0-9.]+ tok/s"));
    EXPECT_EQ(p["streaming"]["from"], "disk");
    EXPECT_EQ(p["bound"]["limited_by"], "disk bandwidth");

    p = plan({"--shape", "27b", "--recipe", "mixed", "--hardware", "cpu-only-16gb",
              "--memory-limit", "8GiB", "--strict"});
    EXPECT_EQ(p["fits"], false);
    EXPECT_EQ(p["kv"]["max_context"], 0);
    EXPECT_THAT(p["verdict"].get<std::string>(), HasSubstr("8.59 GB allowed"));
}

TEST(Plan, PoliciesDivideTheModelDifferently) {
    for (const char* policy : {"auto", "hma", "roles"}) {
        const json p = plan({"--shape", "27b", "--recipe", "mixed", "--hardware",
                             "ryzen-8945hs-96gb", "--policy", policy});
        EXPECT_EQ(p["fits"], true) << policy;
        EXPECT_EQ(p["policy"], policy);
    }
    const Outcome outcome =
        unicorn({"plan", "--shape", "27b", "--hardware", "cpu-only-16gb", "--policy", "roles"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
}

TEST(Plan, UnknownMachinesAreErrorsThatListTheKnownOnes) {
    const Outcome outcome = unicorn({"plan", "--shape", "1b", "--hardware", "atari-st"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("strix-halo-128gb"));
}

class PlanOfFile : public WithModel {};

TEST_F(PlanOfFile, TablesAndBarsForPeople) {
    const Outcome outcome = unicorn({"plan", model(), "--hardware", "ryzen-8945hs-96gb"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    for (const char* part : {"\nfits\n", "vram", "gtt", "host", "[w", "KV cache", "embedding/head",
                             "largest context   256 tokens, all that the model allows",
                             "tok/s at most, by vram bandwidth (~: estimated"})
        EXPECT_THAT(outcome.out, HasSubstr(part));
}

TEST_F(PlanOfFile, ThisMachineIsMeasured) {
    const json p = plan({model()});
    EXPECT_EQ(p["fits"], true);
    ASSERT_EQ(p["tiers"].size(), 1u);
    EXPECT_EQ(p["tiers"][0]["name"], "host");
    EXPECT_EQ(p["tiers"][0]["measured"], true);
    EXPECT_GT(p["tiers"][0]["read_gb_s"].get<double>(), 0.1);
    EXPECT_GT(p["bound"]["tok_s"].get<double>(), 1);
}

TEST_F(PlanOfFile, AProfileMayBeAFile) {
    std::ofstream(path("small.toml")) << R"(name = "small"
[[pools]]
name = "system"
capacity = "1 MB"
[[tiers]]
tier = "host"
pool = "system"
capacity = "1 MB"
[[devices]]
kind = "cpu"
name = "c"
tiers = ["host"]
)";
    const json p = plan({model(), "--hardware", path("small.toml")});
    EXPECT_EQ(p["fits"], false);
    EXPECT_EQ(p["hardware"], "small");
    EXPECT_EQ(p["tiers"][0]["capacity_bytes"], 1'000'000);
    std::ofstream(path("broken.toml")) << "name = \n";
    const Outcome outcome = unicorn({"plan", model(), "--hardware", path("broken.toml")});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("broken.toml: line 1"));
}

TEST_F(PlanOfFile, RunLoadsWhatThePlanSaysAndSaysSo) {
    const std::vector<std::string> run{"run", "-m", model(), "--raw", "-n", "2", "hello"};
    const Outcome outcome = unicorn(run);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, ::testing::MatchesRegex(
                                 "plan: fits; host .* of .* \\(weights .*, KV cache .*\\)\n"));
    std::vector<std::string> quiet = run;
    quiet.insert(quiet.begin(), "--quiet");
    EXPECT_EQ(unicorn(quiet).err, "");
}

TEST_F(PlanOfFile, AMemoryLimitIsKeptOrRefusedBeforeAnythingIsLoaded) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own, which run counts and plan does not";
#endif
    // By what `plan` would allow: it counts the program and its vocabulary, too.
    const auto fits = [&](std::uint64_t limit, const std::string& context) {
        return plan({long_model(), "--ctx", context, "--device", "cpu", "--memory-limit",
                     std::to_string(limit)});
    };
    const std::string verdict = fits(10'000'000, "65536")["verdict"].get<std::string>();
    const std::size_t least = verdict.find("--memory-limit ");
    ASSERT_NE(least, std::string::npos) << verdict;
    const std::uint64_t needed = std::stoull(verdict.substr(least + 15)) * 1'000'000;
    const auto run = [&](std::uint64_t limit, const std::string& context) {
        return unicorn({"run", "-m", long_model(), "--raw", "-n", "2", "--ctx", context,
                        "--memory-limit", std::to_string(limit), "hello"});
    };
    EXPECT_EQ(run(needed, "65536").exit_code, 0);

    EXPECT_EQ(fits(needed, "65536")["fits"], true);
    const Outcome outcome = run(needed * 3 / 4, "65536");
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    const std::size_t at = outcome.err.find("fits with --ctx ");
    ASSERT_NE(at, std::string::npos) << outcome.err;
    const std::size_t context = std::stoul(outcome.err.substr(at + 16));
    EXPECT_EQ(run(needed * 3 / 4, std::to_string(context)).exit_code, 0);
    EXPECT_EQ(run(needed * 3 / 4, std::to_string(context + 64)).exit_code, 1);

    const Outcome tiny = run(1'000'000, "256");
    EXPECT_EQ(tiny.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(tiny.err)) << tiny.err;
    EXPECT_THAT(tiny.err, HasSubstr("does not fit: needs "));
}

TEST_F(PlanOfFile, APolicyThatNeedsAGpuIsRefusedOnTheCpu) {
    for (const char* command : {"chat", "bench"}) {
        const Outcome outcome = unicorn({command, "-m", long_model(), "--policy", "hma"});
        EXPECT_EQ(outcome.exit_code, 1);
        EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
        EXPECT_THAT(outcome.err, HasSubstr("policy hma needs a GPU"));
    }
}

}  // namespace
}  // namespace unicorn::cli_tests
