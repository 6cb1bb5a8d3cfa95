#pragma once
// For the tests of file formats, here and in tests/: a folder that goes away, and tiny contents.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/check.h"
#include "formats/vocabulary.h"

namespace unicorn::formats {

/// A fresh folder, removed with what is in it.
class TempFolder {
public:
    TempFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "unicorn_test_XXXXXX").string();
        UNICORN_CHECK(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TempFolder() { std::filesystem::remove_all(path_); }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    std::string path() const { return path_.string(); }
    std::string file(std::string_view name) const { return (path_ / name).string(); }

    /// Writes `bytes` to the file called `name` and returns its path.
    std::string write(std::string_view name, std::string_view bytes) const {
        std::ofstream out(file(name), std::ios::binary);
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        UNICORN_CHECK(out.good());
        return file(name);
    }

private:
    std::filesystem::path path_;
};

/// Six control and unknown pieces, the 256 bytes, and a few words: pad 0, eos 1, bos 2, unk 3,
/// <start_of_turn> 4, <end_of_turn> 5.
inline Vocabulary tiny_vocabulary() {
    Vocabulary vocabulary;
    for (const char* text : {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"}) {
        vocabulary.pieces.push_back({text, 0, PieceType::control});
    }
    vocabulary.pieces[3].type = PieceType::unknown;
    for (int byte = 0; byte < 256; ++byte) {
        constexpr char kHex[] = "0123456789ABCDEF";
        const std::string text = {'<', '0', 'x', kHex[byte / 16], kHex[byte % 16], '>'};
        vocabulary.pieces.push_back({text, 0, PieceType::byte});
    }
    float score = 0;
    for (const char* text : {"th", "the", "\u2581the", "\u2581", "t", "h", "e", "a", "\u00E9"}) {
        vocabulary.pieces.push_back({text, score, PieceType::normal});
        score -= 1;
    }
    vocabulary.pad = 0;
    vocabulary.eos = 1;
    vocabulary.bos = 2;
    vocabulary.unk = 3;
    vocabulary.stop_ids = {1, 5};
    vocabulary.chat_template = "{{ bos_token }}<start_of_turn>";
    return vocabulary;
}

}  // namespace unicorn::formats
