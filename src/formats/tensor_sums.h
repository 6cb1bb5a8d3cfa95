#pragma once
// Checksums of a GGUF file's tensors, in its own metadata: "unicorn.xxh3" is an array of uint64,
// one XXH3 (64 bits, seed 0) of each tensor's bytes, in the order of the tensor table. Our writer
// puts it there; other tools ignore it.

#include <cstdint>
#include <functional>
#include <string_view>

#include "formats/gguf.h"

namespace unicorn::formats {

inline constexpr std::string_view kTensorSumsKey = "unicorn.xxh3";

/// Whether every tensor's bytes have the sum that the file says, read by `n_threads` threads.
/// `on_progress` (may be empty) gets the bytes checked so far and whether to go on is its answer;
/// one thread at a time calls it.
/// Errors: invalid_file, naming the file and the first tensor (in the table's order) whose bytes
/// are not what was written, or for sums of another number of tensors; unsupported for a file
/// without sums; io; cancelled.
Status verify_tensors(const Gguf& file, std::size_t n_threads,
                      const std::function<bool(std::uint64_t done)>& on_progress = {});

}  // namespace unicorn::formats
