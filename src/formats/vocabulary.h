#pragma once
// A SentencePiece vocabulary as the files hold it: from GGUF metadata, tokenizer.model or
// tokenizer.json. What it means is text/'s business.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace unicorn::formats {

/// GGUF's tokenizer.ggml.token_type; the values are those of SentencePiece's ModelProto.
enum class PieceType : std::uint8_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6,
};

struct Piece {
    std::string text;  // UTF-8, a space written as U+2581; a byte piece is "<0xNN>"
    float score = 0;   // merges with the higher score come first
    PieceType type = PieceType::normal;
};

struct Vocabulary {
    std::vector<Piece> pieces;  // the index is the token id
    std::optional<std::int32_t> bos, eos, unk, pad;
    std::vector<std::int32_t> stop_ids;  // eos, and end-of-turn where the file names one
    bool add_bos = true;
    bool add_space_prefix = false;
    std::string chat_template;  // Jinja source as the file holds it; empty when it has none
};

}  // namespace unicorn::formats
