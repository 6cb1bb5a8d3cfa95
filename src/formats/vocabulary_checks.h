#pragma once
// What holds for a Vocabulary whichever file it came from.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "formats/vocabulary.h"

namespace unicorn::formats {

/// Twice Gemma 3's; bounds what a hostile file can make us hold.
inline constexpr std::size_t kMaxPieces = 524288;

/// The type with SentencePiece's number `id`, if there is one.
std::optional<PieceType> piece_type(std::int64_t id);

/// "<0x0A>" -> 10; nothing for any other text.
std::optional<std::uint8_t> byte_piece_value(std::string_view text);

/// Errors: invalid_file, for a score that is not finite and a byte piece that is not "<0xNN>";
/// `path` opens the message.
Status check_pieces(const std::string& path, std::span<const Piece> pieces);

/// Adds `id` to the stop ids unless it is there. Requires 0 <= id < pieces.size().
void add_stop_id(Vocabulary& vocabulary, std::int32_t id);

/// Adds eos (in front) and a control or user-defined "<end_of_turn>".
void add_named_stop_ids(Vocabulary& vocabulary);

}  // namespace unicorn::formats
