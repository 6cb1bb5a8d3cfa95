// The model that comes with the program, where it is there.

#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace unicorn::cli_tests {
namespace {

using nlohmann::json;

class BundledModel : public ::testing::Test {
protected:
    void SetUp() override {
        for (const auto& entry : std::filesystem::directory_iterator(UNICORN_SOURCE_DIR "/models"))
            if (entry.path().extension() == ".gguf") return;
        GTEST_SKIP() << "models/ holds no *.gguf";
    }
};

TEST_F(BundledModel, IsFoundWithoutBeingNamed) {
    const Outcome outcome = unicorn({"inspect", "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(json::parse(outcome.out)["metadata"]["general.architecture"], "gemma3");
}

TEST_F(BundledModel, ContinuesPlainTextRepeatably) {
    const std::vector<std::string> arguments{
        "run", "--raw", "Once upon a time", "-n", "40", "--seed", "1", "--json"};
    const Outcome first = unicorn(arguments);
    ASSERT_EQ(first.exit_code, 0) << first.err;
    const json answer = json::parse(first.out);
    EXPECT_GT(answer["text"].get<std::string>().size(), 40u);
    EXPECT_EQ(json::parse(unicorn(arguments).out)["ids"], answer["ids"]);
}

TEST_F(BundledModel, AnswersInAChatAndStops) {
    const Outcome outcome =
        unicorn({"run", "Tell me a story about a dog", "--seed", "1", "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_GT(json::parse(outcome.out)["tokens"], 20);
}

}  // namespace
}  // namespace unicorn::cli_tests
