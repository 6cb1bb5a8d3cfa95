#pragma once
// For the tests and benches of text/: the shared vectors, small vocabularies, random texts.

#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "formats/vocabulary.h"

namespace unicorn::text {

/// A file of the folder shared/ beside the repository, decompressed if it ends in ".xz"; nothing if
/// it is not there.
std::optional<std::string> read_shared(std::string_view name);

/// The vocabulary of Gemma 3 (262,144 pieces), read once; nullptr if it is not there.
const formats::Vocabulary* gemma_vocabulary();

/// Appends the 256 byte pieces.
void add_byte_pieces(formats::Vocabulary& vocabulary);

/// Gemma's special pieces 0 to 5 ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>",
/// "<end_of_turn>"), byte pieces, and pieces that merge the letters "abcde" and spaces.
formats::Vocabulary letters_vocabulary();

enum class Script { ascii, letters, any_unicode, bytes };
/// A text of `n` characters (of bytes for Script::bytes). `letters` draws from a few letters,
/// spaces and line ends, so that merges are frequent.
std::string random_text(std::mt19937& rng, Script script, std::size_t n);

/// `text` with every U+2581 turned into a space: what a round trip gives back.
std::string with_spaces(std::string_view text);

}  // namespace unicorn::text

/// Skips a test aloud where the vectors are missing.
#define UNICORN_SKIP_WITHOUT(thing) \
    if (!(thing)) GTEST_SKIP() << "the shared vectors are not beside this checkout"
