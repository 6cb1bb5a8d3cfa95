#include "text/piece_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/check.h"

namespace unicorn::text {
namespace {

using formats::PieceType;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// Files disagree on these: tokenizer.model calls the turn markers user-defined, GGUF files call
// them control. Text of a user must never become one, so here they are always control pieces.
constexpr std::string_view kControlTexts[] = {"<start_of_turn>", "<end_of_turn>",
                                              "<start_of_image>", "<end_of_image>"};

__extension__ using Uint128 = unsigned __int128;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
    const Uint128 product = static_cast<Uint128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

template <typename T>
std::uint64_t load(const char* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

/// Finite floats as integers of the same order; none maps to 0.
std::uint32_t ordered(float score) {
    const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);  // -0 is 0
    return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// The byte of "<0xNN>".
std::optional<unsigned char> byte_of(std::string_view text) {
    const auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    };
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
    const int high = digit(text[3]);
    const int low = digit(text[4]);
    if (high < 0 || low < 0) return std::nullopt;
    return static_cast<unsigned char>(high * 16 + low);
}

}  // namespace

void append_with_spaces(std::string& to, std::string_view text) {
    while (!text.empty()) {
        const std::size_t at = std::min(text.find(kSpaceSymbol), text.size());
        to += text.substr(0, at);
        text.remove_prefix(at);
        if (!text.empty()) {
            to += ' ';
            text.remove_prefix(kSpaceSymbol.size());
        }
    }
}

std::uint64_t hash_bytes(std::string_view text) noexcept {
    constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
    constexpr std::uint64_t kOdd = 0xE7037ED1A0B428DB;   // as in wyhash
    const char* p = text.data();
    std::size_t n = text.size();
    std::uint64_t hash = n * kSeed;
    for (; n > 8; p += 8, n -= 8) hash = mix(hash ^ load<std::uint64_t>(p), kOdd);
    std::uint64_t tail = 0;
    if (n >= 4) {
        tail = load<std::uint32_t>(p) | load<std::uint32_t>(p + n - 4) << 32;
    } else if (n > 0) {
        tail = load<unsigned char>(p) | load<unsigned char>(p + n / 2) << 8 |
               load<unsigned char>(p + n - 1) << 16;
    }
    return mix(hash ^ tail ^ kSeed, kOdd);
}

Result<PieceTable> PieceTable::build(const formats::Vocabulary& vocabulary) {
    const std::vector<formats::Piece>& pieces = vocabulary.pieces;
    const std::size_t n = pieces.size();
    if (n == 0) return fail(ErrorCode::invalid_file, "the vocabulary has no pieces");
    if (n > std::numeric_limits<std::int32_t>::max() / 4) {
        return fail(ErrorCode::invalid_file,
                    "the vocabulary has {} pieces, more than ids can number", n);
    }
    std::size_t n_bytes = 0;
    for (const formats::Piece& piece : pieces) n_bytes += piece.text.size();
    if (n_bytes > std::numeric_limits<std::uint32_t>::max()) {
        return fail(ErrorCode::invalid_file,
                    "the vocabulary's pieces have {} bytes, more than 4 GiB", n_bytes);
    }

    PieceTable table;
    table.byte_ids_.fill(kNoPiece);
    table.ascii_ids_.fill(kNoPiece);
    table.roots_.fill(kNoNode);
    table.slots_.resize(std::bit_ceil(2 * n), Slot{0, kNoPiece});
    table.arena_.reserve(n_bytes);
    table.entries_.resize(n);

    for (std::size_t i = 0; i < n; ++i) table.entries_[i].type = pieces[i].type;
    const auto make_control = [&](std::optional<std::int32_t> id, const char* name) -> Status {
        if (!id) return {};
        if (*id < 0 || static_cast<std::size_t>(*id) >= n) {
            return fail(ErrorCode::invalid_file,
                        "the vocabulary's {} id is {}, but there are {} pieces", name, *id, n);
        }
        PieceType& type = table.entries_[static_cast<std::size_t>(*id)].type;
        if (type != PieceType::unknown) type = PieceType::control;
        return {};
    };
    Status status = make_control(vocabulary.bos, "BOS");
    if (status) status = make_control(vocabulary.eos, "EOS");
    if (status) status = make_control(vocabulary.pad, "padding");
    for (const std::int32_t id : vocabulary.stop_ids) {
        if (status) status = make_control(id, "stop");
    }
    if (vocabulary.unk) {
        if (status) status = make_control(vocabulary.unk, "unknown");
        if (status)
            table.entries_[static_cast<std::size_t>(*vocabulary.unk)].type = PieceType::unknown;
    }
    if (!status) return forward(status);

    std::size_t n_byte_pieces = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const formats::Piece& piece = pieces[i];
        const auto id = static_cast<std::int32_t>(i);
        Entry& entry = table.entries_[i];
        PieceType& type = entry.type;
        if (!std::isfinite(piece.score)) {
            return fail(ErrorCode::invalid_file, "piece {} of the vocabulary has the score {}", i,
                        piece.score);
        }
        entry.priority = ordered(piece.score);
        entry.offset = static_cast<std::uint32_t>(table.arena_.size());
        if (type == PieceType::user_defined &&
            std::find(std::begin(kControlTexts), std::end(kControlTexts), piece.text) !=
                std::end(kControlTexts)) {
            type = PieceType::control;
        }
        if (type == PieceType::byte) {
            const auto byte = byte_of(piece.text);
            if (!byte) {
                return fail(ErrorCode::invalid_file,
                            "piece {} of the vocabulary is a byte piece, but not \"<0xNN>\"", i);
            }
            table.arena_.push_back(static_cast<char>(*byte));
            if (table.byte_ids_[*byte] == kNoPiece) {
                table.byte_ids_[*byte] = id;
                ++n_byte_pieces;
            }
        } else {
            append_with_spaces(table.arena_, piece.text);
        }
        entry.length = static_cast<std::uint32_t>(table.arena_.size() - entry.offset);

        const std::string_view text = table.text(id);
        if (type == PieceType::control || type == PieceType::unknown)
            table.control_ids_.push_back(id);
        if (type == PieceType::unknown && table.unknown_id_ == kNoPiece) table.unknown_id_ = id;
        // A piece with a literal space can never be found, since every space of a text is a U+2581
        // to SentencePiece; here that would be mistaken for the same piece with U+2581.
        if (text.empty() || piece.text.find(' ') != std::string::npos) continue;
        switch (type) {
            case PieceType::normal:
            case PieceType::unused: table.insert(id); break;
            case PieceType::control:
            case PieceType::unknown:
            case PieceType::user_defined: table.insert_whole(id); break;
            case PieceType::byte: break;
        }
    }
    table.has_bytes_ = n_byte_pieces == 256;
    if (vocabulary.unk) table.unknown_id_ = *vocabulary.unk;
    if (!table.has_bytes_ && table.unknown_id_ == kNoPiece) {
        return fail(ErrorCode::invalid_file,
                    "the vocabulary has {} of the 256 byte pieces and no unknown id: some text "
                    "could not be written",
                    n_byte_pieces);
    }
    return table;
}

void PieceTable::insert(std::int32_t id) {
    const std::string_view piece = text(id);
    const std::uint64_t hash = hash_bytes(piece);
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
        if (slots_[at].id == kNoPiece) {
            slots_[at] = {tag, id};
            break;
        }
        if (slots_[at].tag == tag && text(slots_[at].id) == piece) return;
    }
    if (piece.size() == 1 && static_cast<unsigned char>(piece[0]) < 128) {
        ascii_ids_[static_cast<unsigned char>(piece[0])] = id;
    }
    for (std::size_t i = 1; i < piece.size(); ++i) {
        const auto a = static_cast<unsigned char>(piece[i - 1]);
        const auto b = static_cast<unsigned char>(piece[i]);
        joins_[a * 4U + b / 64U] |= std::uint64_t{1} << (b % 64U);
    }
}

std::int32_t PieceTable::find(std::string_view piece) const noexcept {
    const std::uint64_t hash = hash_bytes(piece);
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash & mask; slots_[at].id != kNoPiece; at = (at + 1) & mask) {
        if (slots_[at].tag == tag && text(slots_[at].id) == piece) return slots_[at].id;
    }
    return kNoPiece;
}

void PieceTable::insert_whole(std::int32_t id) {
    std::uint32_t* link = nullptr;
    std::uint32_t node = kNoNode;
    for (const char c : text(id)) {
        const auto byte = static_cast<unsigned char>(c);
        link = node == kNoNode ? &roots_[byte] : &nodes_[node].child;
        while (*link != kNoNode && nodes_[*link].byte != byte) link = &nodes_[*link].sibling;
        if (*link == kNoNode) {
            *link = static_cast<std::uint32_t>(nodes_.size());
            node = *link;  // before push_back moves what `link` points to
            Node fresh;
            fresh.byte = byte;
            nodes_.push_back(fresh);
        } else {
            node = *link;
        }
    }
    Node& last = nodes_[node];
    if (last.id != kNoPiece) return;
    last.id = id;
    last.control = type(id) != PieceType::user_defined;
}

PieceTable::Match PieceTable::match(std::string_view text,
                                    std::size_t control_bytes) const noexcept {
    Match best;
    std::uint32_t node = kNoNode;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        node = i == 0 ? roots_[byte] : nodes_[node].child;
        while (node != kNoNode && nodes_[node].byte != byte) node = nodes_[node].sibling;
        if (node == kNoNode) break;
        if (nodes_[node].id != kNoPiece && (!nodes_[node].control || i < control_bytes)) {
            best = {nodes_[node].id, i + 1};
        }
    }
    return best;
}

}  // namespace unicorn::text
