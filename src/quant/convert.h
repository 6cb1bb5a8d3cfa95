#pragma once
// A Hugging Face folder of Gemma 3 as one GGUF that other GGUF tools open too.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace unicorn::quant {

struct ConvertOptions {
    /// The type of matrices: f32, f16, bf16, q8_0 or q4_0. With q4_0 the embedding, which is the
    /// head too, is q6_k (q8_0 where the model's dimension is no multiple of 256), as stock GGUF
    /// quantisers choose. A matrix whose rows are no whole number of blocks becomes f16.
    tensor::DType type = tensor::DType::q8_0;
    std::string name = {};      // general.name; the folder's name when empty
    std::size_t n_threads = 0;  // 0: every CPU available
};

/// What was written and what was not.
struct ConvertReport {
    std::size_t n_tensors = 0;
    std::uint64_t tensor_bytes = 0;
    std::size_t n_vision_skipped = 0;          // tensors of the vision tower and its projector
    std::vector<std::string> other_skipped;    // buffers, a copy of the embedding as lm_head
    std::vector<std::string> stored_as_f16;    // GGUF names; rows no whole number of blocks
    std::uint64_t embedding_rows_dropped = 0;  // untrained rows past the vocabulary's last piece
    std::uint64_t pieces_dropped = 0;          // control pieces past the embedding's last row
};

/// Reads config.json, the vocabulary (formats/tokenizer_files.h) and the safetensors of `folder`
/// and writes `out`. Norms are stored as 1 + weight in f32. The embedding gets as many rows as the
/// vocabulary has pieces: checkpoints pad it with untrained rows, which must never be sampled.
/// `on_progress` (may be empty) gets the bytes of tensor data written and their total, and returns
/// whether to go on.
/// Memory    under 150 MiB whatever the model's size: tensors go through in chunks of rows, and
///           what was read of the mapped files is dropped.
/// Errors    not_found, io; invalid_file for a folder that contradicts itself (a missing tensor, a
///           shape that is not config.json's, weights that are not finite); unsupported for what
///           Gemma 3 in GGUF cannot say; invalid_argument for another type; cancelled by
///           `on_progress`. `out` then stays as it was.
Result<ConvertReport> convert_hf(
    const std::string& folder, const std::string& out, const ConvertOptions& options,
    const std::function<bool(std::uint64_t done, std::uint64_t total)>& on_progress = {});

}  // namespace unicorn::quant
