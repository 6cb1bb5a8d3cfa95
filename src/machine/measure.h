#pragma once
// How fast this machine's memory and disk are read, measured once and kept.

#include <optional>
#include <string>

#include "base/result.h"
#include "machine/machine.h"

namespace unicorn::machine {

/// GB/s (1e9 bytes) of reading host memory with every CPU that this process may use; takes a
/// second or less, and a quarter of `usable_bytes` at most. Errors: out_of_memory.
Result<double> measure_host_gb_s(std::uint64_t usable_bytes);

/// GB/s of reading the disk past the page cache (O_DIRECT, 32 reads at a time): at most 256 MiB
/// of the file `path`, or of an unnamed file made for it when `path` is a folder or a file under
/// 32 MiB; three seconds at most.
/// Errors: unsupported (no O_DIRECT there), io, out_of_memory (no room for a file).
Result<double> measure_disk_gb_s(const std::string& path);

/// What identifies a machine for its measurements: its product, CPU, memory, GPUs and kernel.
std::string cache_key(const Machine& machine);

/// What was measured on this machine before; nothing when there is no file, or one that is damaged
/// or of another machine. The disk's part only for the disk that `machine` names.
std::optional<Measured> load_measured(const std::string& folder, const Machine& machine);

/// Keeps machine.measured and the profile made with it; the file is replaced whole.
/// Errors: io.
Status store_measured(const std::string& folder, const Machine& machine);

}  // namespace unicorn::machine
