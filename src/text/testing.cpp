#include "text/testing.h"

#include <lzma.h>

#include <array>
#include <cstdint>
#include <iterator>
#include <limits>

#include "base/check.h"
#include "base/file.h"
#include "formats/gguf.h"
#include "formats/testing.h"
#include "text/piece_table.h"

namespace unicorn::text {
namespace {

using formats::PieceType;

std::string decompress_xz(std::string_view packed) {
    lzma_stream stream = LZMA_STREAM_INIT;
    UNICORN_CHECK(lzma_stream_decoder(&stream, std::numeric_limits<std::uint64_t>::max(), 0) ==
                  LZMA_OK);
    stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
    stream.avail_in = packed.size();
    std::string out;
    std::array<std::uint8_t, 1 << 16> buffer{};
    lzma_ret result = LZMA_OK;
    while (result == LZMA_OK) {
        stream.next_out = buffer.data();
        stream.avail_out = buffer.size();
        result = lzma_code(&stream, LZMA_FINISH);
        out.append(reinterpret_cast<const char*>(buffer.data()), buffer.size() - stream.avail_out);
    }
    lzma_end(&stream);
    UNICORN_CHECK(result == LZMA_STREAM_END);
    return out;
}

void append_utf8(std::string& to, std::uint32_t c) {
    if (c < 0x80) {
        to += static_cast<char>(c);
    } else if (c < 0x800) {
        to += static_cast<char>(0xC0 | c >> 6);
        to += static_cast<char>(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        to += static_cast<char>(0xE0 | c >> 12);
        to += static_cast<char>(0x80 | (c >> 6 & 0x3F));
        to += static_cast<char>(0x80 | (c & 0x3F));
    } else {
        to += static_cast<char>(0xF0 | c >> 18);
        to += static_cast<char>(0x80 | (c >> 12 & 0x3F));
        to += static_cast<char>(0x80 | (c >> 6 & 0x3F));
        to += static_cast<char>(0x80 | (c & 0x3F));
    }
}

}  // namespace

std::optional<std::string> read_shared(std::string_view name) {
    const std::string path = std::string(UNICORN_SOURCE_DIR) + "/../shared/" + std::string(name);
    const auto contents = read_file(path, std::size_t{1} << 30);
    if (!contents) return std::nullopt;
    return name.size() > 3 && name.substr(name.size() - 3) == ".xz" ? decompress_xz(*contents)
                                                                    : *contents;
}

const formats::Vocabulary* gemma_vocabulary() {
    static const std::optional<formats::Vocabulary> vocabulary =
        []() -> std::optional<formats::Vocabulary> {
        const auto gguf_bytes = read_shared("vectors/tokenizer/gemma3-vocab.gguf.xz");
        if (!gguf_bytes) return std::nullopt;
        const formats::TempFolder folder;
        const auto gguf = formats::Gguf::open(folder.write("vocabulary.gguf", *gguf_bytes));
        UNICORN_CHECK(gguf.has_value());
        auto read = formats::read_vocabulary(*gguf);
        UNICORN_CHECK(read.has_value());
        return std::move(*read);
    }();
    return vocabulary ? &*vocabulary : nullptr;
}

void add_byte_pieces(formats::Vocabulary& vocabulary) {
    for (unsigned byte = 0; byte < 256; ++byte) {
        vocabulary.pieces.push_back({fmt::format("<0x{:02X}>", byte), 0, PieceType::byte});
    }
}

formats::Vocabulary letters_vocabulary() {
    formats::Vocabulary vocabulary;
    for (const char* text :
         {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"}) {
        vocabulary.pieces.push_back({text, 0, PieceType::control});
    }
    vocabulary.pieces[3].type = PieceType::unknown;
    vocabulary.pad = 0;
    vocabulary.eos = 1;
    vocabulary.bos = 2;
    vocabulary.unk = 3;
    vocabulary.stop_ids = {1, 5};
    add_byte_pieces(vocabulary);
    float score = 0;
    for (const char* text :
         {"ab", "\u2581a", "cd", "abc", "\u2581ab", "abab",   "bc", "aa", "aaaa", "de", "cde",
          "a",  "b",       "c",  "d",   "e",        "\u2581", "\n", "u",  "s",    "r"}) {
        vocabulary.pieces.push_back({text, score, PieceType::normal});
        score -= 1;
    }
    vocabulary.pieces.push_back({"\n\n", 0, PieceType::user_defined});
    vocabulary.pieces.push_back({"<b>", 0, PieceType::user_defined});
    vocabulary.pieces.push_back({"<b><b>", 0, PieceType::user_defined});
    return vocabulary;
}

std::string random_text(std::mt19937& rng, Script script, std::size_t n) {
    const auto below = [&](std::uint32_t limit) {
        return static_cast<std::uint32_t>(rng() % limit);
    };
    // Where Gemma's pieces are: Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, General
    // Punctuation, kana, CJK, Hangul, emoji.
    constexpr std::uint32_t kBlocks[][2] = {
        {0x20, 0x7F},     {0xA0, 0x24F},    {0x370, 0x3FF},   {0x400, 0x45F},   {0x5D0, 0x5EA},
        {0x620, 0x64A},   {0x900, 0x97F},   {0x2000, 0x206F}, {0x2580, 0x259F}, {0x3040, 0x30FF},
        {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0xE000, 0xE0FF}, {0xFFF0, 0xFFFF}, {0x1F300, 0x1FAFF}};
    std::string out;
    std::uint32_t block = 0;
    for (std::size_t i = 0; i < n; ++i) {
        switch (script) {
            case Script::ascii:
                out += static_cast<char>(below(8) == 0 ? below(0x80) : 0x20 + below(0x5F));
                break;
            case Script::letters: out += "aaaabbbccdde  \n<>/ab"[below(20)]; break;
            case Script::any_unicode: {
                if (below(4) == 0) block = below(std::size(kBlocks));
                std::uint32_t c =
                    kBlocks[block][0] + below(kBlocks[block][1] - kBlocks[block][0] + 1);
                if (below(20) == 0) c = below(0x110000);
                if (c >= 0xD800 && c < 0xE000) c = ' ';
                append_utf8(out, c);
                break;
            }
            case Script::bytes: out += static_cast<char>(below(256)); break;
        }
    }
    return out;
}

std::string with_spaces(std::string_view text) {
    std::string out;
    append_with_spaces(out, text);
    return out;
}

}  // namespace unicorn::text
