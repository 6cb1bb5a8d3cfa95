#include "text/bpe.h"

#include <array>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "text/merge_queue.h"
#include "text/utf8.h"

namespace unicorn::text {

using formats::PieceType;

void IdWriter::character(std::string_view character) {
    const auto first = static_cast<unsigned char>(character[0]);
    const std::int32_t id = first < 0x80 ? table_.find_ascii(first) : table_.find(character);
    if (id == kNoPiece) {
        uncovered(character);
    } else {
        piece(id);
    }
}

void IdWriter::uncovered(std::string_view bytes) {
    if (table_.has_bytes()) {
        for (const char byte : bytes) piece(table_.byte_id(static_cast<unsigned char>(byte)));
        return;
    }
    if (!in_unknown_run_) ids_.push_back(table_.unknown_id());
    in_unknown_run_ = true;
}

void IdWriter::repeat(std::size_t begin, std::size_t count) {
    // Reserved first: the source is the same vector.
    if (ids_.capacity() - ids_.size() < count) ids_.reserve(2 * (ids_.size() + count));
    for (std::size_t i = begin; i < begin + count; ++i) ids_.push_back(ids_[i]);
    in_unknown_run_ = false;
}

bool merge_short(const PieceTable& table, std::string_view chunk, IdWriter& out) {
    struct Symbol {
        std::uint8_t begin;
        std::int32_t id;         // kNoPiece: a character that no merge has touched
        std::int32_t joined;     // the piece this and the next symbol would make
        std::uint32_t priority;  // of that merge; 0 for none
    };
    UNICORN_DCHECK(chunk.size() <= kMaxShortChunk);
    std::array<Symbol, kMaxShortChunk + 1> symbols;
    std::size_t n = 0;
    for (std::size_t at = 0; at < chunk.size(); ++n) {
        symbols[n].begin = static_cast<std::uint8_t>(at);
        symbols[n].id = kNoPiece;
        at += utf8_length(chunk.substr(at));
    }
    symbols[n].begin = static_cast<std::uint8_t>(chunk.size());

    const auto propose = [&](std::size_t i) {
        symbols[i].priority = 0;
        if (i + 1 >= n) return;
        const std::size_t begin = symbols[i].begin;
        symbols[i].joined = table.find(chunk.substr(begin, symbols[i + 2].begin - begin));
        if (symbols[i].joined != kNoPiece) symbols[i].priority = table.priority(symbols[i].joined);
    };
    for (std::size_t i = 0; i < n; ++i) propose(i);
    for (;;) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < n; ++i) {
            if (symbols[i].priority > symbols[best].priority) best = i;
        }
        if (symbols[best].priority == 0) break;
        symbols[best].id = symbols[best].joined;
        for (std::size_t i = best + 1; i < n; ++i) symbols[i] = symbols[i + 1];
        --n;
        propose(best);
        if (best > 0) propose(best - 1);
    }
    for (std::size_t i = 0; i < n; ++i) {
        if (symbols[i].id == kNoPiece) {
            out.character(chunk.substr(symbols[i].begin, symbols[i + 1].begin - symbols[i].begin));
            continue;
        }
        if (table.type(symbols[i].id) == PieceType::unused) return false;
        out.piece(symbols[i].id);
    }
    return true;
}

namespace {

/// The symbols of one text while they are merged. The state of a symbol lies at its first byte, its
/// length also at its last, so both neighbours are found without links.
class Merger {
public:
    Merger(const PieceTable& table, std::string_view text, std::span<const Settled> settled)
        : table_(table), text_(text), cells_(text.size()), queue_(text.size()) {
        std::size_t n_settled = 0;
        for (std::uint32_t at = 0; at < text.size();) {
            if (n_settled < settled.size() && settled[n_settled].begin == at) {
                set(at, settled[n_settled].length,
                    kFrozen | static_cast<std::uint32_t>(settled[n_settled].id));
                at += settled[n_settled++].length;
                continue;
            }
            const std::size_t length = utf8_length(text.substr(at));
            UNICORN_DCHECK(length > 0);
            set(at, static_cast<std::uint32_t>(length), kCharacter);
            at += static_cast<std::uint32_t>(length);
        }
        for (std::uint32_t at = 0; at < text.size(); at += cells_[at].length) propose(at);
    }

    void run() {
        Candidate best;
        while (queue_.pop(best)) {
            // Out of date unless both symbols are still what they were: alive, and as long
            // together.
            const std::uint32_t left = best.left;
            if (cells_[left].state == kInside) continue;
            const std::uint32_t right = left + cells_[left].length;
            if (right >= text_.size()) continue;
            const std::uint32_t length = cells_[left].length + cells_[right].length;
            if (length != table_.text(best.piece).size()) continue;

            cells_[right].state = kInside;
            set(left, length, static_cast<std::uint32_t>(best.piece));
            if (left > 0) propose(left - cells_[left - 1].length);
            propose(left);
        }
    }

    bool write(bool resegment, IdWriter& out) const {
        for (std::uint32_t at = 0; at < text_.size(); at += cells_[at].length) {
            const Cell& cell = cells_[at];
            const std::string_view symbol = text_.substr(at, cell.length);
            if (cell.state == kCharacter) {
                out.character(symbol);
            } else if (cell.state == (kFrozen | static_cast<std::uint32_t>(kNoPiece))) {
                out.uncovered(symbol);
            } else if ((cell.state & kFrozen) != 0) {
                out.piece(static_cast<std::int32_t>(cell.state & ~kFrozen));
            } else if (table_.type(static_cast<std::int32_t>(cell.state)) != PieceType::unused) {
                out.piece(static_cast<std::int32_t>(cell.state));
            } else if (!resegment) {
                return false;
            } else {
                split(static_cast<std::int32_t>(cell.state), out);
            }
        }
        return true;
    }

private:
    // States of a symbol besides the id that a merge gave it.
    static constexpr std::uint32_t kFrozen =
        0x40000000;  // a flag; ids are smaller (PieceTable::build)
    static constexpr std::uint32_t kCharacter = 0x80000000;  // not merged yet
    static constexpr std::uint32_t kInside = 0x80000001;     // not the beginning of a symbol
    struct Cell {
        std::uint32_t length = 0;
        std::uint32_t state = kInside;
    };

    void set(std::uint32_t at, std::uint32_t length, std::uint32_t state) {
        cells_[at + length - 1].length = length;
        cells_[at] = {length, state};
    }
    bool frozen(std::uint32_t at) const {
        return cells_[at].state != kCharacter && (cells_[at].state & kFrozen) != 0;
    }

    void propose(std::uint32_t left) {
        const std::uint32_t right = left + cells_[left].length;
        if (right >= text_.size() || frozen(left) || frozen(right)) return;
        const std::int32_t piece =
            table_.find(text_.substr(left, cells_[left].length + cells_[right].length));
        if (piece == kNoPiece) return;
        queue_.push(table_.priority(piece), {left, piece});
        if (table_.type(piece) == PieceType::unused) origins_[piece] = cells_[left].length;
    }

    /// Writes the two parts of an unused piece, splitting those that are unused again.
    void split(std::int32_t piece, IdWriter& out) const {
        std::vector<std::string_view> parts{table_.text(piece)};
        while (!parts.empty()) {
            const std::string_view part = parts.back();
            parts.pop_back();
            const std::int32_t id = table_.find(part);
            const auto origin = origins_.find(id);
            if (id == kNoPiece) {
                out.uncovered(part);
            } else if (table_.type(id) != PieceType::unused || origin == origins_.end()) {
                out.piece(id);
            } else {
                parts.push_back(part.substr(origin->second));
                parts.push_back(part.substr(0, origin->second));
            }
        }
    }

    const PieceTable& table_;
    std::string_view text_;
    std::vector<Cell> cells_;
    MergeQueue queue_;
    std::unordered_map<std::int32_t, std::uint32_t>
        origins_;  // unused piece -> length of its left part
};

}  // namespace

bool merge_text(const PieceTable& table, std::string_view text, std::span<const Settled> settled,
                bool resegment, IdWriter& out) {
    Merger merger(table, text, settled);
    merger.run();
    return merger.write(resegment, out);
}

}  // namespace unicorn::text
