#pragma once
// The vocabularies of Hugging Face folders: tokenizer.model (SentencePiece's ModelProto) and
// tokenizer.json (huggingface/tokenizers), each as a Vocabulary.
// Sources: github.com/google/sentencepiece, src/sentencepiece_model.proto;
// github.com/huggingface/tokenizers, tokenizers/src/models/bpe/serialization.rs.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "formats/vocabulary.h"

namespace unicorn::formats {

/// A SentencePiece BPE model. <start_of_turn> and <end_of_turn>, user-defined pieces in Gemma's
/// file, become control pieces. No chat template: the file has none.
/// Errors: not_found, io; invalid_file with path, place and reason; unsupported for a unigram,
/// word or character model and for one that normalises its text.
Result<Vocabulary> read_sentencepiece_model(const std::string& path);
Result<Vocabulary> parse_sentencepiece_model(const std::string& name,
                                             std::span<const std::byte> bytes);

/// A BPE tokenizer.json with byte fallback. The file has no scores: a piece's score is minus the
/// rank of the first merge that makes it, which orders merges the same way; -1e6 for the others.
/// Special added tokens become control pieces, other added ones user-defined.
/// Errors: as above; unsupported for another model and for byte-level BPE.
Result<Vocabulary> read_tokenizer_json(const std::string& path);
Result<Vocabulary> parse_tokenizer_json(const std::string& name, std::string_view text);

/// The vocabulary of a folder: tokenizer.model, else tokenizer.json; with the chat template of
/// chat_template.jinja, tokenizer_config.json or chat_template.json, and bos, eos, pad and the stop
/// ids of tokenizer_config.json, config.json and generation_config.json where the vocabulary names
/// none. Errors: as above; not_found when there is no vocabulary.
Result<Vocabulary> read_hf_vocabulary(const std::string& folder);

}  // namespace unicorn::formats
