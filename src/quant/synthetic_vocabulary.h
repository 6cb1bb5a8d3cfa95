#pragma once

#include <cstddef>

#include "formats/vocabulary.h"

namespace unicorn::quant {

inline constexpr std::size_t kGemmaPieces = 262144;
inline constexpr std::size_t kFewestPieces = 4 + 101 + 2 + 256 + 96;  // all but the words

/// A vocabulary with the places of Gemma 3's: pad 0, eos 1, bos 2, unk 3, <start_of_turn> 105,
/// <end_of_turn> 106, then the 256 bytes, single characters, and made-up words of two to four
/// letters with and without a leading space, each word reachable by merges of shorter ones.
/// Requires kFewestPieces <= n_pieces <= kGemmaPieces.
formats::Vocabulary synthetic_vocabulary(std::size_t n_pieces);

}  // namespace unicorn::quant
