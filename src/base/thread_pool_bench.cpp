// What it costs to meet: a barrier inside a region, and a whole region.
//
//   thread_pool_bench                                  as many threads as there are CPUs, and twice
//
// A barrier with more threads than CPUs parks in the kernel; that is what it costs then.

#include <benchmark/benchmark.h>

#include "base/thread_pool.h"

namespace unicorn {
namespace {

void barrier(benchmark::State& state) {
    ThreadPool pool(static_cast<std::size_t>(state.range(0)));
    constexpr int kBarriers = 1000;
    for (auto _ : state) {
        pool.run([](Team& team) {
            for (int i = 0; i < kBarriers; ++i) team.barrier();
        });
    }
    state.counters["time/barrier"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * kBarriers,
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void region(benchmark::State& state) {
    ThreadPool pool(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) pool.run([](Team&) {});
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    const auto cpus = static_cast<std::int64_t>(available_cpus());
    benchmark->ArgName("threads")->Arg(1)->Arg(cpus)->Arg(2 * cpus)->UseRealTime();
}

BENCHMARK(barrier)->Apply(sizes);
BENCHMARK(region)->Apply(sizes);

}  // namespace
}  // namespace unicorn
