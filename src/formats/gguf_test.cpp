// Reading what GgufWriter writes; files that lie are in tests/malformed.

#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/gguf_writer.h"
#include "formats/testing.h"

namespace unicorn::formats {
namespace {

using tensor::DType;

std::vector<std::byte> numbered_bytes(std::size_t n, int first) {
    std::vector<std::byte> bytes(n);
    for (std::size_t i = 0; i < n; ++i)
        bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
    return bytes;
}

TEST(GgufTest, ReadsBackEveryKindOfValue) {
    const TempFolder folder;
    GgufWriter writer;
    writer.set_uint32("u32", 7);
    writer.set_uint64("u64", 1ull << 40);
    writer.set_float32("f32", 0.5f);
    writer.set_bool("yes", true);
    writer.set_string("text", "caf\u00E9");
    const std::string_view words[] = {"a", "", "bc"};
    writer.set_strings("words", words);
    const float floats[] = {1.0f, -2.0f};
    writer.set_floats("floats", floats);
    const std::int32_t ints[] = {-1, 2};
    writer.set_ints("ints", ints);
    const bool bools[] = {true, false};
    writer.set_bools("bools", bools);
    ASSERT_TRUE(writer.begin(folder.file("a.gguf")));
    ASSERT_TRUE(writer.finish());

    auto gguf = Gguf::open(folder.file("a.gguf"));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ(gguf->version(), 3U);
    EXPECT_EQ(gguf->metadata().size(), 10U);
    EXPECT_EQ(gguf->get_uint("u32").value(), 7U);
    EXPECT_EQ(gguf->get_uint("u64").value(), 1ull << 40);
    EXPECT_EQ(gguf->get_float("f32").value(), 0.5);
    EXPECT_EQ(gguf->get_float("u32").value(), 7.0);
    EXPECT_TRUE(gguf->get_bool("yes").value());
    EXPECT_EQ(gguf->get_string("text").value(), "caf\u00E9");
    EXPECT_THAT(gguf->get_strings("words").value(), testing::ElementsAre("a", "", "bc"));
    EXPECT_THAT(gguf->get_floats("floats").value(), testing::ElementsAre(1.0f, -2.0f));
    EXPECT_THAT(gguf->get_ints("ints").value(), testing::ElementsAre(-1, 2));
    EXPECT_THAT(gguf->get_ints("bools").value(), testing::ElementsAre(1, 0));

    EXPECT_EQ(gguf->get_uint("text").error().message,
              folder.file("a.gguf") + ": key 'text' is string, expected an integer");
    EXPECT_EQ(gguf->get_string("words").error().message,
              folder.file("a.gguf") + ": key 'words' is array of string, expected string");
    EXPECT_EQ(gguf->get_uint("gone").error().message,
              folder.file("a.gguf") + ": key 'gone' is missing");
}

// Found by gguf_fuzz: a key with a line break in it made a message of two lines.
TEST(GgufTest, MessagesShowOddKeysInOneLine) {
    const TempFolder folder;
    GgufWriter writer;
    writer.set_bool("a\nb", true);
    ASSERT_TRUE(writer.begin(folder.file("a.gguf")) && writer.finish());
    EXPECT_EQ(Gguf::open(folder.file("a.gguf"))->get_uint("a\nb").error().message,
              folder.file("a.gguf") + ": key 'a\\x0Ab' is boolean, expected an integer");
}

TEST(GgufTest, ReadsBackTensorsWrittenInPieces) {
    const TempFolder folder;
    GgufWriter writer;
    writer.add_tensor("vector", DType::f32, std::vector<std::uint64_t>{3});
    writer.add_tensor("matrix", DType::q8_0, std::vector<std::uint64_t>{64, 2});
    writer.add_tensor("cube", DType::f16, std::vector<std::uint64_t>{2, 3, 4});
    EXPECT_EQ(writer.tensor_bytes(), 12U + 136U + 48U);
    ASSERT_TRUE(writer.begin(folder.file("a.gguf")));
    const auto bytes = numbered_bytes(12 + 136 + 48, 1);
    ASSERT_TRUE(writer.write(std::span(bytes).first(5)));
    ASSERT_TRUE(writer.write(std::span(bytes).subspan(5, 100)));  // across a boundary
    ASSERT_TRUE(writer.write(std::span(bytes).subspan(105)));
    ASSERT_TRUE(writer.finish());

    auto gguf = Gguf::open(folder.file("a.gguf"));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ(gguf->tensor_bytes(), 12U + 136U + 48U);
    ASSERT_EQ(gguf->tensors().size(), 3U);
    std::vector<std::byte> read;
    for (const GgufTensor& tensor : gguf->tensors()) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % 32, 0U) << tensor.name;
        read.insert(read.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
    EXPECT_EQ(read, bytes);
    const GgufTensor* matrix = gguf->find_tensor("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->type, DType::q8_0);
    EXPECT_EQ(matrix->matrix().rows, 2U);
    EXPECT_EQ(matrix->matrix().cols, 64U);
    EXPECT_EQ(matrix->matrix().bytes(), 136U);
    EXPECT_EQ(gguf->find_tensor("cube")->matrix().rows, 12U);
    EXPECT_EQ(gguf->find_tensor("Matrix"), nullptr);

    const Gguf moved = std::move(*gguf);  // views outlive the move
    EXPECT_EQ(moved.find_tensor("matrix")->bytes[0], matrix->bytes[0]);
}

TEST(GgufTest, ReadsVersion2) {
    const TempFolder folder;
    GgufWriter writer;
    writer.set_uint32("n", 5);
    ASSERT_TRUE(writer.begin(folder.file("a.gguf")) && writer.finish());
    std::string bytes = read_file(folder.file("a.gguf"), 1 << 20).value();
    bytes[4] = 2;
    auto gguf = Gguf::open(folder.write("v2.gguf", bytes));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ(gguf->version(), 2U);
    EXPECT_EQ(gguf->get_uint("n").value(), 5U);
}

/// Part `no` of `count`, with one tensor "t<no>" of four floats.
void write_part(const std::string& path, std::uint32_t no, std::uint32_t count,
                std::uint32_t n_tensors, const char* tensor_name) {
    GgufWriter writer;
    if (no == 0) writer.set_string("general.architecture", "gemma3");
    writer.set_uint32("split.no", no);
    writer.set_uint32("split.count", count);
    writer.set_uint32("split.tensors.count", n_tensors);
    writer.add_tensor(tensor_name, DType::f32, std::vector<std::uint64_t>{4});
    ASSERT_TRUE(writer.begin(path));
    ASSERT_TRUE(writer.write(numbered_bytes(16, static_cast<int>(no))));
    ASSERT_TRUE(writer.finish());
}

TEST(GgufTest, OpensSplitModels) {
    const TempFolder folder;
    write_part(folder.file("m-00001-of-00002.gguf"), 0, 2, 2, "t0");
    write_part(folder.file("m-00002-of-00002.gguf"), 1, 2, 2, "t1");
    auto gguf = Gguf::open(folder.file("m-00001-of-00002.gguf"));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ(gguf->files().size(), 2U);
    EXPECT_EQ(gguf->get_string("general.architecture").value(), "gemma3");
    EXPECT_EQ(gguf->find_tensor("t0")->file, 0U);
    EXPECT_EQ(gguf->find_tensor("t1")->file, 1U);
    EXPECT_EQ(gguf->find_tensor("t1")->bytes[0], std::byte{1});

    EXPECT_THAT(Gguf::open(folder.file("m-00002-of-00002.gguf")).error().message,
                testing::HasSubstr("part 2 of 2 of a split model; open the first part instead"));
}

TEST(GgufTest, SplitModelsThatDisagreeAreErrors) {
    const TempFolder folder;
    const std::string first = folder.file("m-00001-of-00002.gguf");
    const std::string second = folder.file("m-00002-of-00002.gguf");
    write_part(first, 0, 2, 2, "t0");
    auto gguf = Gguf::open(first);
    ASSERT_FALSE(gguf);
    EXPECT_EQ(gguf.error().code, ErrorCode::not_found);
    EXPECT_THAT(gguf.error().message, testing::StartsWith(second + ": cannot open"));

    write_part(second, 1, 3, 2, "t1");
    EXPECT_EQ(Gguf::open(first).error().message,
              second + ": says it is part 2 of 3, expected part 2 of 2");
    write_part(second, 1, 2, 2, "t0");
    EXPECT_EQ(Gguf::open(first).error().message, second + ": duplicate tensor 't0'");
    write_part(first, 0, 2, 3, "t0");
    write_part(second, 1, 2, 3, "t1");
    EXPECT_EQ(Gguf::open(first).error().message,
              first + ": key 'split.tensors.count' is 3, but the 2 parts hold 2 tensors");
    std::filesystem::rename(first, folder.file("renamed.gguf"));
    EXPECT_THAT(Gguf::open(folder.file("renamed.gguf")).error().message,
                testing::HasSubstr("expected a name that ends in '-00001-of-00002.gguf'"));
}

TEST(GgufTest, VocabularyRoundTrip) {
    const TempFolder folder;
    const Vocabulary written = tiny_vocabulary();
    GgufWriter writer;
    write_vocabulary(writer, written);
    ASSERT_TRUE(writer.begin(folder.file("v.gguf")) && writer.finish());
    auto gguf = Gguf::open(folder.file("v.gguf"));
    ASSERT_TRUE(gguf) << gguf.error().message;
    auto read = read_vocabulary(*gguf);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(read->pieces.size(), written.pieces.size());
    for (std::size_t i = 0; i < written.pieces.size(); ++i) {
        EXPECT_EQ(read->pieces[i].text, written.pieces[i].text);
        EXPECT_EQ(read->pieces[i].score, written.pieces[i].score);
        EXPECT_EQ(read->pieces[i].type, written.pieces[i].type);
    }
    EXPECT_EQ(read->bos, 2);
    EXPECT_EQ(read->eos, 1);
    EXPECT_EQ(read->unk, 3);
    EXPECT_EQ(read->pad, 0);
    EXPECT_THAT(read->stop_ids, testing::ElementsAre(1, 5));
    EXPECT_TRUE(read->add_bos);
    EXPECT_FALSE(read->add_space_prefix);
    EXPECT_EQ(read->chat_template, written.chat_template);
}

TEST(GgufTest, OtherTokenizersAreUnsupported) {
    const TempFolder folder;
    GgufWriter writer;
    writer.set_string("tokenizer.ggml.model", "gpt2");
    ASSERT_TRUE(writer.begin(folder.file("v.gguf")) && writer.finish());
    auto vocabulary = read_vocabulary(Gguf::open(folder.file("v.gguf")).value());
    ASSERT_FALSE(vocabulary);
    EXPECT_EQ(vocabulary.error().code, ErrorCode::unsupported);
    EXPECT_THAT(vocabulary.error().message,
                testing::HasSubstr("key 'tokenizer.ggml.model' is 'gpt2', expected 'llama'"));
}

}  // namespace
}  // namespace unicorn::formats
