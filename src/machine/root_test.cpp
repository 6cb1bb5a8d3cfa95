#include "machine/root.h"

#include <sys/stat.h>

#include "machine/testing.h"
#include "machine/version.h"

namespace unicorn::machine {
namespace {

using RootTest = testing::FakeRoot;

TEST_F(RootTest, ReadsTextWithoutItsEndAndNothingElse) {
    put("/a", "text \n");
    put("/long", std::string(5000, 'x'));
    put("/folder/b", "");
    ASSERT_EQ(::mkfifo((root() + "/fifo").c_str(), 0600), 0);
    const Root r(root());
    EXPECT_EQ(r.text("/a"), "text");
    EXPECT_EQ(r.text("/missing"), "");
    EXPECT_EQ(r.text("/folder"), "");
    EXPECT_EQ(r.text("/fifo"), "");
    EXPECT_EQ(r.text("/long", 4096), "");
    EXPECT_EQ(r.text("/long", 5000).size(), 5000u);
    EXPECT_EQ(r.names("/"), (std::vector<std::string>{"a", "fifo", "folder", "long"}));
    EXPECT_TRUE(r.names("/missing").empty());
}

TEST_F(RootTest, ControlCharactersDoNotReachATerminal) {
    put("/a", "\033[2Jred\x7F\tok\nline");
    EXPECT_EQ(Root(root()).text("/a"), "?[2Jred?\tok\nline");
    EXPECT_EQ(Root(root()).bytes("/a")[0], '\033');
}

TEST(RootText, NumbersAreWholeOrNothing) {
    EXPECT_EQ(parse_number(" 42\n"), 42u);
    EXPECT_EQ(parse_number("0x1002"), 0x1002u);
    for (const char* text : {"", "x", "-1", "4 2", "1.5", "max", "0x", "99999999999999999999"})
        EXPECT_EQ(parse_number(text), std::nullopt) << text;
}

TEST(RootText, ValuesAndBrackets) {
    EXPECT_EQ(value_of("A=1\nDRIVER=amdgpu\n", "DRIVER"), "amdgpu");
    EXPECT_EQ(value_of("NAME=\"Debian 12\"", "NAME"), "Debian 12");
    EXPECT_EQ(value_of("DRIVERS=x", "DRIVER"), "");
    EXPECT_EQ(bracketed("always [madvise] never"), "madvise");
    EXPECT_EQ(bracketed("madvise\n"), "madvise");
    EXPECT_EQ(bracketed("always [madvise"), "always [madvise");
    EXPECT_EQ(bracketed(""), "");
}

TEST(VersionTest, TakesTheFirstTwoNumbers) {
    const auto check = [](const char* text, unsigned major, unsigned minor) {
        const Version version = parse_version(text);
        EXPECT_EQ(version.major, major) << text;
        EXPECT_EQ(version.minor, minor) << text;
        EXPECT_EQ(version.text, text);
    };
    check("6.14.0-29-generic", 6, 14);
    check("Mesa 25.0.7-2", 25, 0);
    check("1:22.3.6-1+deb12u1", 22, 3);
    check("", 0, 0);
    check("rolling", 0, 0);
    EXPECT_LT(parse_version("6.9.12"), parse_version("6.14"));
    EXPECT_EQ(parse_version("6.14.1"), parse_version("6.14.2"));
}

}  // namespace
}  // namespace unicorn::machine
