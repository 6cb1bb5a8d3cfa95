#include "base/byte_size.h"

#include <gtest/gtest.h>

namespace unicorn {
namespace {

TEST(ByteSize, UnitsAreWhatTheySay) {
    EXPECT_EQ(*parse_byte_size("65536"), 65536u);
    EXPECT_EQ(*parse_byte_size("0"), 0u);
    EXPECT_EQ(*parse_byte_size("0 GB"), 0u);
    EXPECT_EQ(*parse_byte_size("1 B"), 1u);
    EXPECT_EQ(*parse_byte_size("2GiB"), std::uint64_t{2} << 30);
    EXPECT_EQ(*parse_byte_size("2 gib"), std::uint64_t{2} << 30);
    EXPECT_EQ(*parse_byte_size("2G"), std::uint64_t{2} << 30);
    EXPECT_EQ(*parse_byte_size("40 GB"), 40'000'000'000u);
    EXPECT_EQ(*parse_byte_size("1.5KiB"), 1536u);
    EXPECT_EQ(*parse_byte_size("512M"), std::uint64_t{512} << 20);
    EXPECT_EQ(*parse_byte_size("1TB"), 1'000'000'000'000u);
}

TEST(ByteSize, AnythingElseIsNone) {
    for (const char* text : {"", "GB", "-1", "2 GBB", "2 Gi", "1e9", "inf", "nan", "2,5 GB", "0.5",
                             "9999999999 TB", " 2GB", "2GB "}) {
        const auto bytes = parse_byte_size(text);
        ASSERT_FALSE(bytes) << text;
        EXPECT_EQ(bytes.error().code, ErrorCode::invalid_argument);
        EXPECT_NE(bytes.error().message.find(text), std::string::npos);
    }
}

}  // namespace
}  // namespace unicorn
