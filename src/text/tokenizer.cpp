#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "text/bpe.h"
#include "text/utf8.h"

namespace unicorn::text {
namespace {

using formats::PieceType;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

struct ByteRange {
    std::size_t begin = 0;
    std::size_t end = 0;
};

/// Remembers which ids a word got, so that a word seen before costs one look-up. It lives for one
/// call and points into that call's text and ids: no lock, and no result depends on earlier calls.
class WordCache {
public:
    explicit WordCache(std::size_t text_bytes)
        : slots_(text_bytes < 512
                     ? 0
                     : std::bit_ceil(std::clamp<std::size_t>(text_bytes / 32, 64, 1U << 15))) {}

    struct Slot {
        std::uint32_t text_begin = 0;
        std::uint32_t ids_begin = 0;
        std::uint16_t text_length = 0;  // 0: empty
        std::uint16_t n_ids = 0;
        std::uint32_t tag = 0;
    };

    bool enabled() const { return !slots_.empty(); }
    Slot& slot(std::uint64_t hash) { return slots_[hash & (slots_.size() - 1)]; }

private:
    std::vector<Slot> slots_;  // a later word takes an earlier one's place
};

/// One call of encode().
class Encoding {
public:
    Encoding(const PieceTable& table, std::string_view text,
             std::span<const ByteRange> control_ranges, std::vector<std::int32_t>& ids)
        : table_(table),
          text_(text),
          control_ranges_(control_ranges),
          out_(table, ids),
          cache_(table.has_bytes() ? text.size() : 0) {}

    /// Cuts the text at settled pieces and at places that no merge can cross, and merges each
    /// chunk on its own.
    void run() {
        const std::size_t n_before = out_.size();
        const bool complete =
            for_each_chunk([this](std::size_t begin, std::size_t end) { return chunk(begin, end); },
                           [this](const Settled& settled) { write(settled); });
        if (complete) return;
        // A merge made an unused piece. How that is split depends on the whole text.
        out_.rewind(n_before);
        std::vector<Settled> all_settled;
        for_each_chunk([](std::size_t, std::size_t) { return true; },
                       [&](const Settled& settled) { all_settled.push_back(settled); });
        merge_text(table_, text_, all_settled, true, out_);
    }

private:
    template <typename OnChunk, typename OnSettled>
    bool for_each_chunk(OnChunk on_chunk, OnSettled on_settled) const {
        std::size_t begin = 0;  // of the chunk
        std::size_t range = 0;
        for (std::size_t at = 0; at < text_.size();) {
            const auto byte = static_cast<unsigned char>(text_[at]);
            if (table_.may_match(byte)) {
                while (range < control_ranges_.size() && control_ranges_[range].end <= at) ++range;
                const bool allowed =
                    range < control_ranges_.size() && control_ranges_[range].begin <= at;
                const PieceTable::Match match =
                    table_.match(text_.substr(at), allowed ? control_ranges_[range].end - at : 0);
                if (match.length > 0) {
                    if (at > begin && !on_chunk(begin, at)) return false;
                    on_settled({static_cast<std::uint32_t>(at),
                                static_cast<std::uint32_t>(match.length), match.id});
                    at += match.length;
                    begin = at;
                    continue;
                }
            }
            const std::size_t length = byte < 0x80 ? 1 : utf8_length(text_.substr(at));
            if (length == 0) {
                if (at > begin && !on_chunk(begin, at)) return false;
                on_settled({static_cast<std::uint32_t>(at), 1, kNoPiece});
                begin = ++at;
                continue;
            }
            if (at > begin && !table_.may_join(static_cast<unsigned char>(text_[at - 1]), byte)) {
                if (!on_chunk(begin, at)) return false;
                begin = at;
            }
            at += length;
        }
        return begin == text_.size() || on_chunk(begin, text_.size());
    }

    void write(const Settled& settled) {
        if (settled.id == kNoPiece) {
            out_.uncovered(text_.substr(settled.begin, settled.length));
        } else {
            out_.piece(settled.id);
        }
    }

    bool chunk(std::size_t begin, std::size_t end) {
        const std::string_view word = text_.substr(begin, end - begin);
        if (word.size() == 1) {
            out_.character(word);
            return true;
        }
        if (word.size() > kMaxShortChunk) return merge_text(table_, word, {}, false, out_);
        if (!cache_.enabled()) return merge_short(table_, word, out_);

        const std::uint64_t hash = hash_bytes(word);
        const auto tag = static_cast<std::uint32_t>(hash >> 32);
        WordCache::Slot& slot = cache_.slot(hash);
        if (slot.tag == tag && slot.text_length == word.size() &&
            std::memcmp(text_.data() + slot.text_begin, word.data(), word.size()) == 0) {
            out_.repeat(slot.ids_begin, slot.n_ids);
            return true;
        }
        const std::size_t ids_begin = out_.size();
        if (!merge_short(table_, word, out_)) return false;
        slot = {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(ids_begin),
                static_cast<std::uint16_t>(word.size()),
                static_cast<std::uint16_t>(out_.size() - ids_begin), tag};
        return true;
    }

    const PieceTable& table_;
    std::string_view text_;
    std::span<const ByteRange> control_ranges_;
    IdWriter out_;
    WordCache cache_;
};

}  // namespace

Result<Tokenizer> Tokenizer::create(const formats::Vocabulary& vocabulary) {
    auto table = PieceTable::build(vocabulary);
    if (!table) return forward(table);
    Tokenizer tokenizer(std::move(*table));
    tokenizer.bos_ = vocabulary.bos;
    tokenizer.eos_ = vocabulary.eos;
    tokenizer.stop_ids_ = vocabulary.stop_ids;
    tokenizer.add_bos_ = vocabulary.add_bos;
    tokenizer.add_space_prefix_ = vocabulary.add_space_prefix;
    return tokenizer;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
    const TextPart part{text, options.parse_control};
    return encode(std::span(&part, 1), options.add_bos);
}

std::vector<std::int32_t> Tokenizer::encode(std::span<const TextPart> parts, bool add_bos) const {
    // One part without anything to rewrite, the usual case for long texts, is used where it lies.
    std::string_view text;
    std::string rewritten;
    std::vector<ByteRange> control_ranges;
    const bool as_it_is = parts.size() == 1 && !add_space_prefix_ &&
                          parts[0].text.find(kSpaceSymbol) == std::string_view::npos;
    if (as_it_is) {
        text = parts[0].text;
        if (parts[0].parse_control) control_ranges.push_back({0, text.size()});
    } else {
        for (const TextPart& part : parts) {
            if (part.text.empty()) continue;
            const std::size_t begin = rewritten.size();
            if (begin == 0 && add_space_prefix_) rewritten += ' ';
            append_with_spaces(rewritten, part.text);
            if (!part.parse_control) continue;
            if (!control_ranges.empty() && control_ranges.back().end == begin) {
                control_ranges.back().end = rewritten.size();
            } else {
                control_ranges.push_back({begin, rewritten.size()});
            }
        }
        text = rewritten;
    }
    UNICORN_CHECK(text.size() <= std::numeric_limits<std::uint32_t>::max());

    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3 + 8);  // English has four bytes a token
    if (add_bos && bos_) ids.push_back(*bos_);
    Encoding(table_, text, control_ranges, ids).run();
    return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, DecodeOptions options) const {
    std::string out;
    bool at_start = add_space_prefix_ && !options.continues;
    for (const std::int32_t id : ids) {
        std::string_view bytes = text(id, options.show_control);
        if (at_start && !is_control(id) && !bytes.empty()) {
            if (bytes[0] == ' ') bytes.remove_prefix(1);
            at_start = false;
        }
        out += bytes;
    }
    return out;
}

std::string_view Tokenizer::text(std::int32_t id, bool show_control) const {
    if (id < 0 || static_cast<std::size_t>(id) >= size()) return {};
    if (!show_control && is_control(id)) return {};
    return table_.text(id);
}

std::string Tokenizer::piece(std::int32_t id) const {
    const std::string_view bytes = text(id, true);
    if (bytes.empty()) return {};
    if (table_.type(id) == PieceType::byte)
        return fmt::format("<0x{:02X}>", static_cast<unsigned char>(bytes[0]));
    std::string out;
    for (const char c : bytes) {
        if (c == ' ') {
            out += kSpaceSymbol;
        } else {
            out += c;
        }
    }
    return out;
}

bool Tokenizer::is_stop(std::int32_t id) const {
    return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

bool Tokenizer::is_control(std::int32_t id) const {
    if (id < 0 || static_cast<std::size_t>(id) >= size()) return false;
    const PieceType type = table_.type(id);
    return type == PieceType::control || type == PieceType::unknown;
}

std::optional<std::int32_t> Tokenizer::find_control(std::string_view text) const {
    for (const std::int32_t id : table_.control_ids()) {
        if (table_.text(id) == text) return id;
    }
    return std::nullopt;
}

}  // namespace unicorn::text
