// The cases through the libraries; commands_test.cpp takes them through the program.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

/// The error that ends `malformed`, written into `folder`.
Error error_of(const Case& malformed, const formats::TempFolder& folder) {
    const std::string path = write_case(malformed, folder.path());
    Status status;
    if (malformed.kind == Kind::folder) {
        auto report = quant::convert_hf(path, folder.file("out.gguf"),
                                        {.type = tensor::DType::q8_0, .n_threads = 1});
        if (!report) status = forward(report);
        EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf")));
    } else if (malformed.kind == Kind::container) {
        auto gguf = formats::Gguf::open(path);
        if (!gguf) status = forward(gguf);
    } else if (malformed.kind == Kind::vocabulary) {
        auto vocabulary = formats::read_vocabulary(formats::Gguf::open(path).value());
        if (!vocabulary) status = forward(vocabulary);
    } else {
        status = load(path);
    }
    EXPECT_FALSE(status);
    return status ? Error{} : status.error();
}

/// Every case is an error of one line that says where and what.
void expect_errors(const std::vector<Case>& cases) {
    for (const Case& malformed : cases) {
        SCOPED_TRACE(malformed.name);
        const formats::TempFolder folder;
        const Error error = error_of(malformed, folder);
        EXPECT_THAT(error.message, testing::HasSubstr(malformed.message));
        EXPECT_THAT(error.message, testing::StartsWith(folder.path()));
        EXPECT_THAT(error.message, testing::Not(testing::HasSubstr("\n")));
        EXPECT_LT(error.message.size(), 1000U);
    }
}

TEST(MalformedTest, GgufContainers) { expect_errors(gguf_cases()); }
TEST(MalformedTest, VocabulariesAndModelsInGguf) { expect_errors(model_cases()); }
TEST(MalformedTest, SafetensorsAndIndexes) { expect_errors(safetensors_cases()); }
TEST(MalformedTest, ConfigsAndVocabularies) { expect_errors(folder_cases()); }

TEST(MalformedCasesTest, AreAtLeastFortyWithNamesOfTheirOwn) {
    std::set<std::string> names;
    for (const Case& malformed : all_cases())
        EXPECT_TRUE(names.insert(malformed.name).second) << malformed.name;
    EXPECT_GE(names.size(), 40U);
}

/// The files that the cases are made from are valid: what is refused is the change.
TEST(MalformedCasesTest, StartFromAFolderAndAModelThatLoad) {
    const formats::TempFolder folder;
    const formats::TinyModel model;
    folder.write("config.json", model.config());
    folder.write("model.safetensors", model.tensors().bytes());
    for (const bool json : {true, false}) {
        if (json)
            folder.write("tokenizer.json",
                         formats::tokenizer_json_text(formats::tiny_vocabulary()));
        if (!json)
            folder.write("tokenizer.model",
                         formats::sentencepiece_bytes(formats::tiny_vocabulary()));
        auto report = quant::convert_hf(folder.path(), folder.file("out.gguf"),
                                        {.type = tensor::DType::f32, .n_threads = 1});
        ASSERT_TRUE(report) << report.error().message;
        const Status status = load(folder.file("out.gguf"));
        EXPECT_TRUE(status) << status.error().message;
    }
}

}  // namespace
}  // namespace unicorn::malformed
