#pragma once
// How fast a disk is read when nothing is done with the bytes: what loading is measured against.

#include <cstddef>
#include <functional>
#include <span>

#include "base/file.h"
#include "base/result.h"

namespace unicorn {

inline constexpr std::size_t kRawReads = 32;  // in flight, over all threads

/// GB/s (1e9 bytes) of reading the files from their beginnings with O_DIRECT, kRawReads reads of
/// 1 MiB at a time by io_uring (else threads), at most `most_bytes` and about `most_s` seconds.
/// `cancel` is asked between reads. Errors: unsupported (no O_DIRECT there), io, out_of_memory,
/// cancelled.
Result<double> raw_read_gb_s(std::span<const MappedFile> files, std::size_t n_threads,
                             const std::function<bool()>& cancel = {},
                             std::size_t most_bytes = SIZE_MAX, double most_s = 1e9);

}  // namespace unicorn
