// Commands that read and write files: inspect, tokenize, synth, convert.

#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace unicorn::cli_tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Files : public WithModel {};

TEST_F(Files, BadFilesEndInOneLineThatNamesThem) {
    std::ofstream(path("text.gguf")) << "this is no model";
    std::ofstream(path("empty.gguf")).flush();
    std::ofstream(path("cut.gguf"), std::ios::binary) << contents(model()).substr(0, 5000);
    std::filesystem::create_directory(path("folder.gguf"));
    for (const std::string file :
         {"absent.gguf", "text.gguf", "empty.gguf", "cut.gguf", "folder.gguf"}) {
        for (const auto& command :
             std::vector<std::vector<std::string>>{{"run", "hi"},
                                                   {"chat"},
                                                   {"inspect"},
                                                   {"tokenize", "hi"},
                                                   {"logits", "--tokens", "2"},
                                                   {"bench"}}) {
            std::vector<std::string> arguments = command;
            arguments.insert(arguments.end(), {"-m", path(file)});
            const Outcome outcome = unicorn(arguments);
            EXPECT_EQ(outcome.exit_code, 1) << command[0] << " " << file;
            EXPECT_EQ(outcome.out, "");
            EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
            EXPECT_THAT(outcome.err, HasSubstr(file));
        }
    }
}

TEST_F(Files, InspectJsonCountsWhatIsThere) {
    const Outcome outcome = unicorn({"inspect", "--json", model()});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json file = json::parse(outcome.out);
    EXPECT_EQ(file["version"], 3);
    EXPECT_EQ(file["metadata"]["general.architecture"], "gemma3");
    EXPECT_EQ(file["metadata"]["gemma3.block_count"], 6);
    EXPECT_EQ(file["metadata"]["tokenizer.ggml.tokens"]["count"], 700);
    EXPECT_EQ(file["metadata"]["tokenizer.ggml.tokens"]["values"].size(), 8u);
    EXPECT_EQ(file["metadata"]["tokenizer.ggml.tokens"]["values"][2], "<bos>");
    std::uint64_t bytes = 0, parameters = 0;
    for (const auto& tensor : file["tensors"]) {
        bytes += tensor["bytes"].get<std::uint64_t>();
        std::uint64_t n = 1;
        for (const std::uint64_t dim : tensor["shape"]) n *= dim;
        parameters += n;
    }
    EXPECT_EQ(file["tensor_bytes"], bytes);
    EXPECT_EQ(file["parameters"], parameters);
    EXPECT_EQ(file["types"]["q8_0"]["bytes"].get<std::uint64_t>() +
                  file["types"]["f32"]["bytes"].get<std::uint64_t>(),
              bytes);

    const json full = json::parse(unicorn({"inspect", "--json", "--full", model()}).out);
    EXPECT_EQ(full["metadata"]["tokenizer.ggml.tokens"]["values"].size(), 700u);
    EXPECT_EQ(full["metadata"]["tokenizer.ggml.scores"]["values"].size(), 700u);
}

TEST_F(Files, InspectTablesHoldOneLineAnEntry) {
    const json file = json::parse(unicorn({"inspect", "--json", model()}).out);
    const std::string text = unicorn({"inspect", "-m", model()}).out;
    // Heading and a blank line, then three tables with a heading each and a blank line between
    // them.
    EXPECT_EQ(count_lines(text), 2 + (1 + file["metadata"].size() + 1) +
                                     (1 + file["tensors"].size() + 1) + (1 + file["types"].size()));
    EXPECT_THAT(text, HasSubstr("blk.5.attn_q.weight"));
}

TEST_F(Files, TokenizeAndBack) {
    const std::string text = "Grüße, 世界!\n  two  spaces <end_of_turn>";
    const Outcome ids = unicorn({"tokenize", "-m", model(), text});
    ASSERT_EQ(ids.exit_code, 0) << ids.err;
    EXPECT_EQ(count_lines(ids.out), 1u);
    EXPECT_EQ(unicorn({"tokenize", "-m", model(), "-"}, {.input = text}).out, ids.out);
    EXPECT_EQ(unicorn({"tokenize", "-m", model(), "--decode", "-"}, {.input = ids.out}).out, text);

    const json both = json::parse(unicorn({"tokenize", "-m", model(), "--json", text}).out);
    EXPECT_EQ(both.size(), 2u);
    EXPECT_EQ(both["ids"].size(), both["pieces"].size());
    EXPECT_EQ(both["ids"][0], 2);
    EXPECT_EQ(both["pieces"][0], "<bos>");
    const json no_bos =
        json::parse(unicorn({"tokenize", "-m", model(), "--json", "--no-bos", text}).out);
    EXPECT_EQ(no_bos["ids"].size() + 1, both["ids"].size());
    const json special =
        json::parse(unicorn({"tokenize", "-m", model(), "--json", "--special", text}).out);
    EXPECT_EQ(special["pieces"].back(), "<end_of_turn>");
    const json decoded =
        json::parse(unicorn({"tokenize", "-m", model(), "--json", "--decode", ids.out}).out);
    EXPECT_EQ(decoded["text"], text);
}

TEST_F(Files, DecodingRefusesWhatIsNoId) {
    for (const char* ids : {"700", "-1", "hello", ""}) {
        const Outcome outcome =
            unicorn({"tokenize", "-m", model(), "--decode", "-"}, {.input = ids});
        EXPECT_EQ(outcome.exit_code, 2) << ids;
        EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    }
}

TEST_F(Files, SynthRepeatsAndReplacesAsAWhole) {
    const std::vector<std::string> base{"synth",  "--config", path("tiny.json"), path("other.gguf"),
                                        "--type", "q8_0"};
    const Outcome made = unicorn(base);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    EXPECT_EQ(made.out, "");
    EXPECT_THAT(made.err, HasSubstr("parameters"));
    const json one = json::parse(unicorn({"inspect", "--json", model()}).out);
    EXPECT_EQ(contents(path("other.gguf")), contents(model())) << "the same seed";

    auto quiet = base;
    quiet.insert(quiet.end(), {"--seed", "2", "--quiet"});
    EXPECT_EQ(unicorn(quiet).err, "");
    EXPECT_NE(contents(path("other.gguf")), contents(model()));

    const Outcome nowhere =
        unicorn({"synth", "--config", path("tiny.json"), "/no/such/folder/x.gguf"});
    EXPECT_EQ(nowhere.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(nowhere.err)) << nowhere.err;
    const Outcome bad = unicorn({"synth", "--config", path("absent.json"), path("x.gguf")});
    EXPECT_EQ(bad.exit_code, 1);
    EXPECT_FALSE(std::filesystem::exists(path("x.gguf")));
}

TEST_F(Files, ConvertOfAFolderThatIsNoneLeavesNothing) {
    const Outcome outcome = unicorn({"convert", path("no-such-folder"), path("converted.gguf")});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(outcome.err)) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(path("converted.gguf")));
}

}  // namespace
}  // namespace unicorn::cli_tests
