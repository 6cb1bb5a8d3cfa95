// tokenizer.json: a BPE model's vocabulary, merges and added tokens.

#include <algorithm>
#include <unordered_map>

#include "base/file.h"
#include "formats/json_walk.h"
#include "formats/tokenizer_files.h"
#include "formats/utf8.h"
#include "formats/vocabulary_checks.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kMaxJsonBytes = 64u << 20;  // Gemma 3's has 33 MB
constexpr std::size_t kMaxMerges = 1u << 20;      // Gemma 3 has 514,906
constexpr float kScoreWithoutMerge = -1e6f;

struct AddedToken {
    std::optional<std::uint64_t> id;
    std::string content;
    bool special = false;
};

/// Strings end to end in one buffer: half a million merges are too many for std::string each.
class StringList {
public:
    std::size_t size() const { return ends_.size(); }
    std::string_view operator[](std::size_t i) const {
        const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
        return std::string_view(text_).substr(begin, ends_[i] - begin);
    }
    void push_back(std::string_view text) {
        text_ += text;
        ends_.push_back(static_cast<std::uint32_t>(text_.size()));  // below kMaxJsonBytes
    }
    void extend_last(std::string_view text) {
        text_ += text;
        ends_.back() = static_cast<std::uint32_t>(text_.size());
    }

private:
    std::string text_;
    std::vector<std::uint32_t> ends_;
};

class TokenizerJson {
public:
    explicit TokenizerJson(const std::string& name) : name_(name) {}

    Status operator()(const JsonPath& path, const JsonValue& value) {
        if (path.size() == 0) {
            return std::holds_alternative<JsonObject>(value)
                       ? Status()
                       : bad("the file is {}, expected an object", json_kind(value));
        }
        if (path.is(0, "model")) return model(path, value);
        if (path.is(0, "added_tokens")) return added_token(path, value);
        if (path.is(0, "normalizer") || path.is(0, "pre_tokenizer") || path.is(0, "decoder")) {
            const auto* text = std::get_if<std::string>(&value);
            if (text != nullptr && path.is(path.size() - 1, "type")) {
                if (*text == "ByteLevel")
                    return fail(ErrorCode::unsupported,
                                "{}: {} is ByteLevel, expected SentencePiece BPE", name_,
                                shown(path.text()));
                if (*text == "Prepend" && path.is(0, "normalizer")) add_space_prefix_ = true;
            }
        }
        return {};
    }

    Result<Vocabulary> finish() {
        if (type_.empty()) return bad("model.type is missing");
        if (n_vocab_ == 0) return bad("model.vocab is missing or empty");
        Vocabulary vocabulary;
        vocabulary.pieces = std::move(pieces_);
        if (auto status = place_added_tokens(vocabulary.pieces); !status) return forward(status);
        std::unordered_map<std::string_view, std::size_t> ids;
        ids.reserve(vocabulary.pieces.size());
        for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
            const Piece& piece = vocabulary.pieces[i];
            if (i >= present_.size() || !present_[i]) return bad("id {} has no piece", i);
            if (!ids.emplace(piece.text, i).second)
                return bad("piece {} has two ids", shown(piece.text));
        }
        for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
            const auto it = ids.find(merges_[rank]);
            if (it == ids.end())
                return bad("model.merges[{}] makes {}, which is not in model.vocab", rank,
                           shown(merges_[rank]));
            float& score = vocabulary.pieces[it->second].score;
            if (score == kScoreWithoutMerge) score = -static_cast<float>(rank);
        }
        const auto find = [&](std::string_view text) -> std::optional<std::int32_t> {
            const auto it = ids.find(text);
            return it == ids.end() ? std::nullopt
                                   : std::optional(static_cast<std::int32_t>(it->second));
        };
        vocabulary.unk = find(unknown_);
        if (vocabulary.unk)
            vocabulary.pieces[static_cast<std::size_t>(*vocabulary.unk)].type = PieceType::unknown;
        vocabulary.bos = find("<bos>");
        vocabulary.eos = find("<eos>");
        vocabulary.pad = find("<pad>");
        vocabulary.add_bos = vocabulary.bos.has_value();
        vocabulary.add_space_prefix = add_space_prefix_;
        add_named_stop_ids(vocabulary);
        return vocabulary;
    }

private:
    template <typename... Args>
    tl::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) const {
        return fail(ErrorCode::invalid_file, "{}: {}", name_,
                    fmt::format(format, std::forward<Args>(args)...));
    }

    Status model(const JsonPath& path, const JsonValue& value) {
        if (path.is(1, "type") && path.size() == 2) {
            const auto* text = std::get_if<std::string>(&value);
            if (text == nullptr)
                return bad("model.type is {}, expected a string", json_kind(value));
            if (*text != "BPE")
                return fail(ErrorCode::unsupported, "{}: model.type is {}, expected 'BPE'", name_,
                            shown(*text));
            type_ = *text;
        } else if (path.is(1, "unk_token") && path.size() == 2) {
            if (const auto* text = std::get_if<std::string>(&value)) unknown_ = *text;
        } else if (path.is(1, "vocab")) {
            return vocab(path, value);
        } else if (path.is(1, "merges")) {
            return merge(path, value);
        }
        return {};
    }

    Status vocab(const JsonPath& path, const JsonValue& value) {
        if (path.size() == 2) {
            return std::holds_alternative<JsonObject>(value)
                       ? Status()
                       : bad("model.vocab is {}, expected an object", json_kind(value));
        }
        const std::string& text = path[2].key;
        const auto* id = std::get_if<std::uint64_t>(&value);
        if (id == nullptr || path.size() != 3)
            return bad("model.vocab: the id of {} is {}, expected an integer from 0", shown(text),
                       json_kind(value));
        ++n_vocab_;
        Piece piece{text, kScoreWithoutMerge,
                    byte_piece_value(text) ? PieceType::byte : PieceType::normal};
        return place(*id, std::move(piece), "model.vocab");
    }

    /// Puts `piece` at `id`, which must be free.
    Status place(std::uint64_t id, Piece piece, std::string_view where) {
        if (id >= kMaxPieces)
            return bad("{}: the id of {} is {}, expected at most {}", where, shown(piece.text), id,
                       kMaxPieces - 1);
        if (id >= pieces_.size()) {
            pieces_.resize(id + 1);
            present_.resize(id + 1);
        }
        if (present_[id])
            return bad("{}: id {} is both {} and {}", where, id, shown(pieces_[id].text),
                       shown(piece.text));
        present_[id] = true;
        pieces_[id] = std::move(piece);
        return {};
    }

    /// "left right" in older files, ["left", "right"] in newer ones.
    Status merge(const JsonPath& path, const JsonValue& value) {
        const auto* text = std::get_if<std::string>(&value);
        if (path.size() == 2) {
            return std::holds_alternative<JsonArray>(value)
                       ? Status()
                       : bad("model.merges is {}, expected an array", json_kind(value));
        }
        const std::size_t rank = path[2].index;
        if (!path[2].element) return bad("model.merges is not an array");
        if (path.size() == 3) {
            if (rank == kMaxMerges)
                return bad("model.merges has more than {} elements", kMaxMerges);
            if (auto status = last_merge_complete(); !status) return status;
            if (std::holds_alternative<JsonArray>(value)) {
                merges_.push_back("");
                parts_ = 0;
                return {};
            }
            const std::size_t space = text == nullptr ? std::string::npos : text->find(' ');
            if (space == std::string::npos) return bad("model.merges[{}] is not a pair", rank);
            merges_.push_back(std::string_view(*text).substr(0, space));
            merges_.extend_last(std::string_view(*text).substr(space + 1));
            parts_ = 2;
            return {};
        }
        if (path.size() != 4 || text == nullptr || ++parts_ > 2)
            return bad("model.merges[{}] is not a pair", rank);
        merges_.extend_last(*text);
        return {};
    }

    Status last_merge_complete() const {
        if (merges_.size() == 0 || parts_ == 2) return {};
        return bad("model.merges[{}] is not a pair", merges_.size() - 1);
    }

    Status added_token(const JsonPath& path, const JsonValue& value) {
        if (path.size() == 1) {
            return std::holds_alternative<JsonArray>(value)
                       ? Status()
                       : bad("added_tokens is {}, expected an array", json_kind(value));
        }
        if (!path[1].element) return bad("added_tokens is not an array");
        if (path.size() == 2) {
            if (!std::holds_alternative<JsonObject>(value))
                return bad("{} is {}, expected an object", path.text(), json_kind(value));
            if (added_.size() == kMaxPieces)
                return bad("added_tokens has more than {} elements", kMaxPieces);
            added_.emplace_back();
            return {};
        }
        AddedToken& token = added_.back();
        if (path.is(2, "id")) {
            const auto* id = std::get_if<std::uint64_t>(&value);
            if (id == nullptr)
                return bad("{} is {}, expected an integer from 0", path.text(), json_kind(value));
            token.id = *id;
        } else if (path.is(2, "content")) {
            const auto* text = std::get_if<std::string>(&value);
            if (text == nullptr)
                return bad("{} is {}, expected a string", path.text(), json_kind(value));
            token.content = *text;
        } else if (path.is(2, "special")) {
            const auto* special = std::get_if<bool>(&value);
            if (special == nullptr)
                return bad("{} is {}, expected a boolean", path.text(), json_kind(value));
            token.special = *special;
        }
        return {};
    }

    Status place_added_tokens(std::vector<Piece>& pieces) {
        if (auto status = last_merge_complete(); !status) return status;
        pieces_.swap(pieces);
        for (std::size_t i = 0; i < added_.size(); ++i) {
            AddedToken& token = added_[i];
            if (!token.id || token.content.empty())
                return bad("added_tokens[{}] lacks {}", i, token.id ? "content" : "id");
            const bool control = token.special || token.content == "<start_of_turn>" ||
                                 token.content == "<end_of_turn>";
            const PieceType type = control ? PieceType::control : PieceType::user_defined;
            if (*token.id < pieces_.size() && present_[*token.id] &&
                pieces_[*token.id].text == token.content) {
                pieces_[*token.id].type = type;
                continue;
            }
            if (auto status = place(*token.id, {token.content, kScoreWithoutMerge, type},
                                    fmt::format("added_tokens[{}]", i));
                !status)
                return status;
        }
        pieces_.swap(pieces);
        return {};
    }

    const std::string& name_;
    std::string type_;
    std::string unknown_ = "<unk>";
    std::size_t n_vocab_ = 0;
    std::vector<Piece> pieces_;
    std::vector<bool> present_;  // [pieces_.size()]
    StringList merges_;          // what each makes
    std::size_t parts_ = 0;      // of the last merge so far
    std::vector<AddedToken> added_;
    bool add_space_prefix_ = false;
};

}  // namespace

Result<Vocabulary> parse_tokenizer_json(const std::string& name, std::string_view text) {
    TokenizerJson reader(name);
    if (auto status = walk_json(name, text, std::ref(reader)); !status) return forward(status);
    return reader.finish();
}

Result<Vocabulary> read_tokenizer_json(const std::string& path) {
    auto file = MappedFile::open(path);
    if (!file) return forward(file);
    const auto bytes = file->bytes();
    if (bytes.size() > kMaxJsonBytes) {
        return fail(ErrorCode::invalid_file, "{}: {} bytes, expected at most {}", path,
                    bytes.size(), kMaxJsonBytes);
    }
    auto vocabulary =
        parse_tokenizer_json(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (auto status = file->unchanged(); !status) return forward(status);
    return vocabulary;
}

}  // namespace unicorn::formats
