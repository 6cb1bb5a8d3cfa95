// Our tokenizer against Debian's sentencepiece library, both built from the same pieces.

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <cstring>
#include <random>
#include <set>

#include "formats/tokenizer_files.h"
#include "text/testing.h"
#include "text/tokenizer.h"

namespace unicorn::text {
namespace {

using formats::Piece;
using formats::PieceType;
using formats::Vocabulary;

// Protocol buffers by hand: only what sentencepiece_model.proto's ModelProto needs.
void put_varint(std::string& to, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
    to += static_cast<char>(value);
}
void put_uint(std::string& to, std::uint32_t field, std::uint64_t value) {
    put_varint(to, field << 3);
    put_varint(to, value);
}
void put_bytes(std::string& to, std::uint32_t field, std::string_view bytes) {
    put_varint(to, field << 3 | 2);
    put_varint(to, bytes.size());
    to += bytes;
}
void put_float(std::string& to, std::uint32_t field, float value) {
    put_varint(to, field << 3 | 5);
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    to.append(raw, sizeof raw);
}

/// `parse_control`: control pieces become user-defined ones, which is how SentencePiece is made to
/// find them.
std::string model_proto(const Vocabulary& vocabulary, bool parse_control) {
    std::string model;
    bool has_bytes = false;
    for (const Piece& piece : vocabulary.pieces) {
        PieceType type = piece.type;
        if (type == PieceType::control && parse_control) type = PieceType::user_defined;
        has_bytes |= type == PieceType::byte;
        std::string message;
        put_bytes(message, 1, piece.text);
        put_float(message, 2, piece.score);
        put_uint(message, 3, static_cast<std::uint64_t>(type));
        put_bytes(model, 1, message);
    }
    std::string trainer;
    put_uint(trainer, 3, 2);  // model_type: BPE
    put_uint(trainer, 35, has_bytes ? 1 : 0);
    put_bytes(model, 2, trainer);
    std::string normalizer;
    put_bytes(normalizer, 1, "identity");
    put_uint(normalizer, 3, vocabulary.add_space_prefix ? 1 : 0);
    put_uint(normalizer, 4, 0);  // remove_extra_whitespaces
    put_uint(normalizer, 5, 1);  // escape_whitespaces
    put_bytes(model, 3, normalizer);
    return model;
}

/// Both tokenizers for one vocabulary.
struct Pair {
    explicit Pair(const Vocabulary& vocabulary, bool parse_control_ = false)
        : ours(*Tokenizer::create(vocabulary)), parse_control(parse_control_) {
        const auto status = theirs.LoadFromSerializedProto(model_proto(vocabulary, parse_control));
        if (!status.ok()) ADD_FAILURE() << status.ToString();
    }

    /// Whether both give the same ids; says where they part if not.
    testing::AssertionResult agree_on(std::string_view text) const {
        std::vector<int> expected;
        const auto status = theirs.Encode(text, &expected);
        if (!status.ok()) return testing::AssertionFailure() << status.ToString();
        const std::vector<std::int32_t> actual =
            ours.encode(text, {.add_bos = false, .parse_control = parse_control});
        if (actual == expected) return testing::AssertionSuccess();
        const auto [a, e] =
            std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
        auto failure = testing::AssertionFailure();
        failure << "ids part at index " << a - actual.begin() << ": ";
        for (auto i = a; i < actual.end() && i < a + 5; ++i) failure << ours.piece(*i) << " ";
        failure << "but SentencePiece has ";
        for (auto i = e; i < expected.end() && i < e + 5; ++i) failure << ours.piece(*i) << " ";
        if (text.size() < 200) failure << "in: " << testing::PrintToString(std::string(text));
        return failure;
    }

    Tokenizer ours;
    sentencepiece::SentencePieceProcessor theirs;
    bool parse_control;
};

TEST(TokenizerOracle, ValidationText) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const Pair pair(*gemma_vocabulary());
    const auto text = read_shared("corpus/valid.txt.xz");
    UNICORN_SKIP_WITHOUT(text);
    ASSERT_GT(text->size(), 900'000U);
    EXPECT_TRUE(pair.agree_on(*text));  // as one text
    std::size_t begin = 0;
    for (std::size_t line = 0; begin < text->size();
         ++line) {  // and line by line, without the cache
        const std::size_t end = std::min(text->find('\n', begin), text->size());
        ASSERT_TRUE(pair.agree_on(std::string_view(*text).substr(begin, end - begin)))
            << "line " << line + 1;
        begin = end + 1;
    }
}

TEST(TokenizerOracle, BundledModelsOwnFile) {
    const std::string path =
        std::string(UNICORN_SOURCE_DIR) + "/training/tokenizer/tokenizer.model";
    const auto vocabulary = formats::read_sentencepiece_model(path);
    if (!vocabulary && vocabulary.error().code == ErrorCode::not_found) {
        GTEST_SKIP() << vocabulary.error().message;
    }
    ASSERT_TRUE(vocabulary) << vocabulary.error().message;
    // The file calls the turn markers user-defined, so SentencePiece finds them in every text.
    Pair pair(*vocabulary, true);
    ASSERT_TRUE(pair.theirs.Load(path).ok());
    std::mt19937 rng(5);
    for (int i = 0; i < 2000; ++i) {
        const Script script = i % 3 == 0   ? Script::ascii
                              : i % 3 == 1 ? Script::letters
                                           : Script::any_unicode;
        ASSERT_TRUE(pair.agree_on(random_text(rng, script, rng() % 300))) << "text " << i;
    }
    EXPECT_TRUE(
        pair.agree_on("<start_of_turn>user\nA story.<end_of_turn>\n<start_of_turn>model\n"));
    const auto text = read_shared("corpus/valid.txt.xz");
    UNICORN_SKIP_WITHOUT(text);
    EXPECT_TRUE(pair.agree_on(*text));
}

TEST(TokenizerOracle, RandomTextsWithGemmasVocabulary) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const Pair pair(*gemma_vocabulary());
    std::mt19937 rng(1);
    for (int i = 0; i < 3000; ++i) {
        const Script script = i % 3 == 0   ? Script::ascii
                              : i % 3 == 1 ? Script::letters
                                           : Script::any_unicode;
        ASSERT_TRUE(pair.agree_on(random_text(rng, script, rng() % 300))) << "text " << i;
    }
    for (int i = 0; i < 12; ++i) {
        const Script script = i % 3 == 0   ? Script::ascii
                              : i % 3 == 1 ? Script::letters
                                           : Script::any_unicode;
        ASSERT_TRUE(pair.agree_on(random_text(rng, script, 30'000))) << "long text " << i;
    }
}

TEST(TokenizerOracle, RandomPiecesOfGemmasVocabularyInARow) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    for (const bool parse_control : {false, true}) {
        const Pair pair(*gemma_vocabulary(), parse_control);
        std::mt19937 rng(2);
        for (int i = 0; i < 2000; ++i) {
            std::string text;
            for (int n = static_cast<int>(rng() % 40); n > 0; --n) {
                // Half of them from the first 1,000, where special and user-defined pieces are.
                const std::size_t id =
                    rng() % (n % 2 == 0 ? 1000 : gemma_vocabulary()->pieces.size());
                if (gemma_vocabulary()->pieces[id].type == PieceType::unknown) continue;
                text += gemma_vocabulary()->pieces[id].text;
            }
            ASSERT_TRUE(pair.agree_on(text)) << "text " << i;
        }
    }
}

TEST(TokenizerOracle, LongRuns) {
    UNICORN_SKIP_WITHOUT(gemma_vocabulary());
    const Pair pair(*gemma_vocabulary());
    for (const char* unit :
         {"a",      "ab",     "e",  "the", " the",   " ",          "\n",   "\t", "=",  "-",  "0",
          "\u4E00", "\u00E9", "ha", "_",   "\u2581", "\U0001F984", "\x01", "<b", "</", ".\n"}) {
        for (const std::size_t n : {1,  2,  3,  5,  8,   13,  31,  32,  33,   47,    48,
                                    49, 63, 64, 65, 100, 249, 250, 251, 1000, 20'000}) {
            std::string text;
            for (std::size_t i = 0; i < n; ++i) text += unit;
            ASSERT_TRUE(pair.agree_on(text))
                << n << " times " << testing::PrintToString(std::string(unit));
            ASSERT_TRUE(pair.agree_on("x" + text + "y"))
                << n << " times " << testing::PrintToString(std::string(unit));
        }
    }
}

/// A vocabulary that makes trouble: scores with ties, pieces whose parts are no pieces, unused
/// pieces, user-defined pieces that overlap, characters that no piece covers.
Vocabulary random_vocabulary(std::mt19937& rng) {
    Vocabulary vocabulary;
    vocabulary.pieces.push_back({"<unk>", 0, PieceType::unknown});
    vocabulary.pieces.push_back({"<s>", 0, PieceType::control});
    vocabulary.unk = 0;
    vocabulary.bos = 1;
    vocabulary.add_space_prefix = rng() % 2 == 0;
    if (rng() % 2 == 0) add_byte_pieces(vocabulary);
    const char* const alphabet[] = {"a", "b", "c", "d", "\u2581", "\u00E9", "\u4E00"};
    const bool many_ties = rng() % 2 == 0;
    const bool with_unused = rng() % 2 == 0;
    std::set<std::string> seen;
    for (int i = 0; i < 60; ++i) {
        std::string text;
        const std::size_t length = i < 7 ? 1 : 2 + rng() % 5;
        for (std::size_t j = 0; j < length; ++j)
            text += alphabet[i < 7 ? i : rng() % std::size(alphabet)];
        // SentencePiece would write a space without a piece as the three bytes of U+2581, and not
        // read them back as a space; we write the byte of a space.
        if (i < 7 && i != 4 && rng() % 5 == 0) continue;
        if (!seen.insert(text).second) continue;
        PieceType type = PieceType::normal;
        if (with_unused && rng() % 3 == 0) type = PieceType::unused;
        if (rng() % 12 == 0) type = PieceType::user_defined;
        const float score = -static_cast<float>(many_ties ? rng() % 4 : rng() % 1000);
        vocabulary.pieces.push_back({text, score, type});
    }
    return vocabulary;
}

TEST(TokenizerOracle, RandomVocabularies) {
    std::mt19937 rng(3);
    const char* const alphabet[] = {"a",      "b", "c", "d", " ",  "\u00E9",
                                    "\u4E00", "a", "b", "x", "<s>"};
    for (int v = 0; v < 400; ++v) {
        const bool parse_control = v % 4 == 0;
        const Pair pair(random_vocabulary(rng), parse_control);
        for (int i = 0; i < 30; ++i) {
            std::string text;
            for (std::size_t n = rng() % (i % 10 == 0 ? 2000 : 60); n > 0; --n)
                text += alphabet[rng() % std::size(alphabet)];
            ASSERT_TRUE(pair.agree_on(text)) << "vocabulary " << v << ", text " << i;
        }
    }
}

TEST(TokenizerOracle, DecodesAlike) {
    std::mt19937 rng(4);
    for (int v = 0; v < 50; ++v) {
        const Vocabulary vocabulary = random_vocabulary(rng);
        const Pair pair(vocabulary);
        for (int i = 0; i < 20; ++i) {
            const std::vector<int> ids =
                pair.ours.encode(random_text(rng, Script::letters, rng() % 50));
            // SentencePiece writes its own surface for unknown pieces.
            if (std::find(ids.begin(), ids.end(), 0) != ids.end()) continue;
            std::string expected;
            ASSERT_TRUE(pair.theirs.Decode(ids, &expected).ok());
            EXPECT_EQ(pair.ours.decode(ids), expected);
        }
    }
}

}  // namespace
}  // namespace unicorn::text
