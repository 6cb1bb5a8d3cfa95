#include "kernels/isa.h"

#include <cpuid.h>

#include <array>
#include <cstdlib>

namespace unicorn::kernels {
namespace {

constexpr std::array kAll = {Isa::scalar, Isa::avx2, Isa::avx512};

/// The one feature that clang 14's __builtin_cpu_supports does not know. Every CPU with AVX2 has
/// it; the system's part (saving the registers) is asked for by the AVX2 check.
bool has_f16c() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool runs_here(Isa isa) {
    switch (isa) {
        case Isa::scalar: return true;
        case Isa::avx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
        case Isa::avx512:
            return runs_here(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq");
    }
    return false;
}

Result<Isa> read_choice() {
    const auto runnable = runnable_isas();
    const char* wanted = std::getenv("UNICORN_ISA");
    if (wanted == nullptr || *wanted == '\0') return runnable.back();
    for (const Isa isa : kAll) {
        if (name(isa) != wanted) continue;
        if (!runs_here(isa)) {
            return fail(ErrorCode::unsupported,
                        "UNICORN_ISA={}: this CPU does not have it; its best is {}", wanted,
                        name(runnable.back()));
        }
        return isa;
    }
    return fail(ErrorCode::unsupported, "UNICORN_ISA={}: unknown; known are scalar, avx2, avx512",
                wanted);
}

}  // namespace

std::string_view name(Isa isa) {
    switch (isa) {
        case Isa::scalar: return "scalar";
        case Isa::avx2: return "avx2";
        case Isa::avx512: return "avx512";
    }
    return "unknown";
}

Result<Isa> choose_isa() {
    static const Result<Isa> choice = read_choice();
    return choice;
}

bool has_avx512_vnni() {
    static const bool has = __builtin_cpu_supports("avx512vnni") != 0;
    return has;
}

std::span<const Isa> runnable_isas() {
    static const std::size_t count = [] {
        std::size_t n = 0;
        while (n < kAll.size() && runs_here(kAll[n])) ++n;
        return n;
    }();
    return std::span(kAll).first(count);
}

}  // namespace unicorn::kernels
