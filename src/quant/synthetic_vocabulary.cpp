#include "quant/synthetic_vocabulary.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <unordered_set>

#include "base/check.h"

namespace unicorn::quant {
namespace {

using formats::PieceType;

constexpr std::string_view kSpace = "\u2581";
constexpr std::string_view kLetters = "etaoinshrdlucmfwypvbgkjqxz";  // the most frequent first

// Gemma 3's, without the parts for images: a system prompt goes into the first user turn.
constexpr std::string_view kChatTemplate =
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] "
    "+ '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = "
    "messages %}"
    "{% endif %}{% for message in loop_messages %}{% set role = 'model' if message['role'] == "
    "'assistant' "
    "else message['role'] %}{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') + "
    "(message['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

// The empty string and each letter.
std::string_view optional_letter(std::size_t i) {
    return i == 0 ? std::string_view() : kLetters.substr(i - 1, 1);
}

}  // namespace

formats::Vocabulary synthetic_vocabulary(std::size_t n_pieces) {
    UNICORN_CHECK(n_pieces >= kFewestPieces && n_pieces <= kGemmaPieces);
    formats::Vocabulary vocabulary;
    vocabulary.pieces.reserve(n_pieces);
    const auto add = [&](std::string text, PieceType type) {
        // The order is the rank: an earlier piece is merged first.
        vocabulary.pieces.push_back(
            {std::move(text), -static_cast<float>(vocabulary.pieces.size()), type});
    };
    for (const char* text : {"<pad>", "<eos>", "<bos>"}) add(text, PieceType::control);
    add("<unk>", PieceType::unknown);
    for (int i = 0; i < 101; ++i) add(fmt::format("<unused{}>", i), PieceType::user_defined);
    for (const char* text : {"<start_of_turn>", "<end_of_turn>"}) add(text, PieceType::control);
    for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), PieceType::byte);
    for (char c = 33; c < 127; ++c) add(std::string(1, c), PieceType::normal);
    add(std::string(kSpace), PieceType::normal);
    add("\n", PieceType::normal);
    UNICORN_CHECK(vocabulary.pieces.size() == kFewestPieces);

    // [space] a b [c] [d]: 985,608 spellings of more words than Gemma 3 has pieces.
    std::unordered_set<std::string> seen;
    for (std::size_t d = 0; d <= kLetters.size(); ++d) {
        for (const std::string_view space : {kSpace, std::string_view()}) {
            for (const char a : kLetters) {
                for (const char b : kLetters) {
                    for (std::size_t c = 0; c <= kLetters.size(); ++c) {
                        if (vocabulary.pieces.size() == n_pieces) break;
                        std::string word(space);
                        word += a;
                        word += b;
                        word += optional_letter(c);
                        word += optional_letter(d);
                        if (seen.insert(word).second) add(std::move(word), PieceType::normal);
                    }
                }
            }
        }
    }
    UNICORN_CHECK(vocabulary.pieces.size() == n_pieces);
    vocabulary.pad = 0;
    vocabulary.eos = 1;
    vocabulary.bos = 2;
    vocabulary.unk = 3;
    vocabulary.stop_ids = {1, 106};
    vocabulary.chat_template = kChatTemplate;
    return vocabulary;
}

}  // namespace unicorn::quant
