// Sampling from 262,144 logits, Gemma 3's vocabulary, on one thread.
//
//   sampler_bench --benchmark_filter=suggested

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "engine/sampler.h"

namespace unicorn::engine {
namespace {

constexpr std::size_t kVocab = 262'144;

void run(benchmark::State& state, const SamplerOptions& options) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(kVocab);
    for (float& x : logits) x = normal(random);
    auto sampler = Sampler::create(options, kVocab);
    if (!sampler) return state.SkipWithError(sampler.error().message.c_str());
    for (auto _ : state) {
        const auto id = sampler->sample(logits);
        benchmark::DoNotOptimize(id);
        if (id) sampler->accept(*id);
    }
}

SamplerOptions greedy() {
    SamplerOptions options;
    options.temperature = 0;
    return options;
}
SamplerOptions with_penalties() {
    SamplerOptions options;
    options.repeat_penalty = 1.1f;
    return options;
}
SamplerOptions top_p_only() {
    SamplerOptions options;
    options.top_k = 0;
    return options;
}
SamplerOptions nothing_cut() {
    SamplerOptions options;
    options.top_k = 0;
    options.top_p = 1;
    return options;
}

BENCHMARK_CAPTURE(run, greedy, greedy());
BENCHMARK_CAPTURE(run, suggested, SamplerOptions{});
BENCHMARK_CAPTURE(run, suggested_with_penalties, with_penalties());
BENCHMARK_CAPTURE(run, top_p_only, top_p_only());
BENCHMARK_CAPTURE(run, nothing_cut, nothing_cut());

}  // namespace
}  // namespace unicorn::engine
