#pragma once
// Sizes as people type them.

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace unicorn {

/// "2 GiB", "40GB", "512M", "1.5 GiB", "65536": bytes. KB, MB, GB, TB are powers of 1000; KiB, MiB,
/// GiB, TiB and the bare letters K, M, G, T powers of 1024; in either case. Fractions are cut to
/// whole bytes. Errors: invalid_argument, with the text.
Result<std::uint64_t> parse_byte_size(std::string_view text);

}  // namespace unicorn
