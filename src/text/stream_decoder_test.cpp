#include "text/stream_decoder.h"

#include <gtest/gtest.h>

#include <random>

#include "text/testing.h"
#include "text/utf8.h"

namespace unicorn::text {
namespace {

constexpr std::int32_t kFirstByte = 6;  // of letters_vocabulary()

Tokenizer letters() { return *Tokenizer::create(letters_vocabulary()); }

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

TEST(StreamDecoder, HoldsBytesUntilTheirCharacterIsComplete) {
    const Tokenizer tokenizer = letters();
    StreamDecoder decoder(tokenizer);
    EXPECT_EQ(decoder.push(kFirstByte + 0xF0), "");
    EXPECT_EQ(decoder.push(kFirstByte + 0x9F), "");
    EXPECT_EQ(decoder.push(kFirstByte + 0xA6), "");
    EXPECT_EQ(decoder.push(kFirstByte + 0x84), "\U0001F984");
    EXPECT_EQ(decoder.push(tokenizer.encode("ab")[0]), "ab");
    EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, ReplacesWhatCanNoLongerBecomeACharacter) {
    const Tokenizer tokenizer = letters();
    StreamDecoder decoder(tokenizer);
    EXPECT_EQ(decoder.push(kFirstByte + 0xE4), "");
    EXPECT_EQ(decoder.push(kFirstByte + 0xB8), "");
    EXPECT_EQ(decoder.push(tokenizer.encode("ab")[0]), "\uFFFDab");
    EXPECT_EQ(decoder.push(kFirstByte + 0xFF), "\uFFFD");
    EXPECT_EQ(decoder.push(kFirstByte + 0xC3), "");
    EXPECT_EQ(decoder.push(kFirstByte + 0xC3), "\uFFFD");
    EXPECT_EQ(decoder.finish(), "\uFFFD");
    EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, ShowsControlPiecesOnlyIfAsked) {
    const Tokenizer tokenizer = letters();
    StreamDecoder hiding(tokenizer);
    EXPECT_EQ(hiding.push(5), "");
    EXPECT_EQ(hiding.push(-3), "");
    StreamDecoder showing(tokenizer, {.show_control = true, .continues = true});
    EXPECT_EQ(showing.push(5), "<end_of_turn>");
}

TEST(StreamDecoder, SpacePrefixGoesOnlyAtTheStartOfAText) {
    formats::Vocabulary vocabulary = letters_vocabulary();
    vocabulary.add_space_prefix = true;
    const Tokenizer tokenizer = *Tokenizer::create(vocabulary);
    const auto ids = tokenizer.encode("ab ab");
    StreamDecoder answer(tokenizer);
    EXPECT_EQ(answer.push(ids[0]), " ab");
    StreamDecoder text(tokenizer, {});
    EXPECT_EQ(text.push(ids[0]), "ab");
    EXPECT_EQ(text.push(ids[1]), " ab");
}

TEST(StreamDecoder, AnyIdsGiveWholeCharactersAndValidTextGivesItself) {
    const Tokenizer tokenizer = letters();
    std::mt19937 rng(1);
    for (int i = 0; i < 2000; ++i) {
        const bool valid = i % 2 == 0;
        const std::string text =
            random_text(rng, valid ? Script::any_unicode : Script::bytes, rng() % 60);
        StreamDecoder decoder(tokenizer);
        std::string out;
        for (const std::int32_t id : tokenizer.encode(text)) {
            const std::string_view ready = decoder.push(id);
            ASSERT_TRUE(is_utf8(ready));
            out += ready;
        }
        out += decoder.finish();
        ASSERT_TRUE(is_utf8(out));
        if (valid) {
            ASSERT_EQ(out, with_spaces(text));
        }
    }
}

TEST(StopMatcher, CutsBeforeTheStopStringHoweverTheTextComes) {
    for (std::size_t n = 1; n <= 12; ++n) {
        StopMatcher matcher({"\nUser:", "###"});
        const std::string text = "Once \n#upon##\nUse\nUser: never";
        std::string out;
        for (std::size_t at = 0; at < text.size(); at += n) {
            out += matcher.push(std::string_view(text).substr(at, n));
        }
        out += matcher.finish();
        EXPECT_EQ(out, "Once \n#upon##\nUse") << n << " bytes at a time";
        EXPECT_TRUE(matcher.matched());
    }
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBeAStop) {
    StopMatcher matcher({"stop"});
    EXPECT_EQ(matcher.push("a s"), "a ");
    EXPECT_EQ(matcher.push("to"), "");
    EXPECT_EQ(matcher.push("s"), "sto");
    EXPECT_EQ(matcher.finish(), "s");
    EXPECT_FALSE(matcher.matched());
    StopMatcher none({"", ""});
    EXPECT_EQ(none.push("all of it"), "all of it");
}

TEST(StopMatcher, TheFirstToEndCountsAndOfThoseTheLongest) {
    StopMatcher first({"abcd", "bc"});
    EXPECT_EQ(std::string(first.push("xabcd")), "xa");
    StopMatcher longest({"c", "abc"});
    EXPECT_EQ(std::string(longest.push("xab")), "x");
    EXPECT_EQ(std::string(longest.push("cd")), "");
    EXPECT_TRUE(longest.matched());
    EXPECT_EQ(longest.push("more"), "");
    EXPECT_EQ(longest.finish(), "");
}

TEST(StopMatcher, AgreesWithSearchingTheWholeText) {
    std::mt19937 rng(2);
    for (int i = 0; i < 5000; ++i) {
        std::vector<std::string> stops;
        for (int n = 1 + static_cast<int>(rng() % 3); n > 0; --n) {
            std::string stop;
            for (std::size_t k = 1 + rng() % 6; k > 0; --k) stop += "ab"[rng() % 2];
            stops.push_back(stop);
        }
        std::string text;
        for (std::size_t k = rng() % 40; k > 0; --k) text += "aab"[rng() % 3];
        std::size_t best_end = std::string::npos;
        std::size_t cut = text.size();
        for (const std::string& stop : stops) {
            const std::size_t at = text.find(stop);
            if (at == std::string::npos) continue;
            if (at + stop.size() < best_end || (at + stop.size() == best_end && at < cut)) {
                best_end = at + stop.size();
                cut = at;
            }
        }
        StopMatcher matcher(stops);
        std::string out;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t n = 1 + rng() % 5;
            out += matcher.push(std::string_view(text).substr(at, n));
            at += n;
        }
        out += matcher.finish();
        ASSERT_EQ(out, text.substr(0, cut)) << text;
        ASSERT_EQ(matcher.matched(), best_end != std::string::npos);
    }
}

}  // namespace
}  // namespace unicorn::text
