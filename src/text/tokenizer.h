#pragma once
// Text to token ids and back, by SentencePiece's BPE rules.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/vocabulary.h"
#include "text/piece_table.h"

namespace unicorn::text {

struct EncodeOptions {
    bool add_bos = false;  // put BOS in front, if the vocabulary has one
    /// Recognise the text of control pieces ("<start_of_turn>", "<eos>"). Never for text that a
    /// user wrote: it could end its own turn and speak for the model.
    bool parse_control = false;
};

/// A part of a text that is tokenized as one: merges cross from part to part, but a control piece
/// is only recognised where it lies wholly within parts that allow it.
struct TextPart {
    std::string_view text;
    bool parse_control = false;
};

struct DecodeOptions {
    bool show_control = false;  // write control pieces as their text instead of leaving them out
    /// The ids continue an earlier text: keep the space that add_space_prefix put in front of it.
    bool continues = false;
};

/// A SentencePiece BPE tokenizer: ids equal those of google/sentencepiece for the same pieces,
/// without normalisation (a space is U+2581 in pieces, so U+2581 in a text is read as a space).
///
/// User-defined pieces are matched before any merge, the longest one at the leftmost place, and
/// control pieces with them where allowed. A character that no piece covers becomes byte pieces.
/// So does each byte that is not valid UTF-8, where SentencePiece would replace it by U+FFFD:
/// decode(encode(x)) == x then holds for any bytes x without U+2581, if the vocabulary has byte
/// pieces. (For the same reason a space that no piece covers, which no real vocabulary has, is one
/// byte piece.)
///
/// Immutable: any number of threads may call any const function at once. Move-only.
class Tokenizer {
public:
    /// Copies what it needs from `vocabulary`. Errors: invalid_file (see PieceTable::build).
    static Result<Tokenizer> create(const formats::Vocabulary& vocabulary);

    Tokenizer(Tokenizer&&) noexcept = default;
    Tokenizer& operator=(Tokenizer&&) noexcept = default;
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    /// Requires text below 4 GiB. Time linear in the text, whatever it holds; about 20 bytes of
    /// working memory for each byte of the longest stretch without a word boundary.
    std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
    std::vector<std::int32_t> encode(std::span<const TextPart> parts, bool add_bos) const;

    /// The bytes of a whole text; not always UTF-8, since ids may come in any order (StreamDecoder
    /// repairs that). Ids that are no piece of the vocabulary stand for nothing: an embedding may
    /// have more rows than the vocabulary pieces.
    std::string decode(std::span<const std::int32_t> ids, DecodeOptions options = {}) const;
    /// The bytes that one id stands for; empty for control pieces unless shown.
    std::string_view text(std::int32_t id, bool show_control = false) const;

    /// The piece as the vocabulary writes it: "▁the", "<0x0A>", "<eos>"; empty when out of range.
    std::string piece(std::int32_t id) const;

    std::size_t size() const { return table_.size(); }
    std::optional<std::int32_t> bos() const { return bos_; }
    std::optional<std::int32_t> eos() const { return eos_; }
    /// Whether the file asks for BOS in front of a text.
    bool wants_bos() const { return add_bos_ && bos_.has_value(); }
    /// Whether a space goes in front of a text, and is taken away again by decode().
    bool has_space_prefix() const { return add_space_prefix_; }
    /// Ids that end an answer: end of text, end of turn.
    std::span<const std::int32_t> stop_ids() const { return stop_ids_; }
    bool is_stop(std::int32_t id) const;
    /// Control and unknown pieces: they stand for no text.
    bool is_control(std::int32_t id) const;
    /// The control piece with this text.
    std::optional<std::int32_t> find_control(std::string_view text) const;

private:
    explicit Tokenizer(PieceTable table) : table_(std::move(table)) {}

    PieceTable table_;
    std::optional<std::int32_t> bos_, eos_;
    std::vector<std::int32_t> stop_ids_;
    bool add_bos_ = true;
    bool add_space_prefix_ = false;
};

}  // namespace unicorn::text
