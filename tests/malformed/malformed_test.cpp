// Every case ends in an Error that says in one line where and what.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "cases.h"
#include "formats/gguf.h"
#include "formats/testing.h"
#include "model/config.h"
#include "model/weights.h"
#include "quant/convert.h"

namespace unicorn::malformed {
namespace {

/// What the commands do with a model's file before they use it.
Status load(const std::string& path) {
    auto gguf = formats::Gguf::open(path);
    if (!gguf) return forward(gguf);
    if (auto vocabulary = formats::read_vocabulary(*gguf); !vocabulary) return forward(vocabulary);
    auto config = model::read_config(*gguf);
    if (!config) return forward(config);
    if (auto weights = model::bind_weights(*gguf, *config); !weights) return forward(weights);
    return {};
}

class MalformedTest : public testing::TestWithParam<Case> {};

TEST_P(MalformedTest, IsAnErrorThatSaysWhereAndWhat) {
    const Case& malformed = GetParam();
    const formats::TempFolder folder;
    const std::string path = write_case(malformed, folder.path());
    Error error;
    if (malformed.kind == Kind::folder) {
        auto report = quant::convert_hf(path, folder.file("out.gguf"), {.type = tensor::DType::q8_0, .n_threads = 1});
        ASSERT_FALSE(report);
        error = report.error();
        EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf")));
    } else if (malformed.kind == Kind::container) {
        auto gguf = formats::Gguf::open(path);
        ASSERT_FALSE(gguf);
        error = gguf.error();
    } else {
        auto status = load(path);
        ASSERT_FALSE(status);
        error = status.error();
    }
    EXPECT_THAT(error.message, testing::HasSubstr(malformed.message));
    EXPECT_THAT(error.message, testing::StartsWith(folder.path()));
    EXPECT_THAT(error.message, testing::Not(testing::HasSubstr("\n")));
    EXPECT_LT(error.message.size(), 1000U);
}

/// A case's name as GoogleTest wants it.
std::string test_name(const testing::TestParamInfo<Case>& parameter) {
    std::string name = parameter.param.name;
    std::ranges::replace(name, '-', '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(All, MalformedTest, testing::ValuesIn(all_cases()), test_name);

TEST(MalformedCasesTest, AreAtLeastFortyWithNamesOfTheirOwn) {
    std::set<std::string> names;
    for (const Case& malformed : all_cases()) EXPECT_TRUE(names.insert(malformed.name).second) << malformed.name;
    EXPECT_GE(names.size(), 40U);
}

/// The files that the cases are made from are valid: what is refused is the change.
TEST(MalformedCasesTest, StartFromAFolderAndAModelThatLoad) {
    const formats::TempFolder folder;
    const formats::TinyModel model;
    folder.write("config.json", model.config());
    folder.write("model.safetensors", model.tensors().bytes());
    for (const bool json : {true, false}) {
        if (json) folder.write("tokenizer.json", formats::tokenizer_json_text(formats::tiny_vocabulary()));
        if (!json) folder.write("tokenizer.model", formats::sentencepiece_bytes(formats::tiny_vocabulary()));
        auto report = quant::convert_hf(folder.path(), folder.file("out.gguf"), {.type = tensor::DType::f32, .n_threads = 1});
        ASSERT_TRUE(report) << report.error().message;
        const Status status = load(folder.file("out.gguf"));
        EXPECT_TRUE(status) << status.error().message;
    }
}

}  // namespace
}  // namespace unicorn::malformed
