// matmul at Gemma 3's shapes: GB/s of weights and GMAC/s, beside a plain read of the same memory.
//
//   matmul_bench --benchmark_filter='packed/type:2/'   q4_0; types are GGUF's ids (tensor/dtype.h)
//   matmul_bench --benchmark_filter='read|/T:1/'       decoding, and what the memory gives
//
// With few rows of activations the weights rotate through 768 MB, more than any cache here holds.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/isa.h"
#include "kernels/matmul.h"
#include "tensor/dtype.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

constexpr std::size_t kArenaBytes = 768'000'000;

struct Shape {
    const char* name;
    std::size_t rows;
    std::size_t cols;
};
constexpr Shape kShapes[] = {
    {"1b gate", 6912, 1152},
    {"1b down", 1152, 6912},  // 1152 and 6912 are no multiples of 256 ...
    {"4b gate", 10240, 2560},
    {"4b down", 2560, 10240},  // ... 2560 and 10240 are
    {"27b gate", 21504, 5376},
    {"27b down", 5376, 21504},
};

struct Free {
    void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

template <typename T>
Buffer<T> make_buffer(std::size_t n) {
    const std::size_t bytes = (n * sizeof(T) + 4095) / 4096 * 4096;
    void* p = std::aligned_alloc(4096, bytes);
    std::memset(p, 0, bytes);
    return Buffer<T>(static_cast<T*>(p));
}

/// 768 MB, written once; every benchmark lays its weights here.
std::byte* arena() {
    static const Buffer<std::byte> memory = make_buffer<std::byte>(kArenaBytes);
    return memory.get();
}

/// One team for the whole run: waiting workers would take the core of a second one.
ThreadPool& team(std::size_t n_threads) {
    static std::unique_ptr<ThreadPool> pool;
    if (!pool || pool->size() != n_threads) {
        pool.reset();
        pool = std::make_unique<ThreadPool>(n_threads);
    }
    return *pool;
}

/// 16 rows of plausible blocks: random codes, small scales.
std::vector<std::byte> random_rows(DType type, std::size_t cols) {
    std::vector<std::byte> bytes(kPanelRows * tensor::row_bytes(type, cols));
    std::mt19937 random(1);
    if (!tensor::info(type).quantized) {
        std::uniform_real_distribution<float> value(-0.05f, 0.05f);
        for (std::size_t i = 0; i < kPanelRows * cols; ++i) {
            const float f = value(random);
            const std::uint16_t h =
                type == DType::f16 ? tensor::f32_to_f16(f) : tensor::f32_to_bf16(f);
            if (type == DType::f32)
                std::memcpy(&bytes[4 * i], &f, 4);
            else
                std::memcpy(&bytes[2 * i], &h, 2);
        }
        return bytes;
    }
    // Every 16 bits with an exponent in the middle, so that no scale is subnormal, infinite or NaN.
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
        const auto bits = static_cast<std::uint16_t>((random() & 0x8FFFu) | 0x2000u);
        std::memcpy(&bytes[i], &bits, 2);
    }
    return bytes;
}

/// Fills `n` matrices of `shape` in the arena; panels (or rows) repeat one that was packed.
void fill(DType type, const Shape& shape, std::size_t n) {
    static std::string last;
    const std::string key = std::string(tensor::name(type)) + shape.name + std::to_string(n);
    if (key == last) return;
    last = key;
    std::vector<std::byte> unit = random_rows(type, shape.cols);
    if (tensor::info(type).quantized) {
        const auto panel = make_buffer<std::byte>(panel_bytes(type, shape.cols));
        pack_panels(runnable_isas().back(), {type, kPanelRows, shape.cols, unit.data()}, 0, 1,
                    panel.get());
        unit.assign(panel.get(), panel.get() + panel_bytes(type, shape.cols));
    }
    for (std::size_t i = 0; i < n * shape.rows / kPanelRows; ++i) {
        std::memcpy(arena() + i * unit.size(), unit.data(), unit.size());
    }
}

struct Activations {
    Activations(std::size_t n_rows, std::size_t cols, std::size_t columns = kGroup)
        : x(make_buffer<float>(n_rows * cols)),
          codes(make_buffer<std::int8_t>(n_rows * cols)),
          scales(make_buffer<float>(n_rows * cols / kGroup)),
          sums(make_buffer<std::int32_t>(n_rows * cols / 16)),
          rows{n_rows, cols, codes.get(), scales.get(), sums.get(), columns} {
        std::mt19937 random(2);
        std::normal_distribution<float> normal;
        for (std::size_t i = 0; i < n_rows * cols; ++i) x[i] = normal(random);
        quantize_rows(runnable_isas().back(), x.get(), cols, 0, n_rows, rows);
    }
    Buffer<float> x;
    Buffer<std::int8_t> codes;
    Buffer<float> scales;
    Buffer<std::int32_t> sums;
    QuantizedRows rows;
};

Isa chosen_isa() {
    const auto isa = choose_isa();
    if (!isa) {
        std::fprintf(stderr, "%s\n", isa.error().message.c_str());
        std::exit(1);
    }
    return *isa;
}

void report(benchmark::State& state, const std::string& label, double bytes, double macs) {
    const auto n = static_cast<double>(state.iterations());
    state.counters["GB/s"] = benchmark::Counter(n * bytes * 1e-9, benchmark::Counter::kIsRate);
    if (macs > 0)
        state.counters["GMAC/s"] = benchmark::Counter(n * macs * 1e-9, benchmark::Counter::kIsRate);
    state.SetLabel(label);
}

void packed(benchmark::State& state) {
    const auto type = static_cast<DType>(state.range(0));
    const Shape& shape = kShapes[state.range(1)];
    const auto n_rows = static_cast<std::size_t>(state.range(2));
    if (shape.cols % tensor::info(type).block_size != 0)
        return state.SkipWithError("no whole super-blocks");
    const Isa isa = chosen_isa();
    const std::size_t bytes = panel_bytes(type, shape.cols) * (shape.rows / kPanelRows);
    const std::size_t n = n_rows <= 16 ? kArenaBytes / bytes : 1;
    fill(type, shape, n);
    const Activations a(n_rows, shape.cols, scale_columns(type));
    const auto out = make_buffer<float>(n_rows * shape.rows);
    ThreadPool& pool = team(static_cast<std::size_t>(state.range(3)));
    std::size_t i = 0;
    for (auto _ : state) {
        const PackedMatrix w = {type, shape.rows, shape.cols, arena() + i * bytes};
        pool.run([&](Team& t) {
            const Range range = t.split(w.n_panels());
            matmul_packed(isa, w, a.rows, range.begin, range.end, out.get(), shape.rows);
        });
        i = (i + 1) % n;
    }
    report(state, std::string(tensor::name(type)) + " " + shape.name + " " + std::string(name(isa)),
           static_cast<double>(bytes), static_cast<double>(shape.rows * shape.cols * n_rows));
}

void as_floats(benchmark::State& state) {
    const auto type = static_cast<DType>(state.range(0));
    const Shape& shape = kShapes[state.range(1)];
    const auto n_rows = static_cast<std::size_t>(state.range(2));
    const Isa isa = chosen_isa();
    const std::size_t bytes = tensor::row_bytes(type, shape.cols) * shape.rows;
    const std::size_t n = n_rows <= 16 ? kArenaBytes / bytes : 1;
    fill(type, shape, n);
    const Activations a(n_rows, shape.cols);
    const auto out = make_buffer<float>(n_rows * shape.rows);
    ThreadPool& pool = team(static_cast<std::size_t>(state.range(3)));
    std::size_t i = 0;
    for (auto _ : state) {
        const tensor::MatrixView w = {type, shape.rows, shape.cols, arena() + i * bytes};
        pool.run([&](Team& t) {
            const Range range = t.split(w.rows, 8);
            matmul_float(isa, w, a.x.get(), shape.cols, n_rows, range.begin, range.end, out.get(),
                         shape.rows);
        });
        i = (i + 1) % n;
    }
    report(state, std::string(tensor::name(type)) + " " + shape.name + " " + std::string(name(isa)),
           static_cast<double>(bytes), static_cast<double>(shape.rows * shape.cols * n_rows));
}

void pack(benchmark::State& state) {
    const auto type = static_cast<DType>(state.range(0));
    constexpr std::size_t kRows = 512;
    constexpr std::size_t kCols = 2560;
    const std::vector<std::byte> unit = random_rows(type, kCols);
    std::vector<std::byte> source;
    for (std::size_t i = 0; i < kRows / kPanelRows; ++i)
        source.insert(source.end(), unit.begin(), unit.end());
    const auto out = make_buffer<std::byte>(panel_bytes(type, kCols) * (kRows / kPanelRows));
    for (auto _ : state)
        pack_panels(runnable_isas().back(), {type, kRows, kCols, source.data()}, 0,
                    kRows / kPanelRows, out.get());
    report(state, std::string(tensor::name(type)), static_cast<double>(source.size()), 0);
}

void quantize(benchmark::State& state) {
    const Isa isa = chosen_isa();
    constexpr std::size_t kRows = 16;
    constexpr std::size_t kCols = 10240;
    const Activations a(kRows, kCols);
    for (auto _ : state) quantize_rows(isa, a.x.get(), kCols, 0, kRows, a.rows);
    report(state, std::string(name(isa)), kRows * kCols * sizeof(float), 0);
}

/// The measure of all decoding: what a loop that only reads gets. One prefetch 4096 bytes ahead,
/// into L1, gives 0.89 of this.
[[gnu::target("avx2")]] std::uint64_t read_all(const std::byte* p, std::size_t n) {
    __m256i sums[8] = {};
    for (std::size_t i = 0; i + 256 <= n; i += 256) {
        for (std::size_t j = 0; j < 256; j += 64) {  // as matmul_packed's path of few rows does
            _mm_prefetch(reinterpret_cast<const char*>(p + i + 8192 + j), _MM_HINT_T1);
            _mm_prefetch(reinterpret_cast<const char*>(p + i + 1024 + j), _MM_HINT_T0);
        }
        for (std::size_t j = 0; j < 8; ++j) {
            sums[j] = _mm256_xor_si256(
                sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
        }
    }
    for (std::size_t j = 1; j < 8; ++j) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
    return static_cast<std::uint64_t>(_mm256_extract_epi64(sums[0], 0));
}

void read_bandwidth(benchmark::State& state) {
    ThreadPool& pool = team(static_cast<std::size_t>(state.range(0)));
    std::byte* memory = arena();
    for (auto _ : state) {
        pool.run([&](Team& t) {
            const Range range = t.split(kArenaBytes, 4096);
            benchmark::DoNotOptimize(read_all(memory + range.begin, range.size()));
        });
    }
    report(state, "plain read", kArenaBytes, 0);
}

const std::vector<std::int64_t> kQuantized = {2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23};

BENCHMARK(read_bandwidth)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(packed)
    ->ArgNames({"type", "shape", "T", "threads"})
    ->ArgsProduct({kQuantized, {0, 1, 2, 3, 4, 5}, {1, 8, 32, 512}, {1, 2}})
    ->UseRealTime();
BENCHMARK(as_floats)
    ->ArgNames({"type", "shape", "T", "threads"})
    ->ArgsProduct({{0, 1, 30}, {1, 2}, {1, 8, 512}, {1, 2}})
    ->UseRealTime();
BENCHMARK(pack)->ArgName("type")->ArgsProduct({kQuantized});
BENCHMARK(quantize);

}  // namespace
}  // namespace unicorn::kernels
