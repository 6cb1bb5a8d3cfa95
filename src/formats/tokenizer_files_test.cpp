// Files that lie are in tests/malformed; what the pieces mean is tested in text/.

#include "formats/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing.h"

namespace unicorn::formats {
namespace {

void expect_tiny_pieces(const Vocabulary& read) {
    const Vocabulary expected = tiny_vocabulary();
    ASSERT_EQ(read.pieces.size(), expected.pieces.size());
    for (std::size_t i = 0; i < read.pieces.size(); ++i) {
        EXPECT_EQ(read.pieces[i].text, expected.pieces[i].text) << i;
        EXPECT_EQ(read.pieces[i].type, expected.pieces[i].type) << i;
    }
    EXPECT_EQ(read.bos, 2);
    EXPECT_EQ(read.eos, 1);
    EXPECT_EQ(read.unk, 3);
    EXPECT_EQ(read.pad, 0);
    EXPECT_TRUE(read.add_bos);
    EXPECT_FALSE(read.add_space_prefix);
    EXPECT_THAT(read.stop_ids, testing::ElementsAre(1, 5));
}

TEST(TokenizerFilesTest, SentencePieceModel) {
    const TempFolder folder;
    Vocabulary written = tiny_vocabulary();
    written.pieces[4].type = PieceType::user_defined;  // as in Gemma's own file
    written.pieces[5].type = PieceType::user_defined;
    auto read =
        read_sentencepiece_model(folder.write("tokenizer.model", sentencepiece_bytes(written)));
    ASSERT_TRUE(read) << read.error().message;
    expect_tiny_pieces(*read);
    for (std::size_t i = 0; i < written.pieces.size(); ++i)
        EXPECT_EQ(read->pieces[i].score, written.pieces[i].score);
}

TEST(TokenizerFilesTest, SentencePieceModelsOfOtherKindsAreUnsupported) {
    const std::string pieces = proto_piece({"a", 0, PieceType::normal}) +
                               proto_piece({"b", 0, PieceType::normal}) +
                               proto_piece({"c", 0, PieceType::normal});
    const std::string plain = proto_field(3, proto_field(3, 0) + proto_field(4, 0));
    const std::pair<std::string, const char*> cases[] = {
        {pieces + proto_field(2, proto_field(3, 1)) + plain,
         "trainer_spec.model_type is 1, expected 2 (BPE)"},
        {pieces + proto_field(2, proto_field(3, 2)) +
             proto_field(3, proto_field(4, 0) + proto_field(2, "map")),
         "character map of 3 bytes"},
        {pieces + proto_field(2, proto_field(3, 2)) + proto_field(3, ""),
         "remove_extra_whitespaces true"}};
    for (const auto& [bytes, message] : cases) {
        auto read = parse_sentencepiece_model("m", std::as_bytes(std::span(bytes)));
        ASSERT_FALSE(read);
        EXPECT_EQ(read.error().code, ErrorCode::unsupported);
        EXPECT_THAT(read.error().message, testing::HasSubstr(message));
    }
}

TEST(TokenizerFilesTest, TokenizerJsonRanksPiecesByMerge) {
    const TempFolder folder;
    auto read =
        read_tokenizer_json(folder.write("tokenizer.json", tokenizer_json_text(tiny_vocabulary())));
    ASSERT_TRUE(read) << read.error().message;
    expect_tiny_pieces(*read);
    EXPECT_EQ(read->pieces[262].text, "th");
    EXPECT_EQ(read->pieces[262].score, 0.0f);
    EXPECT_EQ(read->pieces[263].score, -1.0f);  // the
    EXPECT_EQ(read->pieces[264].score, -2.0f);  // U+2581 the
    EXPECT_EQ(read->pieces[266].score, -1e6f);  // t: no merge makes it
}

TEST(TokenizerFilesTest, ByteLevelBpeIsUnsupported) {
    std::string text = tokenizer_json_text(tiny_vocabulary());
    text.insert(
        1, R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},)");
    auto read = parse_tokenizer_json("tokenizer.json", text);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().message,
              "tokenizer.json: 'pre_tokenizer.pretokenizers[0].type' is ByteLevel, expected "
              "SentencePiece BPE");
    EXPECT_EQ(read.error().code, ErrorCode::unsupported);
}

TEST(TokenizerFilesTest, FolderPrefersTokenizerModelAndFindsTheTemplate) {
    const TempFolder folder;
    EXPECT_EQ(read_hf_vocabulary(folder.path()).error().code, ErrorCode::not_found);
    folder.write("tokenizer.json", tokenizer_json_text(tiny_vocabulary()));
    EXPECT_EQ(read_hf_vocabulary(folder.path())->pieces[266].score, -1e6f);
    folder.write("tokenizer.model", sentencepiece_bytes(tiny_vocabulary()));
    EXPECT_EQ(read_hf_vocabulary(folder.path())->pieces[266].score, -4.0f);
    EXPECT_EQ(read_hf_vocabulary(folder.path())->chat_template, "");

    folder.write("chat_template.json", R"({"chat_template": "from json"})");
    EXPECT_EQ(read_hf_vocabulary(folder.path())->chat_template, "from json");
    folder.write("tokenizer_config.json", R"({"add_bos_token": false, "chat_template": [
        {"name": "tools", "template": "other"}, {"name": "default", "template": "from list"}]})");
    EXPECT_EQ(read_hf_vocabulary(folder.path())->chat_template, "from list");
    EXPECT_FALSE(read_hf_vocabulary(folder.path())->add_bos);
    folder.write("tokenizer_config.json", R"({"chat_template": "from string"})");
    EXPECT_EQ(read_hf_vocabulary(folder.path())->chat_template, "from string");
    folder.write("chat_template.jinja", "from jinja");
    EXPECT_EQ(read_hf_vocabulary(folder.path())->chat_template, "from jinja");

    folder.write("generation_config.json",
                 R"({"eos_token_id": [1, 4, 262144]})");  // one has no piece
    EXPECT_THAT(read_hf_vocabulary(folder.path())->stop_ids, testing::ElementsAre(1, 5, 4));
}

TEST(TokenizerFilesTest, SpecialTokensOfTokenizerConfigByName) {
    const TempFolder folder;
    Vocabulary vocabulary = tiny_vocabulary();
    vocabulary.pieces[1].text = "</s>";
    vocabulary.pieces[2].text = "<s>";
    folder.write("tokenizer.json", tokenizer_json_text(vocabulary));
    folder.write(
        "tokenizer_config.json",
        R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "add_bos_token": true})");
    auto read = read_hf_vocabulary(folder.path());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->bos, 2);
    EXPECT_EQ(read->eos, 1);
    EXPECT_TRUE(read->add_bos);
    EXPECT_THAT(read->stop_ids, testing::ElementsAre(1, 5));
}

}  // namespace
}  // namespace unicorn::formats
