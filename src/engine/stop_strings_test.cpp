#include "engine/stop_strings.h"

#include <gtest/gtest.h>

namespace unicorn::engine {
namespace {

TEST(StopStrings, WithoutAnyPassesEverythingAtOnce) {
    StopStrings stops({});
    EXPECT_EQ(stops.feed("abc"), "abc");
    EXPECT_EQ(stops.feed(""), "");
    EXPECT_EQ(stops.flush(), "");
    EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, HoldsBackWhatMayBeginAStop) {
    StopStrings stops({"END"});
    EXPECT_EQ(stops.feed("one E"), "one ");
    EXPECT_EQ(stops.feed("N"), "");
    EXPECT_EQ(stops.feed("TER E"), "ENTER ");
    EXPECT_EQ(stops.flush(), "E");
    EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, StopsAcrossPiecesAndShowsNothingOfTheStop) {
    StopStrings stops({"END"});
    EXPECT_EQ(stops.feed("text E"), "text ");
    EXPECT_EQ(stops.feed("ND and more"), "");
    EXPECT_TRUE(stops.stopped());
    EXPECT_EQ(stops.feed("after"), "");
    EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, TheEarliestOfSeveralWins) {
    StopStrings stops({"later", "\n\n", ""});
    EXPECT_EQ(stops.feed("a\n\nb later"), "a");
    EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, AnOverlappingBeginningIsNotLost) {
    StopStrings stops({"aab"});
    EXPECT_EQ(stops.feed("aa"), "");
    EXPECT_EQ(stops.feed("a"), "a");
    EXPECT_EQ(stops.feed("b"), "");
    EXPECT_TRUE(stops.stopped());
}

// Whatever the cuts, the text shown is the text before the stop.
TEST(StopStrings, CutsDoNotMatter) {
    const std::string text = "User: abab abac <end> tail";
    for (std::size_t step = 1; step <= text.size(); ++step) {
        StopStrings stops({"abac", "<end>"});
        std::string shown;
        for (std::size_t i = 0; i < text.size(); i += step) shown += stops.feed(text.substr(i, step));
        shown += stops.flush();
        EXPECT_EQ(shown, "User: abab ") << "step " << step;
    }
}

}  // namespace
}  // namespace unicorn::engine
