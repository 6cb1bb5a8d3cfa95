// The tokenizer.* keys of GGUF, read and written.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/utf8.h"
#include "formats/vocabulary_checks.h"

namespace unicorn::formats {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kEot = "tokenizer.ggml.eot_token_id";
constexpr std::string_view kUnknown = "tokenizer.ggml.unknown_token_id";
constexpr std::string_view kPadding = "tokenizer.ggml.padding_token_id";
constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";
constexpr std::string_view kChatTemplate = "tokenizer.chat_template";

/// The token id under `key`, if there is one.
Result<std::optional<std::int32_t>> token_id(const Gguf& gguf, std::string_view key,
                                             std::size_t n_pieces) {
    if (gguf.find(key) == nullptr) return std::optional<std::int32_t>();
    auto id = gguf.get_uint(key);
    if (!id) return forward(id);
    if (*id >= n_pieces) {
        return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, but the vocabulary has {} pieces",
                    gguf.path(), key, *id, n_pieces);
    }
    return std::optional(static_cast<std::int32_t>(*id));
}

Result<bool> flag(const Gguf& gguf, std::string_view key, bool otherwise) {
    return gguf.find(key) == nullptr ? Result<bool>(otherwise) : gguf.get_bool(key);
}

/// The array under `key` must have an element for each piece.
Status same_length(const Gguf& gguf, std::string_view key, std::size_t n, std::size_t n_pieces) {
    if (n == n_pieces) return {};
    return fail(ErrorCode::invalid_file, "{}: key '{}' has {} elements, but '{}' has {}",
                gguf.path(), key, n, kTokens, n_pieces);
}

Status read_pieces(const Gguf& gguf, std::vector<Piece>& pieces) {
    if (const GgufEntry* entry = gguf.find(kTokens)) {
        const auto* array = std::get_if<GgufArray>(&entry->value);
        if (array != nullptr && array->count > kMaxPieces) {
            return fail(ErrorCode::invalid_file, "{}: key '{}' has {} pieces, expected at most {}",
                        gguf.path(), kTokens, array->count, kMaxPieces);
        }
    }
    auto tokens = gguf.get_strings(kTokens);
    if (!tokens) return forward(tokens);
    if (tokens->empty())
        return fail(ErrorCode::invalid_file, "{}: key '{}' is empty", gguf.path(), kTokens);
    auto scores = gguf.get_floats(kScores);
    if (!scores) return forward(scores);
    if (auto status = same_length(gguf, kScores, scores->size(), tokens->size()); !status)
        return status;
    auto types = gguf.get_ints(kTypes);
    if (!types) return forward(types);
    if (auto status = same_length(gguf, kTypes, types->size(), tokens->size()); !status)
        return status;

    pieces.resize(tokens->size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        auto type = piece_type((*types)[i]);
        if (!type) {
            return fail(ErrorCode::invalid_file, "{}: key '{}'[{}] is {}, expected 1 to 6",
                        gguf.path(), kTypes, i, (*types)[i]);
        }
        pieces[i].text = (*tokens)[i];
        pieces[i].score = (*scores)[i];
        pieces[i].type = *type;
    }
    return check_pieces(gguf.path(), pieces);
}

}  // namespace

Result<Vocabulary> read_vocabulary(const Gguf& gguf) {
    auto model = gguf.get_string(kModel);
    if (!model) return forward(model);
    if (*model != "llama") {
        return fail(ErrorCode::unsupported, "{}: key '{}' is {}, expected 'llama' (SentencePiece)",
                    gguf.path(), kModel, shown(*model));
    }
    Vocabulary vocabulary;
    if (auto status = read_pieces(gguf, vocabulary.pieces); !status) return forward(status);

    std::optional<std::int32_t> eot;
    const struct {
        std::string_view key;
        std::optional<std::int32_t>& id;
    } ids[] = {{kBos, vocabulary.bos},
               {kEos, vocabulary.eos},
               {kUnknown, vocabulary.unk},
               {kPadding, vocabulary.pad},
               {kEot, eot}};
    for (const auto& [key, id] : ids) {
        auto read = token_id(gguf, key, vocabulary.pieces.size());
        if (!read) return forward(read);
        id = *read;
    }
    if (eot) add_stop_id(vocabulary, *eot);
    add_named_stop_ids(vocabulary);

    auto add_bos = flag(gguf, kAddBos, true);
    if (!add_bos) return forward(add_bos);
    vocabulary.add_bos = *add_bos;
    // A SentencePiece vocabulary without the key has the prefix: llama.cpp's default too.
    auto add_space_prefix = flag(gguf, kAddSpacePrefix, true);
    if (!add_space_prefix) return forward(add_space_prefix);
    vocabulary.add_space_prefix = *add_space_prefix;
    if (gguf.find(kChatTemplate) != nullptr) {
        auto chat_template = gguf.get_string(kChatTemplate);
        if (!chat_template) return forward(chat_template);
        vocabulary.chat_template = *chat_template;
    }
    return vocabulary;
}

void write_vocabulary(GgufWriter& writer, const Vocabulary& vocabulary) {
    std::vector<std::string_view> tokens;
    std::vector<float> scores;
    std::vector<std::int32_t> types;
    for (const Piece& piece : vocabulary.pieces) {
        tokens.push_back(piece.text);
        scores.push_back(piece.score);
        types.push_back(static_cast<std::int32_t>(piece.type));
    }
    writer.set_string(kModel, "llama");
    writer.set_string("tokenizer.ggml.pre", "default");
    writer.set_strings(kTokens, tokens);
    writer.set_floats(kScores, scores);
    writer.set_ints(kTypes, types);
    const auto set_id = [&](std::string_view key, std::optional<std::int32_t> id) {
        if (id) writer.set_uint32(key, static_cast<std::uint32_t>(*id));
    };
    set_id(kBos, vocabulary.bos);
    set_id(kEos, vocabulary.eos);
    set_id(kUnknown, vocabulary.unk);
    set_id(kPadding, vocabulary.pad);
    for (const std::int32_t id : vocabulary.stop_ids) {
        if (vocabulary.eos != id) {
            set_id(kEot, id);  // the format has room for one
            break;
        }
    }
    writer.set_bool(kAddBos, vocabulary.add_bos);
    writer.set_bool("tokenizer.ggml.add_eos_token", false);
    writer.set_bool(kAddSpacePrefix, vocabulary.add_space_prefix);
    if (!vocabulary.chat_template.empty())
        writer.set_string(kChatTemplate, vocabulary.chat_template);
}

}  // namespace unicorn::formats
