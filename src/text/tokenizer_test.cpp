#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>
#include <tuple>

#include "text/merge_queue.h"
#include "text/testing.h"
#include "text/utf8.h"

namespace unicorn::text {
namespace {

using formats::PieceType;
using formats::Vocabulary;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> pieces(const Tokenizer& tokenizer, std::string_view text,
                                bool parse_control = false) {
    std::vector<std::string> out;
    for (const auto id :
         tokenizer.encode(text, {.add_bos = false, .parse_control = parse_control})) {
        out.push_back(tokenizer.piece(id));
    }
    return out;
}

TEST(Utf8, TellsValidIncompleteAndInvalidApart) {
    EXPECT_EQ(utf8_length("a"), 1U);
    EXPECT_EQ(utf8_length("\u00E9"), 2U);
    EXPECT_EQ(utf8_length("\u4E00x"), 3U);
    EXPECT_EQ(utf8_length("\U0010FFFF"), 4U);
    for (const char* invalid : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                                "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5", "\xFF"}) {
        EXPECT_EQ(utf8_step(invalid).state, Utf8State::invalid)
            << testing::PrintToString(std::string(invalid));
        EXPECT_EQ(utf8_step(invalid).length, 1U);
    }
    EXPECT_EQ(utf8_step("\xE4\xB8").state, Utf8State::incomplete);
    EXPECT_EQ(utf8_step("\xE4\xB8").length, 2U);
    EXPECT_EQ(utf8_step("\xF0\x9F\xA6x").state, Utf8State::invalid);
    EXPECT_EQ(utf8_step("\xF0\x9F\xA6x").length, 3U);
}

TEST(MergeQueue, GivesTheHighestPriorityFirstAndThenTheLeftmost) {
    std::mt19937 rng(1);
    using Entry =
        std::tuple<std::uint32_t, std::uint32_t, std::int32_t>;  // {~priority, left, piece}
    for (int round = 0; round < 50; ++round) {
        MergeQueue queue(10);
        std::multiset<Entry> expected;
        const std::uint32_t n_priorities = round % 2 == 0 ? 5 : 5000;
        for (int i = 0; i < 5000; ++i) {
            if (rng() % 3 != 0) {
                const std::uint32_t priority = 1 + static_cast<std::uint32_t>(rng() % n_priorities);
                const auto left = static_cast<std::uint32_t>(rng() % 4 == 0 ? rng() % 1000 : i);
                const auto piece = static_cast<std::int32_t>(priority);
                queue.push(priority, {left, piece});
                expected.emplace(~priority, left, piece);
                continue;
            }
            Candidate candidate;
            ASSERT_EQ(queue.pop(candidate), !expected.empty());
            if (expected.empty()) continue;
            ASSERT_EQ(candidate.left, std::get<1>(*expected.begin()));
            ASSERT_EQ(candidate.piece, std::get<2>(*expected.begin()));
            expected.erase(expected.begin());
        }
    }
}

TEST(Tokenizer, MergesTheBestPairFirstAndTheLeftmostOfEquals) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    EXPECT_THAT(pieces(*tokenizer, "abc"), ElementsAre("abc"));
    EXPECT_THAT(pieces(*tokenizer, "abcde"), ElementsAre("ab", "cde"));
    EXPECT_THAT(pieces(*tokenizer, "aaa"), ElementsAre("aa", "a"));
    EXPECT_THAT(pieces(*tokenizer, "aaaaaab"), ElementsAre("aaaa", "a", "ab"));
    EXPECT_THAT(pieces(*tokenizer, " ab ab"), ElementsAre("▁ab", "▁ab"));
    EXPECT_THAT(pieces(*tokenizer, ""), IsEmpty());
}

TEST(Tokenizer, MatchesUserDefinedPiecesFirstLongestAndLeftmost) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    EXPECT_THAT(pieces(*tokenizer, "a<b><b><b>b"), ElementsAre("a", "<b><b>", "<b>", "b"));
    EXPECT_THAT(pieces(*tokenizer, "\n\n\n"), ElementsAre("\n\n", "\n"));
}

TEST(Tokenizer, ControlTextIsTextUnlessAllowed) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    EXPECT_THAT(tokenizer->encode("<end_of_turn>a<unk>", {.add_bos = true, .parse_control = true}),
                ElementsAre(2, 5, *tokenizer->encode("a").begin(), 3));
    for (const std::int32_t id : tokenizer->encode("<end_of_turn>a<unk><bos>")) {
        EXPECT_FALSE(tokenizer->is_control(id)) << tokenizer->piece(id);
    }
    EXPECT_EQ(tokenizer->find_control("<bos>"), 2);
    EXPECT_EQ(tokenizer->find_control("ab"), std::nullopt);
    EXPECT_TRUE(tokenizer->is_stop(5));
    EXPECT_FALSE(tokenizer->is_stop(0));
}

TEST(Tokenizer, TurnMarkersAreControlEvenIfTheFileCallsThemUserDefined) {
    Vocabulary vocabulary = letters_vocabulary();
    vocabulary.pieces[4].type = PieceType::user_defined;
    vocabulary.pieces[5].type = PieceType::user_defined;
    vocabulary.pieces[1].type = PieceType::normal;  // EOS
    const auto tokenizer = Tokenizer::create(vocabulary);
    ASSERT_TRUE(tokenizer);
    for (const std::int32_t id : tokenizer->encode("<start_of_turn><end_of_turn><eos>")) {
        EXPECT_FALSE(tokenizer->is_control(id)) << tokenizer->piece(id);
        EXPECT_GT(id, 5);
    }
    EXPECT_THAT(tokenizer->encode("<start_of_turn><end_of_turn><eos>",
                                  {.add_bos = false, .parse_control = true}),
                ElementsAre(4, 5, 1));
}

TEST(Tokenizer, PartsMergeAcrossTheirBordersButControlStaysWithin) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    const TextPart merging[] = {{"a", true}, {"b", false}, {"c\n", true}, {"\n", false}};
    EXPECT_EQ(tokenizer->encode(merging, false), tokenizer->encode("abc\n\n"));
    const TextPart split_marker[] = {{"<end_of", true}, {"_turn>", false}};
    EXPECT_EQ(tokenizer->encode(split_marker, false), tokenizer->encode("<end_of_turn>"));
    const TextPart joined_marker[] = {{"<end_of", true}, {"", false}, {"_turn>", true}};
    EXPECT_THAT(tokenizer->encode(joined_marker, false), ElementsAre(5));
    const TextPart between[] = {{"<bos>", true}, {"<bos>", false}, {"<bos>", true}};
    const auto ids = tokenizer->encode(between, false);
    EXPECT_EQ(ids.front(), 2);
    EXPECT_EQ(ids.back(), 2);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 2);
}

TEST(Tokenizer, UncoveredCharactersAndInvalidBytesBecomeBytePieces) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    EXPECT_THAT(pieces(*tokenizer, "a\u00E9"), ElementsAre("a", "<0xC3>", "<0xA9>"));
    EXPECT_THAT(pieces(*tokenizer,
                       "a\xFF"
                       "b"),
                ElementsAre("a", "<0xFF>", "b"));
}

TEST(Tokenizer, WithoutBytePiecesARunOfUncoveredCharactersIsOneUnknown) {
    Vocabulary vocabulary = letters_vocabulary();
    vocabulary.pieces.erase(vocabulary.pieces.begin() + 6, vocabulary.pieces.begin() + 6 + 256);
    const auto tokenizer = Tokenizer::create(vocabulary);
    ASSERT_TRUE(tokenizer);
    EXPECT_THAT(pieces(*tokenizer, "aXY\xFFZaX"), ElementsAre("a", "<unk>", "a", "<unk>"));
    vocabulary.unk.reset();
    vocabulary.pieces[3].type = PieceType::control;
    const auto refused = Tokenizer::create(vocabulary);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_file);
    EXPECT_THAT(refused.error().message, HasSubstr("0 of the 256 byte pieces"));
}

TEST(Tokenizer, SpacePrefix) {
    Vocabulary vocabulary = letters_vocabulary();
    vocabulary.add_space_prefix = true;
    const auto tokenizer = Tokenizer::create(vocabulary);
    ASSERT_TRUE(tokenizer);
    const auto ids = tokenizer->encode("ab ab", {.add_bos = true});
    EXPECT_EQ(ids.size(), 3U);
    EXPECT_EQ(tokenizer->decode(ids), "ab ab");
    EXPECT_EQ(tokenizer->decode(ids, {.show_control = true}), "<bos>ab ab");
    EXPECT_EQ(tokenizer->decode(ids, {.show_control = false, .continues = true}), " ab ab");
    EXPECT_THAT(tokenizer->encode(""), IsEmpty());
}

TEST(Tokenizer, DecodesIdsOutOfRangeToNothing) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    const std::int32_t ids[] = {-1, 1 << 30, static_cast<std::int32_t>(tokenizer->size()), 2};
    EXPECT_EQ(tokenizer->decode(ids), "");
    EXPECT_EQ(tokenizer->piece(-1), "");
    EXPECT_EQ(tokenizer->piece(6 + 10), "<0x0A>");
    EXPECT_EQ(tokenizer->text(6 + 10), "\n");
}

TEST(Tokenizer, RefusesVocabulariesThatMakeNoSense) {
    EXPECT_EQ(Tokenizer::create({}).error().code, ErrorCode::invalid_file);

    Vocabulary with_nan = letters_vocabulary();
    with_nan.pieces[270].score = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(Tokenizer::create(with_nan).error().message, HasSubstr("piece 270"));

    Vocabulary bad_id = letters_vocabulary();
    bad_id.bos = 100'000;
    EXPECT_THAT(Tokenizer::create(bad_id).error().message, HasSubstr("BOS id is 100000"));
    bad_id.bos = 2;
    bad_id.stop_ids.push_back(-7);
    EXPECT_THAT(Tokenizer::create(bad_id).error().message, HasSubstr("stop id is -7"));

    Vocabulary bad_byte = letters_vocabulary();
    bad_byte.pieces[10].text = "<0x4>";
    EXPECT_THAT(Tokenizer::create(bad_byte).error().message, HasSubstr("piece 10"));
}

TEST(Tokenizer, DuplicateAndEmptyPiecesDoNoHarm) {
    Vocabulary vocabulary = letters_vocabulary();
    const auto first = Tokenizer::create(vocabulary)->encode("ab<b>");
    vocabulary.pieces.push_back({"ab", 5, PieceType::normal});
    vocabulary.pieces.push_back({"<b>", 5, PieceType::user_defined});
    vocabulary.pieces.push_back({"", 5, PieceType::user_defined});
    vocabulary.pieces.push_back({"", 5, PieceType::normal});
    EXPECT_EQ(Tokenizer::create(vocabulary)->encode("ab<b>"), first);
}

TEST(Tokenizer, RoundTripsAnyBytes) {
    std::mt19937 rng(5);
    const auto letters = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(letters);
    for (int i = 0; i < 2000; ++i) {
        for (const Script script :
             {Script::ascii, Script::letters, Script::any_unicode, Script::bytes}) {
            const std::string text = random_text(rng, script, rng() % (i % 100 == 0 ? 3000 : 80));
            const auto ids = letters->encode(text, {.add_bos = true, .parse_control = false});
            ASSERT_EQ(letters->decode(ids), with_spaces(text));
            for (std::size_t j = 1; j < ids.size(); ++j) ASSERT_FALSE(letters->is_control(ids[j]));
        }
    }
}

TEST(Tokenizer, ThreadsMayShareOne) {
    const auto tokenizer = Tokenizer::create(letters_vocabulary());
    ASSERT_TRUE(tokenizer);
    std::mt19937 rng(6);
    const std::string text = random_text(rng, Script::letters, 20'000);
    const auto expected = tokenizer->encode(text);
    std::vector<std::vector<std::int32_t>> results(4);
    {
        std::vector<std::jthread> threads;
        for (auto& result : results)
            threads.emplace_back([&] { result = tokenizer->encode(text); });
    }
    for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(GemmaTokenizer, AgreesWithTheReferenceCases) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const auto tokenizer = Tokenizer::create(*gemma_vocabulary());
    ASSERT_TRUE(tokenizer);
    const auto json = read_shared("vectors/tokenizer/cases.json");
    ASSERT_TRUE(json);
    const auto cases = nlohmann::json::parse(*json);
    EXPECT_GE(cases.size(), 70U);
    for (const auto& one : cases) {
        const auto text = one["text"].get<std::string>();
        const auto expected = one["ids"].get<std::vector<std::int32_t>>();
        EXPECT_EQ(tokenizer->encode(text, {.add_bos = false, .parse_control = true}), expected)
            << text;
        EXPECT_EQ(tokenizer->decode(expected, {.show_control = true}), with_spaces(text));
    }
    EXPECT_EQ(tokenizer->bos(), 2);
    EXPECT_EQ(tokenizer->eos(), 1);
    EXPECT_TRUE(tokenizer->is_stop(1));
    EXPECT_TRUE(tokenizer->is_stop(106));
    EXPECT_TRUE(tokenizer->wants_bos());
}

TEST(GemmaTokenizer, RoundTripsAnyBytes) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const auto tokenizer = Tokenizer::create(*gemma_vocabulary());
    ASSERT_TRUE(tokenizer);
    std::mt19937 rng(7);
    for (int i = 0; i < 500; ++i) {
        for (const Script script :
             {Script::ascii, Script::letters, Script::any_unicode, Script::bytes}) {
            const std::string text =
                random_text(rng, script, rng() % (i % 100 == 0 ? 10'000 : 200));
            ASSERT_EQ(tokenizer->decode(tokenizer->encode(text)), with_spaces(text));
        }
    }
}

// A heap over the whole line, and merges that look at all pairs, both fail this by never ending.
TEST(GemmaTokenizer, TenMegabytesWithoutAnyWordBoundary) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const auto tokenizer = Tokenizer::create(*gemma_vocabulary());
    ASSERT_TRUE(tokenizer);
    const std::size_t n = 10'000'000;
    for (const char c : {'a', '\n', ' ', '\xFF'}) {
        const std::string line(n, c);
        const auto ids = tokenizer->encode(line);
        EXPECT_EQ(tokenizer->decode(ids), line);
        // The line is the same everywhere, so all of it but the end is one piece again and again.
        EXPECT_EQ(ids[0], ids[ids.size() / 2]);
    }
}

}  // namespace
}  // namespace unicorn::text
