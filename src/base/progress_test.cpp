#include "base/progress.h"

#include <gtest/gtest.h>

namespace unicorn {
namespace {

TEST(HumanBytes, ThreeDigitsDecimalUnits) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(999), "999 B");
    EXPECT_EQ(human_bytes(1000), "1.00 kB");
    EXPECT_EQ(human_bytes(12345678), "12.3 MB");
    EXPECT_EQ(human_bytes(15.9e9), "15.9 GB");
    EXPECT_EQ(human_bytes(999.9e9), "1.00 TB");
}

TEST(Progress, LineShowsShareRateAndTimeLeft) {
    const Progress bytes("load", 4'000'000'000, ProgressUnit::bytes);
    const std::string line = bytes.line(1'000'000'000, 2.0);
    EXPECT_NE(line.find("25 %"), std::string::npos) << line;
    EXPECT_NE(line.find("500 MB/s"), std::string::npos) << line;
    EXPECT_NE(line.find("0:06 left"), std::string::npos) << line;

    const Progress items("prompt", 0, ProgressUnit::items);
    EXPECT_NE(items.line(0, 1.0).find("100 %"), std::string::npos);
}

}  // namespace
}  // namespace unicorn
