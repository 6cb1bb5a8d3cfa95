// unicorn run and unicorn logits on a tiny random model: what goes where, and what repeats.

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "fixture.h"
#include "formats/gguf.h"

namespace unicorn::cli_tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Run : public WithModel {
protected:
    static Outcome run(std::vector<std::string> arguments, const Streams& streams = {}) {
        arguments.insert(arguments.begin(), {"run", "-m", model()});
        return unicorn(arguments, streams);
    }
    static json run_json(std::vector<std::string> arguments, const Streams& streams = {}) {
        arguments.insert(arguments.end(), {"--json", "-n", "12", "--ignore-eos"});
        const Outcome outcome = run(arguments, streams);
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        return json::parse(outcome.out);
    }
};

TEST_F(Run, JsonHasTheAgreedFields) {
    const json answer = run_json({"Hello", "--seed", "1"});
    std::vector<std::string> keys;
    for (const auto& [key, value] : answer.items()) keys.push_back(key);
    EXPECT_THAT(keys, ::testing::UnorderedElementsAre("text", "prompt_tokens", "tokens", "ids",
                                                      "prompt_tok_s", "tok_s", "finish", "seed"));
    EXPECT_EQ(answer["finish"], "length");
    EXPECT_EQ(answer["seed"], 1);
    EXPECT_EQ(answer["tokens"], 12);
    EXPECT_EQ(answer["ids"].size(), 12u);
    EXPECT_GT(answer["prompt_tokens"], 5);
    EXPECT_GT(answer["tok_s"], 0);
    EXPECT_GT(answer["prompt_tok_s"], 0);
}

TEST_F(Run, TextGoesToStandardOutputAndRemarksDoNot) {
    const Outcome plain = run({"Hello", "-n", "12", "--ignore-eos", "--seed", "1"});
    EXPECT_EQ(plain.exit_code, 0);
    EXPECT_THAT(plain.err, ::testing::StartsWith("plan: fits; host "));
    EXPECT_EQ(without_plan(plain.err), "");
    const std::string text = run_json({"Hello", "--seed", "1"})["text"];
    EXPECT_EQ(plain.out, text.ends_with('\n') ? text : text + "\n");
    const Outcome stats = run({"Hello", "-n", "12", "--ignore-eos", "--seed", "1", "--stats"});
    EXPECT_EQ(stats.out, plain.out);
    EXPECT_THAT(stats.err, HasSubstr("answer  12 tokens"));
    EXPECT_THAT(stats.err, HasSubstr("seed 1\n"));
}

TEST_F(Run, ASeedRepeatsAndAnotherDoesNot) {
    const json one = run_json({"Hello", "--seed", "5"});
    EXPECT_EQ(run_json({"Hello", "--seed", "5"})["ids"], one["ids"]);
    EXPECT_NE(run_json({"Hello", "--seed", "6"})["ids"], one["ids"]);
    EXPECT_EQ(run_json({"Hello", "--temp", "0"})["ids"], run_json({"Hello", "--temp", "0"})["ids"]);
}

TEST_F(Run, EveryWayToGiveAPromptIsTheSame) {
    const json expected = run_json({"Tell me more", "--temp", "0"});
    EXPECT_EQ(run_json({"Tell", "me", "more", "--temp", "0"})["ids"], expected["ids"]);
    EXPECT_EQ(run_json({"-p", "Tell me more", "--temp", "0"})["ids"], expected["ids"]);
    EXPECT_EQ(run_json({"-", "--temp", "0"}, {.input = "Tell me more"})["ids"], expected["ids"]);
    EXPECT_EQ(run_json({"-", "--temp", "0"}, {.input = "Tell me more\n"})["ids"], expected["ids"]);
    EXPECT_EQ(run_json({"-p", "-", "--temp", "0"}, {.input = "Tell me more\n"})["ids"],
              expected["ids"]);
    Streams named;
    named.environment["UNICORN_MODEL"] = model();
    const Outcome by_name = unicorn(
        {"run", "Tell me more", "--temp", "0", "--json", "-n", "12", "--ignore-eos"}, named);
    EXPECT_EQ(json::parse(by_name.out)["ids"], expected["ids"]);
}

TEST_F(Run, TheChatTemplateIsTheDefaultOfAModelThatHasOne) {
    const json chat = run_json({"Hello", "--temp", "0", "--chat"});
    const json raw = run_json({"Hello", "--temp", "0", "--raw"});
    const json by_default = run_json({"Hello", "--temp", "0"});
    EXPECT_GT(chat["prompt_tokens"], raw["prompt_tokens"]);
    EXPECT_EQ(by_default["prompt_tokens"], chat["prompt_tokens"]);
    EXPECT_EQ(by_default["ids"], chat["ids"]);
    const json with_system = run_json({"Hello", "--temp", "0", "--system", "Be kind"});
    EXPECT_GT(with_system["prompt_tokens"], chat["prompt_tokens"]);
}

TEST_F(Run, ControlTokensInAPromptAreTextUnlessAskedFor) {
    const json text = run_json({"--raw", "a<end_of_turn>b"});
    const json special = run_json({"--raw", "--special", "a<end_of_turn>b"});
    EXPECT_EQ(special["prompt_tokens"], 4);  // <bos>, a, <end_of_turn>, b
    EXPECT_GT(text["prompt_tokens"], 4);
}

TEST_F(Run, StopsAtAStopString) {
    const std::string text = run_json({"Hello", "--temp", "0"})["text"];
    ASSERT_GT(text.size(), 6u);
    const std::string stop = text.substr(4, 2);
    const std::string cut = run_json({"Hello", "--temp", "0", "--stop", stop})["text"];
    EXPECT_EQ(cut, text.substr(0, text.find(stop)));
}

TEST_F(Run, ABannedTokenIsNotDrawn) {
    const json free_run = run_json({"Hello", "--temp", "0"});
    const int id = free_run["ids"][0];
    const json banned =
        run_json({"--logit-bias", std::to_string(id) + "=-inf", "Hello", "--temp", "0"});
    for (const int other : banned["ids"]) EXPECT_NE(other, id);
    const Outcome outside = run({"Hello", "--logit-bias", "99999=1"});
    EXPECT_EQ(outside.exit_code, 2);
    EXPECT_TRUE(is_one_error_line(without_plan(outside.err))) << outside.err;
}

TEST_F(Run, AFullContextEndsTheAnswerWithARemark) {
    const Outcome full = run({"--raw", "Hello", "--ignore-eos", "--ctx", "24"});
    EXPECT_EQ(full.exit_code, 0);
    EXPECT_THAT(full.err, HasSubstr("the context of 24 tokens is full"));
    EXPECT_EQ(run({"--raw", "Hello", "--ignore-eos", "--ctx", "24", "--quiet"}).err, "");
    const Outcome too_long = run({"--raw", std::string(200, 'x'), "--ctx", "24"});
    EXPECT_EQ(too_long.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(without_plan(too_long.err))) << too_long.err;
}

TEST_F(Run, AReaderThatLeavesIsNoReasonForAMessage) {
    const Outcome outcome = run({"Hello", "-n", "200", "--ignore-eos"}, {.hang_up = true});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(without_plan(outcome.err), "");
}

TEST_F(Run, AFullDiskIsAnError) {
    const Outcome outcome = run({"Hello", "-n", "12", "--ignore-eos"}, {.out_path = "/dev/full"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(without_plan(outcome.err), "unicorn: standard output: No space left on device\n");
}

TEST_F(Run, CtrlCKeepsWhatThereIs) {
    const Outcome outcome = run({"Hello", "--ignore-eos", "--temp", "0"}, {.interrupt_after = " "});
    // On a fast machine the answer may be complete before the signal arrives.
    if (outcome.exit_code == 0) GTEST_SKIP() << "the answer was faster than Ctrl-C";
    EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
    EXPECT_GT(outcome.out.size(), 1u);
    EXPECT_TRUE(outcome.out.ends_with('\n'));
}

TEST_F(Run, NothingIsColouredIntoAPipe) {
    for (const auto& arguments :
         std::vector<std::vector<std::string>>{{"inspect", model()},
                                               {"logits", "-m", model(), "--tokens", "2,300"},
                                               {"run", "-m", model(), "Hi", "-n", "3"}}) {
        const Outcome outcome = unicorn(arguments);
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        EXPECT_EQ(outcome.out.find('\033'), std::string::npos);
        EXPECT_EQ(outcome.err.find('\033'), std::string::npos);
    }
}

class LogitsCommand : public WithModel {};

TEST_F(LogitsCommand, JsonAndFileAgree) {
    const std::vector<std::string> base{"logits", "-m", model(), "--tokens", "2,300,301,302"};
    auto arguments = base;
    arguments.insert(arguments.end(), {"--json", "--top", "5", "--out", path("last.f32")});
    const Outcome outcome = unicorn(arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json answer = json::parse(outcome.out);
    EXPECT_EQ(answer.size(), 2u);
    EXPECT_EQ(answer["n_vocab"], 700);
    ASSERT_EQ(answer["top"].size(), 5u);

    const std::string bytes = contents(path("last.f32"));
    ASSERT_EQ(bytes.size(), 700 * sizeof(float));
    std::vector<float> logits(700);
    std::memcpy(logits.data(), bytes.data(), bytes.size());
    float previous = answer["top"][0]["logit"];
    for (const auto& entry : answer["top"]) {
        EXPECT_FLOAT_EQ(logits[entry["id"].get<std::size_t>()], entry["logit"].get<float>());
        EXPECT_LE(entry["logit"].get<float>(), previous);
        previous = entry["logit"];
    }
    EXPECT_EQ(*std::max_element(logits.begin(), logits.end()),
              answer["top"][0]["logit"].get<float>());
}

TEST_F(LogitsCommand, AllGivesEveryPositionAndEndsWithTheLast) {
    ASSERT_EQ(unicorn({"logits", "-m", model(), "--tokens", "2,300,301", "--out", path("last.f32")})
                  .exit_code,
              0);
    const Outcome all = unicorn({"logits", "-m", model(), "--tokens", "2,300,301", "--all",
                                 "--json", "--top", "2", "--out", path("all.f32")});
    ASSERT_EQ(all.exit_code, 0) << all.err;
    const std::string bytes = contents(path("all.f32"));
    ASSERT_EQ(bytes.size(), 3 * 700 * sizeof(float));
    EXPECT_EQ(contents(path("last.f32")).size(), 700 * sizeof(float));
    std::vector<float> rows(3 * 700), last(700);
    std::memcpy(rows.data(), bytes.data(), bytes.size());
    std::memcpy(last.data(), contents(path("last.f32")).data(), 700 * sizeof(float));
    for (std::size_t i = 0; i < 700; ++i) EXPECT_NEAR(rows[2 * 700 + i], last[i], 1e-3);
    const json answer = json::parse(all.out);
    ASSERT_EQ(answer["positions"].size(), 3u);
    EXPECT_EQ(answer["positions"][1]["position"], 1);
    EXPECT_EQ(answer["positions"][2]["top"], answer["top"]);
}

TEST_F(LogitsCommand, RefusesIdsOutsideTheVocabularyAndFilesItCannotWrite) {
    for (const char* tokens : {"2,700", "-1", "99999999999"}) {
        const Outcome outcome = unicorn({"logits", "-m", model(), "--tokens", tokens});
        EXPECT_EQ(outcome.exit_code, 2) << tokens;
        EXPECT_TRUE(is_one_error_line(without_plan(outcome.err))) << outcome.err;
    }
    const Outcome outcome =
        unicorn({"logits", "-m", model(), "--tokens", "2", "--out", "/no/such/folder/x.f32"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(without_plan(outcome.err))) << outcome.err;
}

// null and a table in no order came of it, with exit code 0.
TEST_F(LogitsCommand, FailsWhenTheModelComputesNoNumbers) {
    std::string bytes = contents(model());
    {
        auto file = formats::Gguf::open(model());
        ASSERT_TRUE(file) << file.error().message;
        const auto* norm = file->find_tensor("output_norm.weight");
        ASSERT_NE(norm, nullptr);
        const float nan = std::numeric_limits<float>::quiet_NaN();
        const auto offset = norm->bytes.data() - file->files()[0].bytes().data();
        std::memcpy(bytes.data() + offset, &nan, sizeof nan);
    }
    const std::string broken = path("nan.gguf");
    std::ofstream(broken, std::ios::binary) << bytes;
    for (const char* option : {"--json", "--all"}) {
        const Outcome outcome = unicorn({"logits", "-m", broken, "--tokens", "2,300,301", option});
        EXPECT_EQ(outcome.exit_code, 1);
        EXPECT_EQ(outcome.out, "");
        EXPECT_TRUE(is_one_error_line(without_plan(outcome.err))) << outcome.err;
        EXPECT_THAT(outcome.err,
                    HasSubstr(broken + ": the model's output at position " +
                              (option == std::string("--all") ? "0" : "2") + " is not finite"));
    }
    const Outcome to_file =
        unicorn({"logits", "-m", broken, "--tokens", "2,300", "--out", path("nan.f32")});
    EXPECT_EQ(to_file.exit_code, 1);
    EXPECT_FALSE(std::ifstream(path("nan.f32"))) << "half a file is left";
}

class BenchCommand : public WithModel {};

// The head was charged to every chunk, though only the last row of a prompt goes through it.
TEST_F(BenchCommand, APromptOfManyChunksReadsTheHeadOnce) {
    const Outcome outcome = unicorn(
        {"bench", "-m", long_model(), "-p", "512,1024", "-n", "0", "-r", "1", "--format", "json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json rows = json::parse(outcome.out)["rows"];
    const auto bytes = [&](std::size_t row, double tokens) {
        return rows[row]["gb_s"].get<double>() * 1e9 / rows[row]["tok_s"]["median"].get<double>() *
               tokens;
    };
    // V 20,000 rows of four q8_0 blocks; what else grows is the cache, by 0.2 MB at most.
    const double head_bytes = 20'000 * 4 * 34;
    EXPECT_LT(bytes(1, 1024), 2 * bytes(0, 512) - 0.8 * head_bytes);
    EXPECT_GT(bytes(1, 1024), 2 * bytes(0, 512) - 1.2 * head_bytes);
}

TEST_F(BenchCommand, JsonHasTheAgreedShape) {
    const Outcome outcome = unicorn({"bench", "-m", model(), "-p", "16", "-n", "4", "-b", "1,3",
                                     "-d", "0,40", "-r", "1", "--format", "json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(without_plan(outcome.err), "");
    const json report = json::parse(outcome.out);
    EXPECT_TRUE(report["machine"].is_object());
    EXPECT_TRUE(report["model"].is_object());
    std::vector<std::string> tests;
    for (const auto& row : report["rows"]) {
        tests.push_back(row["test"]);
        EXPECT_LE(row["tok_s"]["min"], row["tok_s"]["median"]);
        EXPECT_LE(row["tok_s"]["median"], row["tok_s"]["max"]);
        EXPECT_GT(row["tok_s"]["min"], 0);
        EXPECT_GT(row["gb_s"], 0);
        EXPECT_GT(row["bandwidth_share"], 0);
    }
    EXPECT_THAT(tests,
                ::testing::ElementsAre("pp16", "tg4", "tg4x3", "pp16@d40", "tg4@d40", "tg4x3@d40"));
}

TEST_F(BenchCommand, ATestThatDoesNotFitTheModelFails) {
    const Outcome outcome = unicorn({"bench", "-m", model(), "-p", "100000", "-n", "0", "-r", "1"});
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_TRUE(is_one_error_line(without_plan(outcome.err))) << outcome.err;
}

}  // namespace
}  // namespace unicorn::cli_tests
