#include "formats/vocabulary_checks.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "base/check.h"
#include "formats/utf8.h"

namespace unicorn::formats {

std::optional<PieceType> piece_type(std::int64_t id) {
    if (id < static_cast<std::int64_t>(PieceType::normal) ||
        id > static_cast<std::int64_t>(PieceType::byte))
        return {};
    return static_cast<PieceType>(id);
}

std::optional<std::uint8_t> byte_piece_value(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return {};
    std::uint8_t value = 0;
    const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, value, 16);
    if (error != std::errc() || end != text.data() + 5) return {};
    return value;
}

Status check_pieces(const std::string& path, std::span<const Piece> pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        if (!std::isfinite(pieces[i].score)) {
            return fail(ErrorCode::invalid_file, "{}: piece {} ({}) has a score of {}", path, i,
                        shown(pieces[i].text), pieces[i].score);
        }
        if (pieces[i].type == PieceType::byte && !byte_piece_value(pieces[i].text)) {
            return fail(ErrorCode::invalid_file,
                        "{}: piece {} ({}) is a byte piece, expected '<0xNN>'", path, i,
                        shown(pieces[i].text));
        }
    }
    return {};
}

void add_stop_id(Vocabulary& vocabulary, std::int32_t id) {
    UNICORN_CHECK(id >= 0 && static_cast<std::size_t>(id) < vocabulary.pieces.size());
    if (std::ranges::find(vocabulary.stop_ids, id) == vocabulary.stop_ids.end())
        vocabulary.stop_ids.push_back(id);
}

void add_named_stop_ids(Vocabulary& vocabulary) {
    if (vocabulary.eos) {
        std::erase(vocabulary.stop_ids, *vocabulary.eos);
        vocabulary.stop_ids.insert(vocabulary.stop_ids.begin(), *vocabulary.eos);
    }
    for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
        const Piece& piece = vocabulary.pieces[i];
        if ((piece.type == PieceType::control || piece.type == PieceType::user_defined) &&
            piece.text == "<end_of_turn>") {
            add_stop_id(vocabulary, static_cast<std::int32_t>(i));
        }
    }
}

}  // namespace unicorn::formats
