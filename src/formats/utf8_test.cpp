#include "formats/utf8.h"

#include <gtest/gtest.h>

namespace unicorn::formats {
namespace {

TEST(Utf8Test, AcceptsTheEdgesOfEachLength) {
    for (const char* text : {"", "abc", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
                             "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80",
                             "\xF4\x8F\xBF\xBF", "eight bytes and then \xE2\x96\x81 more"}) {
        EXPECT_TRUE(valid_utf8(text)) << shown(text);
    }
}

TEST(Utf8Test, RefusesOverlongSurrogateTruncatedAndTooLarge) {
    for (const char* text : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80",
                             "\xE2\x96", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
                             "\xFF", "eight bytes and then \xFF", "\xC3\x28"}) {
        EXPECT_FALSE(valid_utf8(text)) << shown(text);
    }
}

TEST(Utf8Test, ShownIsOneShortLine) {
    EXPECT_EQ(shown("caf\u00E9"), "'caf\u00E9'");
    EXPECT_EQ(shown("a\nb\xFF"), "'a\\x0Ab\\xFF'");
    EXPECT_EQ(shown(std::string(1000, 'x')), "'" + std::string(99, 'x') + "...'");
}

}  // namespace
}  // namespace unicorn::formats
