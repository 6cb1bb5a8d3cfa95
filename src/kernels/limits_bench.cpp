// The most multiply-adds a second that one thread can issue, for the shares of peak in the table of
// bench/kernels.py: chains of one instruction (or of the three that AVX2 needs for bytes), long
// enough apart that nothing waits.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <array>
#include <utility>

#include "kernels/isa.h"
#include "kernels/simd.h"

namespace unicorn::kernels {
namespace {

constexpr int kChains = 12;
constexpr int kRounds = 1000;

#define UNICORN_TARGET_DOT [[gnu::target("avx512f,avx512vnni,avx512bf16")]]

// Each function runs kRounds rounds of kChains independent instructions. The asm keeps the compiler
// from noticing that the sums are all the same and that nobody wants them.

UNICORN_TARGET_DOT void vpdpbusd_512() {
    __m512i sums[kChains] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+v"(sums[j]));
    __m512i a = _mm512_set1_epi8(1), b = a;
    for (int i = 0; i < kRounds; ++i) {
        asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j) sums[j] = _mm512_dpbusd_epi32(sums[j], a, b);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" ::"v"(sums[j]));
}

UNICORN_TARGET_AVX512 void fma_512() {
    __m512 sums[kChains] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+v"(sums[j]));
    __m512 a = _mm512_set1_ps(1), b = a;
    for (int i = 0; i < kRounds; ++i) {
        asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j) sums[j] = _mm512_fmadd_ps(a, b, sums[j]);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" ::"v"(sums[j]));
}

UNICORN_TARGET_DOT void vdpbf16ps_512() {
    __m512 sums[kChains] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+v"(sums[j]));
    __m512i a = _mm512_set1_epi16(0x3F80), b = a;
    for (int i = 0; i < kRounds; ++i) {
        asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j)
            sums[j] = _mm512_dpbf16_ps(sums[j], reinterpret_cast<__m512bh>(a),
                                       reinterpret_cast<__m512bh>(b));
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" ::"v"(sums[j]));
}

UNICORN_TARGET_AVX2 void fma_256() {
    __m256 sums[kChains] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+x"(sums[j]));
    __m256 a = _mm256_set1_ps(1), b = a;
    for (int i = 0; i < kRounds; ++i) {
        asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j) sums[j] = _mm256_fmadd_ps(a, b, sums[j]);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" ::"x"(sums[j]));
}

// vpmaddubsw and an addition in int16; what widens to int32 is left out, for it can be shared by
// several of them.
UNICORN_TARGET_AVX2 void vpmaddubsw_256() {
    __m256i sums[kChains] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" : "+x"(sums[j]));
    __m256i a = _mm256_set1_epi8(1), b = a;
    for (int i = 0; i < kRounds; ++i) {
        asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j) {
            __m256i product = _mm256_maddubs_epi16(a, b);
            asm volatile("" : "+x"(product));  // not one product for all
            sums[j] = _mm256_add_epi16(sums[j], product);
        }
    }
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) asm volatile("" ::"x"(sums[j]));
}

void peak(benchmark::State& state, void (*rounds)(), double macs, bool runs_here) {
    if (!runs_here) return state.SkipWithError("not on this CPU");
    for (auto _ : state) rounds();
    state.counters["GMAC/s"] = benchmark::Counter(
        static_cast<double>(state.iterations()) * kRounds * kChains * macs * 1e-9,
        benchmark::Counter::kIsRate);
}

const bool kAvx2 = runnable_isas().back() >= Isa::avx2;
const bool kAvx512 = runnable_isas().back() >= Isa::avx512;
const bool kBf16 = kAvx512 && __builtin_cpu_supports("avx512bf16");

BENCHMARK_CAPTURE(peak, int8_avx2, vpmaddubsw_256, 32.0, kAvx2);
BENCHMARK_CAPTURE(peak, f32_avx2, fma_256, 8.0, kAvx2);
BENCHMARK_CAPTURE(peak, int8_avx512, vpdpbusd_512, 64.0, kAvx512&& has_avx512_vnni());
BENCHMARK_CAPTURE(peak, f32_avx512, fma_512, 16.0, kAvx512);
BENCHMARK_CAPTURE(peak, bf16_avx512, vdpbf16ps_512, 32.0, kBf16);

}  // namespace
}  // namespace unicorn::kernels
