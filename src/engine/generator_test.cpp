// Answers of a small random model: what ends them, what they report, what is kept between them.

#include "engine/generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "testing/allocation_counter.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

class Generator : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        folder_ = new testing::TemporaryFolder();
        testing::write_tiny_model(folder_->path("tiny.gguf"), "q8_0");
    }
    static void TearDownTestSuite() { delete folder_; }

    void SetUp() override { open(256); }

    void open(std::size_t context) {
        sequence_.reset();
        auto engine = Engine::open(folder_->path("tiny.gguf"), {.threads = 2, .context = context});
        ASSERT_TRUE(engine) << engine.error().message;
        engine_ = std::move(*engine);
        renew_sequence();
    }

    void renew_sequence() {
        sequence_.reset();
        auto sequence = engine_->create_sequence();
        ASSERT_TRUE(sequence) << sequence.error().message;
        sequence_.emplace(std::move(*sequence));
    }

    Sampler sampler(SamplerOptions options) const {
        auto made = Sampler::create(options, engine_->n_vocab());
        EXPECT_TRUE(made) << made.error().message;
        return std::move(*made);
    }

    static SamplerOptions greedy() {
        SamplerOptions options;
        options.temperature = 0;
        return options;
    }

    Generation answer(const std::vector<std::int32_t>& prompt, SamplerOptions sampling,
                      GenerateOptions options, const TextSink& sink = {},
                      const std::function<bool()>& cancelled = {}) {
        Sampler s = sampler(sampling);
        auto result = generate(*engine_, *sequence_, prompt, s, options, sink, cancelled);
        EXPECT_TRUE(result) << result.error().message;
        return result ? *result : Generation{};
    }

    const std::vector<std::int32_t> prompt_{2, 300, 301, 302, 303, 304};
    static inline testing::TemporaryFolder* folder_ = nullptr;
    std::unique_ptr<Engine> engine_;
    std::optional<Sequence> sequence_;
};

TEST_F(Generator, GreedyTakesTheBestLogitOfEveryStep) {
    GenerateOptions options;
    options.max_tokens = 12;
    options.ignore_eos = true;
    const Generation got = answer(prompt_, greedy(), options);
    ASSERT_EQ(got.ids.size(), 12u);
    EXPECT_EQ(got.finish, FinishReason::length);
    EXPECT_EQ(sequence_->length(), prompt_.size() + 11) << "the last token is not evaluated";

    renew_sequence();
    std::vector<std::int32_t> next = prompt_, expected;
    const auto stops = engine_->stop_ids();
    for (std::size_t i = 0; i < 12; ++i) {
        const Input input{&*sequence_, next, Logits::last};
        const auto pick = [&](std::size_t, std::size_t, std::span<const float> logits) {
            std::int32_t best = -1;
            for (std::int32_t id = 0; static_cast<std::size_t>(id) < logits.size(); ++id) {
                if (std::find(stops.begin(), stops.end(), id) != stops.end()) continue;
                if (best < 0 ||
                    logits[static_cast<std::size_t>(id)] > logits[static_cast<std::size_t>(best)])
                    best = id;
            }
            expected.push_back(best);
        };
        ASSERT_TRUE(engine_->evaluate({&input, 1}, pick));
        next = {expected.back()};
    }
    EXPECT_EQ(got.ids, expected);
}

TEST_F(Generator, PassesOnTheTextThatItReports) {
    SamplerOptions sampling;
    sampling.seed = 3;
    GenerateOptions options;
    options.max_tokens = 40;
    options.ignore_eos = true;
    std::string shown;
    const Generation got = answer(prompt_, sampling, options, [&](std::string_view text) {
        EXPECT_FALSE(text.empty());
        shown += text;
        return true;
    });
    EXPECT_EQ(got.ids.size(), 40u);
    EXPECT_EQ(shown, got.text);
    EXPECT_EQ(got.prompt_tokens, prompt_.size());
    EXPECT_EQ(got.reused_tokens, 0u);
    EXPECT_GT(got.prompt_tok_s(), 0);
    EXPECT_GT(got.tok_s(), 0);
}

TEST_F(Generator, ASeedRepeatsAnAnswer) {
    SamplerOptions sampling;
    sampling.seed = 17;
    GenerateOptions options;
    options.max_tokens = 30;
    options.ignore_eos = true;
    const Generation first = answer(prompt_, sampling, options);
    renew_sequence();
    EXPECT_EQ(answer(prompt_, sampling, options).ids, first.ids);
    renew_sequence();
    sampling.seed = 18;
    EXPECT_NE(answer(prompt_, sampling, options).ids, first.ids);
}

TEST_F(Generator, EndsWhenTheContextIsFull) {
    open(16);
    GenerateOptions options;
    options.ignore_eos = true;
    const Generation got = answer(prompt_, greedy(), options);
    EXPECT_EQ(got.finish, FinishReason::context);
    EXPECT_EQ(got.ids.size(), 16 - prompt_.size());
    EXPECT_LE(sequence_->length(), 16u);

    renew_sequence();
    options.max_tokens = 100;  // more than there is room for
    EXPECT_EQ(answer(prompt_, greedy(), options).finish, FinishReason::context);
    renew_sequence();
    options.max_tokens = 16 - prompt_.size();  // just as much
    EXPECT_EQ(answer(prompt_, greedy(), options).finish, FinishReason::length);
}

TEST_F(Generator, EndsAtAStopIdUnlessToldToIgnoreIt) {
    ASSERT_FALSE(engine_->stop_ids().empty());
    const std::int32_t stop = engine_->stop_ids().front();
    SamplerOptions sampling = greedy();
    sampling.logit_bias[stop] = 1000;
    GenerateOptions options;
    options.max_tokens = 5;
    const Generation stopped = answer(prompt_, sampling, options);
    EXPECT_EQ(stopped.finish, FinishReason::stop);
    EXPECT_EQ(stopped.ids, std::vector<std::int32_t>{stop});
    EXPECT_EQ(stopped.text, "");

    renew_sequence();
    options.ignore_eos = true;
    const Generation ignored = answer(prompt_, sampling, options);
    EXPECT_EQ(ignored.finish, FinishReason::length);
    for (const std::int32_t id : ignored.ids)
        for (const std::int32_t forbidden : engine_->stop_ids()) EXPECT_NE(id, forbidden);
}

TEST_F(Generator, EndsBeforeAStopString) {
    GenerateOptions options;
    options.max_tokens = 30;
    options.ignore_eos = true;
    const Generation whole = answer(prompt_, greedy(), options);
    ASSERT_GT(whole.text.size(), 12u);
    const std::string stop = whole.text.substr(6, 4);
    options.stops = {stop};
    renew_sequence();
    const Generation cut = answer(prompt_, greedy(), options);
    EXPECT_EQ(cut.finish, FinishReason::stop);
    EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
    EXPECT_LT(cut.ids.size(), whole.ids.size());
}

TEST_F(Generator, EndsWhenCancelled) {
    GenerateOptions options;
    options.ignore_eos = true;
    int pieces = 0;
    const Generation by_sink =
        answer(prompt_, greedy(), options, [&](std::string_view) { return ++pieces < 3; });
    EXPECT_EQ(by_sink.finish, FinishReason::cancelled);
    EXPECT_EQ(pieces, 3);

    renew_sequence();
    const Generation at_once = answer(prompt_, greedy(), options, {}, [] { return true; });
    EXPECT_EQ(at_once.finish, FinishReason::cancelled);
    EXPECT_LE(at_once.ids.size(), 1u);
}

TEST_F(Generator, KeepsTheCommonBeginningOfTheLastTimeline) {
    GenerateOptions options;
    options.max_tokens = 8;
    options.ignore_eos = true;
    const Generation first = answer(prompt_, greedy(), options);
    std::vector<std::int32_t> longer = prompt_;
    longer.insert(longer.end(), first.ids.begin(), first.ids.end());
    longer.insert(longer.end(), {400, 401});
    const Generation second = answer(longer, greedy(), options);
    EXPECT_EQ(second.prompt_tokens, longer.size());
    EXPECT_EQ(second.reused_tokens, prompt_.size() + 7);

    std::vector<std::int32_t> changed = longer;
    changed[3] = 500;
    const Generation third = answer(changed, greedy(), options);
    EXPECT_EQ(third.reused_tokens, 3u);
    const Generation again = answer(changed, greedy(), options);
    EXPECT_EQ(again.reused_tokens, changed.size() - 1) << "the last token's logits are needed";
    EXPECT_EQ(again.ids, third.ids);

    renew_sequence();
    EXPECT_EQ(answer(changed, greedy(), options).ids, third.ids) << "as on a fresh sequence";
}

// The speed of the prompt was reported too high by the share that local layers had dropped.
TEST_F(Generator, WhatLocalLayersHaveDroppedDoesNotCountAsKept) {
    open(512);
    GenerateOptions options;
    options.max_tokens = 4;
    options.ignore_eos = true;
    std::vector<std::int32_t> prompt;
    for (std::int32_t i = 0; i < 300; ++i) prompt.push_back(2 + i);
    answer(prompt, greedy(), options);
    prompt.resize(100);  // farther back than the window of 48
    const Generation cut = answer(prompt, greedy(), options);
    EXPECT_EQ(cut.reused_tokens, 0u) << "all of it is computed again";
    EXPECT_EQ(cut.prompt_tokens, 100u);
    renew_sequence();
    EXPECT_EQ(answer(prompt, greedy(), options).ids, cut.ids);
}

TEST_F(Generator, TokensTakeNothingFromTheHeap) {
    SamplerOptions sampling;
    sampling.seed = 5;
    sampling.repeat_penalty = 1.1f;
    GenerateOptions options;
    options.ignore_eos = true;
    options.stops = {"no such text"};
    const auto allocations = [&](std::size_t n_tokens) {
        options.max_tokens = n_tokens;
        Sampler s = sampler(sampling);
        renew_sequence();
        const std::size_t before = testing::allocation_count();
        const auto got = generate(
            *engine_, *sequence_, prompt_, s, options, [](std::string_view) { return true; },
            [] { return false; });
        const std::size_t after = testing::allocation_count();
        EXPECT_TRUE(got && got->ids.size() == n_tokens);
        return after - before;
    };
    allocations(120);  // buffers of the engine
    const std::size_t few = allocations(20);
    EXPECT_EQ(allocations(120), few);
}

TEST_F(Generator, PenaltiesSeeThePromptAndTheAnswer) {
    SamplerOptions sampling = greedy();
    sampling.presence_penalty = 1000;
    sampling.penalty_last_n = 100;
    GenerateOptions options;
    options.max_tokens = 40;
    options.ignore_eos = true;
    const Generation got = answer(prompt_, sampling, options);
    std::vector<std::int32_t> all = prompt_;
    all.insert(all.end(), got.ids.begin(), got.ids.end());
    std::sort(all.begin(), all.end());
    EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end()) << "a token came twice";
}

TEST_F(Generator, RefusesPromptsThatCannotBeAnswered) {
    Sampler s = sampler(greedy());
    auto empty = generate(*engine_, *sequence_, {}, s, {}, {});
    ASSERT_FALSE(empty);
    EXPECT_EQ(empty.error().code, ErrorCode::invalid_argument);
    const std::vector<std::int32_t> full(256, 300);
    auto too_long = generate(*engine_, *sequence_, full, s, {}, {});
    ASSERT_FALSE(too_long);
    EXPECT_EQ(too_long.error().code, ErrorCode::out_of_memory);
    EXPECT_EQ(too_long.error().message,
              "the prompt has 256 tokens, and the context holds 256, the answer included");
    EXPECT_EQ(sequence_->length(), 0u);
}

}  // namespace
}  // namespace unicorn::engine
