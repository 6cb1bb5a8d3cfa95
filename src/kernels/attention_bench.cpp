// Attention at Gemma 3's shapes, and the other small kernels beside it. Decode is bound by the
// bytes of K and V (GB/s), prefill by multiply-adds (GMAC/s: two for each query, key and element).

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/gated_gelu.h"
#include "kernels/isa.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace unicorn::kernels {
namespace {

std::vector<float> random_floats(std::size_t n) {
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float& x : values) x = normal(generator);
    return values;
}

/// A layer's cache of one KV head, in pages that lie in order, as a single sequence fills it.
struct Cache {
    struct alignas(64) Line {
        std::byte bytes[64];
    };

    Cache(tensor::DType dtype, std::size_t n_tokens, std::size_t dim)
        : type(dtype), head_dim(dim), pages(n_tokens / kPageTokens) {
        std::iota(pages.begin(), pages.end(), 0);
        const std::size_t page_bytes = kv_page_bytes(type, head_dim);
        const std::vector<float> values = random_floats(n_tokens * head_dim);
        for (std::vector<Line>* pool : {&k, &v}) {
            pool->resize(pages.size() * page_bytes / sizeof(Line));
            for (std::size_t t = 0; t < n_tokens; ++t) {
                store_kv(runnable_isas().back(), type,
                         pool->data()->bytes + t / kPageTokens * page_bytes, t % kPageTokens,
                         std::span(values).subspan(t * head_dim, head_dim));
            }
        }
    }

    KvHead head() const {
        return {.type = type,
                .k = k.data()->bytes,
                .v = v.data()->bytes,
                .page_stride = kv_page_bytes(type, head_dim),
                .pages = pages.data(),
                .head_dim = head_dim};
    }

    tensor::DType type;
    std::size_t head_dim;
    std::vector<Line> k, v;
    std::vector<std::int32_t> pages;
};

struct Scratch {
    std::vector<float> storage = std::vector<float>(attention_scratch_floats() + 16);
    float* aligned() {
        const std::size_t over =
            reinterpret_cast<std::uintptr_t>(storage.data()) / sizeof(float) % 16;
        return storage.data() + (16 - over) % 16;
    }
};

/// `n_queries` queries over `n_tokens` keys; each query of a prefill sees one key more
/// than the one before.
/// Each iteration takes the next of `n_heads` caches, so that decode reads K and V from memory.
void attend(benchmark::State& state, Isa isa, tensor::DType type, std::size_t n_queries,
            bool prefill, std::size_t n_tokens, std::size_t head_dim, std::size_t n_heads) {
    const std::vector<Cache> caches(n_heads, Cache(type, n_tokens, head_dim));
    const std::vector<float> q = random_floats(n_queries * head_dim);
    std::vector<float> acc(2 * n_queries * head_dim);
    std::array<PartialRow, kMaxQueries> total, part;
    Queries queries;
    queries.count = n_queries;
    for (std::size_t i = 0; i < n_queries; ++i) {
        queries.q[i] = q.data() + i * head_dim;
        queries.last_key[i] =
            static_cast<std::int32_t>(n_tokens - 1 - (prefill ? n_queries - 1 - i : 0));
        total[i].acc = acc.data() + 2 * i * head_dim;
        part[i].acc = acc.data() + (2 * i + 1) * head_dim;
    }
    Scratch scratch;
    std::size_t next = 0;
    for (auto _ : state) {
        const KvHead head = caches[next++ % n_heads].head();
        for (std::size_t span = 0; span * kSpanTokens < n_tokens; ++span) {
            auto& into = span == 0 ? total : part;
            attention_span(isa, head, queries, 0.0625f, span, into, scratch.aligned());
            for (std::size_t i = 0; i < n_queries && span > 0; ++i) {
                merge_partial(isa, total[i], part[i], head_dim);
            }
        }
        benchmark::DoNotOptimize(acc.data());
        benchmark::ClobberMemory();
    }
    const double elements =
        2.0 * static_cast<double>(n_tokens * head_dim) * static_cast<double>(state.iterations());
    const double bytes = elements * static_cast<double>(kv_page_bytes(type, head_dim)) /
                         static_cast<double>(kPageTokens * head_dim);
    state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
    state.counters["GMAC/s"] = benchmark::Counter(elements * 1e-9 * static_cast<double>(n_queries),
                                                  benchmark::Counter::kIsRate);
}

void norm(benchmark::State& state, Isa isa, bool add) {
    const auto dim = static_cast<std::size_t>(state.range(0));
    const std::vector<float> x = random_floats(dim);
    std::vector<float> residual(dim), out(dim);
    for (auto _ : state) {
        if (add) {
            add_rms_norm(isa, residual, x, x, x, 1e-6f, out);
        } else {
            rms_norm(isa, out, x, x, 1e-6f);
        }
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
}

void gelu(benchmark::State& state, Isa isa) {
    const auto dim = static_cast<std::size_t>(state.range(0));
    const std::vector<float> gate = random_floats(dim);
    std::vector<float> out(dim);
    for (auto _ : state) {
        gated_gelu(isa, out, gate, gate);
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
}

void rotate(benchmark::State& state, Isa isa) {
    const auto head_dim = static_cast<std::size_t>(state.range(0));
    std::vector<float> x = random_floats(head_dim), gain(head_dim, 1.0f), cos(head_dim / 2),
                       sin(head_dim / 2);
    rope_angles(1000, 1e4, 1, cos, sin);
    for (auto _ : state) {
        norm_rope(isa, x, gain, 1e-6f, cos, sin);
        benchmark::DoNotOptimize(x.data());
        benchmark::ClobberMemory();
    }
}

void angles(benchmark::State& state) {
    const auto half = static_cast<std::size_t>(state.range(0)) / 2;
    std::vector<float> cos(half), sin(half);
    std::int32_t position = 0;
    for (auto _ : state) {
        rope_angles(++position, 1e6, 8, cos, sin);
        benchmark::DoNotOptimize(cos.data());
        benchmark::ClobberMemory();
    }
}

void store(benchmark::State& state, Isa isa, tensor::DType type) {
    const auto head_dim = static_cast<std::size_t>(state.range(0));
    const std::vector<float> x = random_floats(head_dim);
    std::vector<std::byte> page(kv_page_bytes(type, head_dim));
    std::size_t token = 0;
    for (auto _ : state) {
        store_kv(isa, type, page.data(), ++token % kPageTokens, x);
        benchmark::DoNotOptimize(page.data());
        benchmark::ClobberMemory();
    }
}

const bool registered = [] {
    benchmark::RegisterBenchmark("rope_angles", angles)->Arg(128)->Arg(256);
    for (const Isa isa : runnable_isas()) {
        const std::string form = fmt::format("/{}", name(isa));
        for (const tensor::DType type : {tensor::DType::f16, tensor::DType::q8_0}) {
            for (const std::size_t head_dim : {128u, 256u}) {
                const std::string at = fmt::format("/E{}/{}{}", head_dim, tensor::name(type), form);
                for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
                    benchmark::RegisterBenchmark(("attend_4096/" + std::to_string(n) + at).c_str(),
                                                 [=](benchmark::State& s) {
                                                     attend(s, isa, type, n, n > 1, 4096, head_dim,
                                                            1);
                                                 });
                }
                for (const std::size_t n : {2u, 4u}) {  // 80 x 4 MiB at E 256: more than the L3
                    benchmark::RegisterBenchmark(("decode_4096/" + std::to_string(n) + at).c_str(),
                                                 [=](benchmark::State& s) {
                                                     attend(s, isa, type, n, false, 4096, head_dim,
                                                            80);
                                                 });
                }
            }
            benchmark::RegisterBenchmark(
                fmt::format("store_kv/{}{}", tensor::name(type), form).c_str(), store, isa, type)
                ->Arg(256);
        }
        benchmark::RegisterBenchmark(("rms_norm" + form).c_str(), norm, isa, false)
            ->Arg(640)
            ->Arg(2560)
            ->Arg(5376);
        benchmark::RegisterBenchmark(("add_rms_norm" + form).c_str(), norm, isa, true)
            ->Arg(640)
            ->Arg(2560)
            ->Arg(5376);
        benchmark::RegisterBenchmark(("gated_gelu" + form).c_str(), gelu, isa)
            ->Arg(2048)
            ->Arg(10240);
        benchmark::RegisterBenchmark(("norm_rope" + form).c_str(), rotate, isa)->Arg(128)->Arg(256);
    }
    return true;
}();

}  // namespace
}  // namespace unicorn::kernels
