// Files that lie are in tests/malformed.

#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing.h"

namespace unicorn::formats {
namespace {

TEST(SafetensorsTest, DecodesFloatsAndIntegers) {
    const TempFolder folder;
    SafetensorsBuilder builder;
    builder.add("f64", "F64", {1}, raw(0.25));
    builder.add("f32", "F32", {2}, raw(1.5f) + raw(-2.0f));
    builder.add("f16", "F16", {1, 2}, std::string("\x00\x3C\x00\xC0", 4));
    builder.add("bf16", "BF16", {2}, std::string("\x80\x3F\x00\xC0", 4));
    builder.add("i64", "I64", {2}, raw(std::int64_t{-3}) + raw(std::int64_t{1} << 40));
    builder.add("u8", "U8", {3}, "\x01\x02\xFF");
    builder.add("scalar", "I32", {}, raw(std::int32_t{-7}));
    builder.add("empty", "F32", {0, 4}, "");
    builder.add("f8", "F8_E4M3", {2}, "ab");
    auto file = Safetensors::open(folder.write("a.safetensors", builder.bytes()));
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->tensors().size(), 9U);
    EXPECT_THAT(file->read_floats("f64").value(), testing::ElementsAre(0.25f));
    EXPECT_THAT(file->read_floats("f32").value(), testing::ElementsAre(1.5f, -2.0f));
    EXPECT_THAT(file->read_floats("f16").value(), testing::ElementsAre(1.0f, -2.0f));
    EXPECT_THAT(file->read_floats("bf16").value(), testing::ElementsAre(1.0f, -2.0f));
    EXPECT_THAT(file->read_ints("i64").value(), testing::ElementsAre(-3, std::int64_t{1} << 40));
    EXPECT_THAT(file->read_ints("u8").value(), testing::ElementsAre(1, 2, 255));
    EXPECT_THAT(file->read_ints("scalar").value(), testing::ElementsAre(-7));
    EXPECT_THAT(file->read_floats("empty").value(), testing::IsEmpty());
    EXPECT_THAT(file->find("f16")->shape, testing::ElementsAre(1, 2));
    EXPECT_EQ(file->find("f8")->bytes.size(), 2U);

    EXPECT_EQ(file->read_floats("u8").error().message,
              folder.file("a.safetensors") + ": tensor 'u8' has dtype U8, expected a float");
    EXPECT_EQ(file->read_ints("f8").error().code, ErrorCode::unsupported);
    EXPECT_EQ(file->read_floats("gone").error().code, ErrorCode::not_found);

    float second = 0;
    decode_floats(*file->find("f32"), 1, std::span(&second, 1));
    EXPECT_EQ(second, -2.0f);
}

TEST(SafetensorsTest, AcceptsMetadataAndPadding) {
    const TempFolder folder;
    SafetensorsBuilder builder;
    builder.add("a", "F32", {1}, raw(1.0f));
    std::string header = builder.header();
    header.insert(1, "\"__metadata__\":{\"format\":\"pt\"},");
    header += "     ";
    auto file = Safetensors::open(folder.write("a.safetensors", builder.bytes(header)));
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->tensors().size(), 1U);
}

TEST(SafetensorsTest, AFolderIsItsShardsOrItsOneFile) {
    const TempFolder folder;
    SafetensorsBuilder a;
    a.add("a", "F32", {1}, raw(1.0f));
    SafetensorsBuilder b;
    b.add("b", "F32", {1}, raw(2.0f));
    EXPECT_EQ(Safetensors::open(folder.path()).error().code, ErrorCode::not_found);
    folder.write("model.safetensors", a.bytes());
    EXPECT_EQ(Safetensors::open(folder.path())->tensors().size(), 1U);

    folder.write("one.safetensors", a.bytes());
    folder.write("two.safetensors", b.bytes());
    folder.write(
        "model.safetensors.index.json",
        R"({"metadata": {"total_size": 8}, "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}})");
    auto shards = Safetensors::open(folder.path());
    ASSERT_TRUE(shards) << shards.error().message;
    EXPECT_EQ(shards->tensors().size(), 2U);
    EXPECT_EQ(shards->files().size(), 2U);
    EXPECT_THAT(shards->read_floats("b").value(), testing::ElementsAre(2.0f));
    EXPECT_EQ(shards->path_of(*shards->find("b")), folder.file("two.safetensors"));
}

}  // namespace
}  // namespace unicorn::formats
