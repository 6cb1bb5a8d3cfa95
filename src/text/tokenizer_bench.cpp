// Needs the shared vectors; every rate is of input bytes on one core.

#include <benchmark/benchmark.h>

#include <random>

#include "text/testing.h"
#include "text/tokenizer.h"

namespace unicorn::text {
namespace {

const Tokenizer* gemma() {
    static const auto tokenizer = [] {
        const formats::Vocabulary* vocabulary = gemma_vocabulary();
        return vocabulary == nullptr ? Result<Tokenizer>(fail(ErrorCode::not_found, "no vectors"))
                                     : Tokenizer::create(*vocabulary);
    }();
    return tokenizer ? &*tokenizer : nullptr;
}

void encode(benchmark::State& state, const std::string& text) {
    if (gemma() == nullptr || text.empty()) {
        state.SkipWithError("the shared vectors are not beside this checkout");
        return;
    }
    std::size_t n_ids = 0;
    for (auto _ : state) {
        const auto ids = gemma()->encode(text);
        n_ids = ids.size();
        benchmark::DoNotOptimize(ids.data());
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
    state.counters["bytes/id"] = static_cast<double>(text.size()) / static_cast<double>(n_ids);
}

void english(benchmark::State& state) {
    encode(state, read_shared("corpus/valid.txt.xz").value_or(""));
}
BENCHMARK(english)->Unit(benchmark::kMillisecond);

/// 2 kB at a time, a prompt's size: the word cache starts empty for each.
void english_prompts(benchmark::State& state) {
    const std::string text = read_shared("corpus/valid.txt.xz").value_or("");
    if (gemma() == nullptr || text.empty()) {
        state.SkipWithError("the shared vectors are not beside this checkout");
        return;
    }
    for (auto _ : state) {
        for (std::size_t at = 0; at < text.size(); at += 2048) {
            benchmark::DoNotOptimize(
                gemma()->encode(std::string_view(text).substr(at, 2048)).data());
        }
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}
BENCHMARK(english_prompts)->Unit(benchmark::kMillisecond);

void one_letter_line(benchmark::State& state) {
    encode(state, std::string(static_cast<std::size_t>(state.range(0)), 'a'));
}
BENCHMARK(one_letter_line)->Arg(1'000'000)->Arg(10'000'000)->Unit(benchmark::kMillisecond);

void random_letters_line(benchmark::State& state) {
    std::mt19937 rng(1);
    std::string line(static_cast<std::size_t>(state.range(0)), ' ');
    for (char& c : line) c = static_cast<char>('a' + rng() % 26);
    encode(state, line);
}
BENCHMARK(random_letters_line)->Arg(1'000'000)->Arg(10'000'000)->Unit(benchmark::kMillisecond);

/// Words of `range` random letters, each different: no cache, no piece longer than a few letters.
void random_words(benchmark::State& state) {
    std::mt19937 rng(3);
    std::string text(300'000, ' ');
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool ends = i % static_cast<std::size_t>(state.range(0)) == 0;
        text[i] = ends ? ' ' : static_cast<char>('a' + rng() % 26);
    }
    encode(state, text);
}
BENCHMARK(random_words)
    ->Arg(8)
    ->Arg(40)
    ->Arg(120)
    ->Arg(250)
    ->Arg(500)
    ->Unit(benchmark::kMillisecond);

void any_script(benchmark::State& state) {
    std::mt19937 rng(2);
    encode(state, random_text(rng, Script::any_unicode, 300'000));
}
BENCHMARK(any_script)->Unit(benchmark::kMillisecond);

void decode(benchmark::State& state) {
    const std::string text = read_shared("corpus/valid.txt.xz").value_or("");
    if (gemma() == nullptr || text.empty()) {
        state.SkipWithError("the shared vectors are not beside this checkout");
        return;
    }
    const auto ids = gemma()->encode(text);
    for (auto _ : state) benchmark::DoNotOptimize(gemma()->decode(ids).data());
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}
BENCHMARK(decode)->Unit(benchmark::kMillisecond);

/// What each start of a program pays.
void construction(benchmark::State& state) {
    const formats::Vocabulary* vocabulary = gemma_vocabulary();
    if (vocabulary == nullptr) {
        state.SkipWithError("the shared vectors are not beside this checkout");
        return;
    }
    for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::create(*vocabulary).has_value());
}
BENCHMARK(construction)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace unicorn::text
