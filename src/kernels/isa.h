#pragma once
// Which forms of a kernel this machine can run, and the choice among them.

#include <span>
#include <string_view>

#include "base/result.h"

namespace unicorn::kernels {

/// Instruction sets that kernels have forms for, slowest first. A later one implies the earlier.
enum class Isa {
    scalar,  // plain C++: the definition
    avx2,    // AVX2, FMA, F16C
    avx512,  // AVX-512 F, BW, VL and DQ
};

std::string_view name(Isa isa);

/// Whether the integer dot products of AVX-512 are there too. Without them (Skylake-X), quantised
/// matrices take their AVX2 form and everything else its AVX-512 form.
bool has_avx512_vnni();

/// The best form this CPU runs, or the one that the environment variable UNICORN_ISA names
/// ("scalar", "avx2", "avx512"). Read once, when first asked.
/// Errors: unsupported, when UNICORN_ISA names something unknown or something this CPU lacks.
Result<Isa> choose_isa();

/// The forms this CPU can run, slowest first; tests check every one against the scalar form.
std::span<const Isa> runnable_isas();

}  // namespace unicorn::kernels
