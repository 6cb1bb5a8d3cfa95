// The small files beside a vocabulary: chat template, special tokens, stop ids.

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "formats/hf_config.h"
#include "formats/json_walk.h"
#include "formats/tokenizer_files.h"
#include "formats/utf8.h"
#include "formats/vocabulary_checks.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kMaxTemplateBytes = 1u << 20;
constexpr std::size_t kMaxTokenizerConfigBytes = 16u << 20;  // Gemma 3's has 1.2 MB

struct TokenizerConfig {
    std::string chat_template;
    std::string bos, eos, pad;  // the tokens' texts
    std::optional<bool> add_bos;
};

std::string in_folder(const std::string& folder, std::string_view name) {
    return (std::filesystem::path(folder) / name).string();
}

bool exists(const std::string& path) {
    std::error_code ignored;  // what cannot be looked at is reported by whoever opens it
    return std::filesystem::exists(path, ignored);
}

/// tokenizer_config.json, or chat_template.json, which holds one of its members.
Result<TokenizerConfig> read_tokenizer_config(const std::string& path) {
    TokenizerConfig config;
    auto text = read_file(path, kMaxTokenizerConfigBytes);
    if (!text) return forward(text);
    std::string template_name;  // of the element of a list of templates being read
    const auto string_of = [&](const JsonPath& at, const JsonValue& value,
                               std::string& out) -> Status {
        if (std::holds_alternative<std::nullptr_t>(value)) return {};
        const auto* found = std::get_if<std::string>(&value);
        if (found == nullptr) {
            return fail(ErrorCode::invalid_file, "{}: key {} is {}, expected a string", path,
                        shown(at.text()), json_kind(value));
        }
        out = *found;
        return {};
    };
    auto status = walk_json(path, *text, [&](const JsonPath& at, const JsonValue& value) -> Status {
        if (at.size() == 0 && !std::holds_alternative<JsonObject>(value)) {
            return fail(ErrorCode::invalid_file, "{}: the file is {}, expected an object", path,
                        json_kind(value));
        }
        if (at.is(0, "chat_template")) {
            if (at.size() == 1 && !std::holds_alternative<JsonArray>(value))
                return string_of(at, value, config.chat_template);
            // [{"name": "default", "template": "..."}, ...]: the default, else the first
            if (at.is(2, "name")) return string_of(at, value, template_name);
            if (at.is(2, "template") &&
                (template_name == "default" || config.chat_template.empty())) {
                return string_of(at, value, config.chat_template);
            }
            return {};
        }
        for (const auto& [key, out] :
             {std::pair("bos_token", &config.bos), std::pair("eos_token", &config.eos),
              std::pair("pad_token", &config.pad)}) {
            if (!at.is(0, key)) continue;
            const bool object = at.size() == 1 && std::holds_alternative<JsonObject>(value);
            if ((at.size() == 1 && !object) || (at.size() == 2 && at.is(1, "content")))
                return string_of(at, value, *out);
        }
        if (at.is(0, "add_bos_token") && at.size() == 1) {
            if (const auto* flag = std::get_if<bool>(&value)) config.add_bos = *flag;
        }
        return {};
    });
    if (!status) return forward(status);
    return config;
}

/// The id of the piece `text`, if there is one.
std::optional<std::int32_t> find_piece(const Vocabulary& vocabulary, std::string_view text) {
    const auto it = std::ranges::find(vocabulary.pieces, text, &Piece::text);
    if (text.empty() || it == vocabulary.pieces.end()) return {};
    return static_cast<std::int32_t>(it - vocabulary.pieces.begin());
}

Status read_chat_template(const std::string& folder, const TokenizerConfig& config,
                          Vocabulary& vocabulary) {
    vocabulary.chat_template = config.chat_template;
    if (const std::string path = in_folder(folder, "chat_template.jinja"); exists(path)) {
        auto text = read_file(path, kMaxTemplateBytes);
        if (!text) return forward(text);
        if (!valid_utf8(*text)) return fail(ErrorCode::invalid_file, "{}: not UTF-8", path);
        vocabulary.chat_template = std::move(*text);
    } else if (const std::string json = in_folder(folder, "chat_template.json");
               config.chat_template.empty() && exists(json)) {
        auto read = read_tokenizer_config(json);
        if (!read) return forward(read);
        vocabulary.chat_template = std::move(read->chat_template);
    }
    return {};
}

/// Ids that config.json and generation_config.json give for what is still unknown; ids without a
/// piece (config.json's of an image token, say) are left alone.
Status read_config_ids(const std::string& folder, Vocabulary& vocabulary) {
    const auto valid = [&](std::int64_t id) {
        return id >= 0 && static_cast<std::size_t>(id) < vocabulary.pieces.size();
    };
    std::vector<std::int64_t> stops;
    if (exists(in_folder(folder, "config.json"))) {
        auto config = read_hf_config(folder);
        if (!config) return forward(config);
        if (!vocabulary.bos && config->bos_token_id && valid(*config->bos_token_id))
            vocabulary.bos = static_cast<std::int32_t>(*config->bos_token_id);
        if (!vocabulary.pad && config->pad_token_id && valid(*config->pad_token_id))
            vocabulary.pad = static_cast<std::int32_t>(*config->pad_token_id);
        stops = config->eos_token_ids;
    }
    auto generation = read_hf_generation_config(folder);
    if (!generation) return forward(generation);
    stops.insert(stops.end(), generation->eos_token_ids.begin(), generation->eos_token_ids.end());
    for (const std::int64_t id : stops) {
        if (!valid(id)) continue;
        if (!vocabulary.eos) vocabulary.eos = static_cast<std::int32_t>(id);
        add_stop_id(vocabulary, static_cast<std::int32_t>(id));
    }
    return {};
}

}  // namespace

Result<Vocabulary> read_hf_vocabulary(const std::string& folder) {
    const std::string model = in_folder(folder, "tokenizer.model");
    const std::string json = in_folder(folder, "tokenizer.json");
    if (!exists(model) && !exists(json)) {
        return fail(ErrorCode::not_found, "{}: holds neither tokenizer.model nor tokenizer.json",
                    folder);
    }
    auto vocabulary = exists(model) ? read_sentencepiece_model(model) : read_tokenizer_json(json);
    if (!vocabulary) return forward(vocabulary);

    TokenizerConfig config;
    if (const std::string path = in_folder(folder, "tokenizer_config.json"); exists(path)) {
        auto read = read_tokenizer_config(path);
        if (!read) return forward(read);
        config = std::move(*read);
    }
    if (!vocabulary->bos) vocabulary->bos = find_piece(*vocabulary, config.bos);
    if (!vocabulary->eos) vocabulary->eos = find_piece(*vocabulary, config.eos);
    if (!vocabulary->pad) vocabulary->pad = find_piece(*vocabulary, config.pad);
    if (config.add_bos) vocabulary->add_bos = *config.add_bos;
    if (auto status = read_chat_template(folder, config, *vocabulary); !status)
        return forward(status);
    if (auto status = read_config_ids(folder, *vocabulary); !status) return forward(status);
    add_named_stop_ids(*vocabulary);
    return vocabulary;
}

}  // namespace unicorn::formats
