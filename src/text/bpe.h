#pragma once
// Byte-pair merging as SentencePiece does it: of all adjacent symbols whose joined text is a piece,
// the pair with the highest score is merged first, the leftmost one of equals, until none is left.
// Source: google/sentencepiece, src/bpe_model.cc, Model::SampleEncode.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/piece_table.h"

namespace unicorn::text {

/// A stretch of text whose id is settled before merging, and which no merge may touch.
struct Settled {
    std::uint32_t begin = 0;
    std::uint32_t length = 0;
    std::int32_t id = kNoPiece;  // kNoPiece: a byte that is not part of a UTF-8 character
};

/// Collects ids; writes what no piece covers as byte pieces, or as one unknown id a run.
class IdWriter {
public:
    IdWriter(const PieceTable& table, std::vector<std::int32_t>& ids) : table_(table), ids_(ids) {}

    void piece(std::int32_t id) {
        ids_.push_back(id);
        in_unknown_run_ = false;
    }
    /// One character, or one invalid byte, that no merge has touched.
    void character(std::string_view character);
    void uncovered(std::string_view bytes);
    /// Repeats ids written before.
    void repeat(std::size_t begin, std::size_t count);

    std::size_t size() const { return ids_.size(); }
    void rewind(std::size_t size) {
        ids_.resize(size);
        in_unknown_run_ = false;
    }

private:
    const PieceTable& table_;
    std::vector<std::int32_t>& ids_;
    bool in_unknown_run_ = false;
};

/// In bytes. Random letters in words of 250 bytes take 51 ms by merge_short() and 70 ms by
/// merge_text() for 300 kB (tokenizer_bench, random_words); a symbol's place must fit into a byte.
inline constexpr std::size_t kMaxShortChunk = 250;

/// Merges a chunk of at most kMaxShortChunk bytes of valid UTF-8 by looking over all its pairs for
/// every merge: quadratic, but in the first cache level.
/// False, with nothing of use written, when a merge made an unused piece: which split SentencePiece
/// then falls back to depends on the whole text (merge_text() knows).
bool merge_short(const PieceTable& table, std::string_view chunk, IdWriter& out);

/// Merges a text of any length below 4 GiB, in time linear in it for all practical purposes (see
/// MergeQueue). `settled` is in order of position and covers every invalid byte. Unused pieces are
/// split again into what they were made of, as SentencePiece does: by the pair of that text that
/// was proposed last anywhere in the text.
/// With `resegment` false it stops at an unused piece, like merge_short().
bool merge_text(const PieceTable& table, std::string_view text, std::span<const Settled> settled,
                bool resegment, IdWriter& out);

}  // namespace unicorn::text
