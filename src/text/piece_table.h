#pragma once
// The pieces of a vocabulary, laid out for looking up: all text in one arena, a flat hash of the
// pieces that merges can make, a trie of the pieces that are matched whole.
//
// Inside text/ a space is a space: pieces are stored with U+2581 turned into ' ', so that neither
// the input nor the output has to be rewritten.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/vocabulary.h"

namespace unicorn::text {

inline constexpr std::int32_t kNoPiece = -1;

/// Appends `text` with every U+2581 turned into a space.
void append_with_spaces(std::string& to, std::string_view text);

/// Hash of a short text, for tables that live in memory only.
std::uint64_t hash_bytes(std::string_view text) noexcept;

class PieceTable {
public:
    /// Builds in one pass over the vocabulary; copies what it needs. Where two pieces have the same
    /// text, the lower id is the one that text maps to.
    /// Errors: invalid_file for an empty vocabulary, a score that is not finite, special ids out of
    /// range, or no way to write a character that no piece covers (byte pieces or an unknown id).
    static Result<PieceTable> build(const formats::Vocabulary& vocabulary);

    std::size_t size() const { return entries_.size(); }

    /// The bytes that piece `id` stands for; a byte piece is its one byte.
    std::string_view text(std::int32_t id) const {
        const Entry& entry = entries_[static_cast<std::size_t>(id)];
        return {arena_.data() + entry.offset, entry.length};
    }
    /// The type the tokenizer works by: that of the file, except that special ids and Gemma's turn
    /// and image markers are control pieces even where the file calls them user-defined.
    formats::PieceType type(std::int32_t id) const {
        return entries_[static_cast<std::size_t>(id)].type;
    }

    /// The piece that a merge with this outcome makes (normal or unused), or kNoPiece.
    std::int32_t find(std::string_view text) const noexcept;
    /// The same for one ASCII character.
    std::int32_t find_ascii(unsigned char c) const { return ascii_ids_[c]; }
    /// Merges go from the highest priority to the lowest; never 0. The order is that of the scores.
    std::uint32_t priority(std::int32_t id) const {
        return entries_[static_cast<std::size_t>(id)].priority;
    }
    /// False where no piece that merges can make has byte `b` right after byte `a`: then no merge
    /// ever crosses such a place, and the texts on its two sides can be tokenized apart.
    bool may_join(unsigned char a, unsigned char b) const {
        return (joins_[a * 4U + b / 64U] >> (b % 64U) & 1U) != 0;
    }

    /// Byte pieces for all 256 bytes exist.
    bool has_bytes() const { return has_bytes_; }
    std::int32_t byte_id(unsigned char byte) const { return byte_ids_[byte]; }

    /// A piece that is matched whole, before any merge.
    struct Match {
        std::int32_t id = kNoPiece;
        std::size_t length = 0;
    };
    /// Whether match() can find anything in a text that begins with `byte`.
    bool may_match(unsigned char byte) const { return roots_[byte] != kNoNode; }
    /// The longest user-defined piece that `text` begins with, or a longer control piece if that
    /// lies within the first `control_bytes`.
    Match match(std::string_view text, std::size_t control_bytes) const noexcept;

    /// Control and unknown pieces, in the order of their ids.
    std::span<const std::int32_t> control_ids() const { return control_ids_; }
    /// What a character that no piece covers becomes where there are no byte pieces.
    std::int32_t unknown_id() const { return unknown_id_; }

private:
    static constexpr std::uint32_t kNoNode = 0xFFFFFFFF;
    struct Entry {  // what a merge needs to know of a piece, in one cache line
        std::uint32_t offset = 0;
        std::uint32_t length = 0;
        std::uint32_t priority = 0;
        formats::PieceType type = formats::PieceType::normal;
    };
    struct Slot {
        std::uint32_t tag;  // the upper half of the hash
        std::int32_t id;
    };
    struct Node {  // of the trie: siblings are a list
        std::uint32_t child = kNoNode;
        std::uint32_t sibling = kNoNode;
        std::int32_t id = kNoPiece;
        unsigned char byte = 0;
        bool control = false;
    };

    PieceTable() = default;
    void insert(std::int32_t id);
    void insert_whole(std::int32_t id);

    std::string arena_;
    std::vector<Entry> entries_;
    std::vector<Slot> slots_;  // a power of two, at most half full, linear probing
    std::vector<Node> nodes_;
    std::vector<std::int32_t> control_ids_;
    std::array<std::uint32_t, 256> roots_{};
    std::array<std::int32_t, 256> byte_ids_{};
    std::array<std::int32_t, 128> ascii_ids_{};
    std::array<std::uint64_t, 1024> joins_{};
    bool has_bytes_ = false;
    std::int32_t unknown_id_ = kNoPiece;
};

}  // namespace unicorn::text
