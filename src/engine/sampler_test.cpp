#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "testing/allocation_counter.h"

namespace unicorn::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SamplerOptions everything_off() {
    SamplerOptions o;
    o.top_k = 0;
    o.top_p = 1;
    return o;
}

Sampler make(const SamplerOptions& options, std::size_t n_vocab) {
    auto sampler = Sampler::create(options, n_vocab);
    if (!sampler) throw std::runtime_error(sampler.error().message);
    return std::move(*sampler);
}

std::vector<float> random_logits(std::size_t n, std::uint64_t seed, double scale) {
    RandomStream random(seed);
    std::vector<float> logits(n);
    for (float& x : logits) {
        double sum = 0;  // 12 uniforms less 6: near enough to a normal distribution
        for (int i = 0; i < 12; ++i) sum += random.uniform();
        x = static_cast<float>((sum - 6) * scale);
    }
    return logits;
}

struct Choice {
    std::int32_t id;
    double logit;
    double p;
};

void normalise(std::vector<Choice>& choices) {
    double best = -std::numeric_limits<double>::infinity(), total = 0;
    for (const auto& c : choices) best = std::max(best, c.logit);
    for (auto& c : choices) total += c.p = std::exp(c.logit - best);
    for (auto& c : choices) c.p /= total;
}

// The stages as their papers define them, with full sorts and no shortcut: what is left, best
// first, and its probabilities.
std::vector<Choice> reference(std::span<const float> logits, const SamplerOptions& o,
                              std::span<const std::int32_t> history = {}) {
    std::vector<Choice> left;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        const auto id = static_cast<std::int32_t>(i);
        float x = logits[i];
        if (const auto bias = o.logit_bias.find(id); bias != o.logit_bias.end()) x += bias->second;
        const auto recent = history.last(std::min(history.size(), o.penalty_last_n));
        if (const auto n = std::count(recent.begin(), recent.end(), id); n > 0) {
            x = x > 0 ? x / o.repeat_penalty : x * o.repeat_penalty;
            x -= o.presence_penalty + o.frequency_penalty * static_cast<float>(n);
        }
        if (x > -kInf) left.push_back({id, double{x}, 0});
    }
    std::stable_sort(left.begin(), left.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
    if (o.top_k > 0 && o.top_k < left.size()) left.resize(o.top_k);
    if (o.typical_p < 1) {
        normalise(left);
        double entropy = 0;
        for (const auto& c : left) entropy -= c.p > 0 ? c.p * std::log(c.p) : 0;
        std::stable_sort(left.begin(), left.end(), [&](auto& a, auto& b) {
            return std::abs(-std::log(a.p) - entropy) < std::abs(-std::log(b.p) - entropy);
        });
        double sum = 0;
        std::size_t n = 0;
        while (n < left.size() && sum <= double{o.typical_p}) sum += left[n++].p;
        left.resize(n);
        std::stable_sort(left.begin(), left.end(), [](auto& a, auto& b) {
            return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
        });
    }
    if (o.top_p < 1) {
        normalise(left);
        double sum = 0;
        std::size_t n = 0;
        while (n < left.size() && sum < double{o.top_p}) sum += left[n++].p;
        left.resize(n);
    }
    if (o.min_p > 0) {
        normalise(left);
        const double lowest = left.front().p * double{o.min_p};
        std::erase_if(left, [&](const Choice& c) { return c.p < lowest; });
    }
    for (auto& c : left) c.logit /= double{o.temperature};
    normalise(left);
    return left;
}

// Chi-square of many draws against the reference's probabilities. Bins that expect fewer than
// eight draws are pooled.
void expect_distribution(const SamplerOptions& options, std::span<const float> logits) {
    constexpr int kDraws = 20000;
    const auto expected = reference(logits, options);
    Sampler sampler = make(options, logits.size());
    std::vector<int> seen(logits.size(), 0);
    for (int i = 0; i < kDraws; ++i)
        ++seen[static_cast<std::size_t>(sampler.sample(logits).value())];
    double chi2 = 0, pooled_expected = 0, pooled_seen = 0;
    int bins = 0, total_seen = 0;
    for (const auto& c : expected) {
        const double n = c.p * kDraws;
        const int hits = seen[static_cast<std::size_t>(c.id)];
        total_seen += hits;
        if (n < 8) {
            pooled_expected += n;
            pooled_seen += hits;
            continue;
        }
        chi2 += (hits - n) * (hits - n) / n;
        ++bins;
    }
    EXPECT_EQ(total_seen, kDraws) << "a token was drawn that the stages remove";
    if (pooled_expected >= 8) {
        chi2 += (pooled_seen - pooled_expected) * (pooled_seen - pooled_expected) / pooled_expected;
        ++bins;
    }
    // Mean bins - 1, standard deviation sqrt(2 (bins - 1)): five of those are one in a million.
    EXPECT_LT(chi2, bins - 1 + 5 * std::sqrt(2.0 * std::max(bins - 1, 1)) + 5) << bins << " bins";
}

TEST(RandomStream, IsTheSameEverywhere) {
    // SplitMix64 with the seed mixed once; values computed by hand with Python's integers.
    RandomStream random(42);
    EXPECT_EQ(random.next(), UINT64_C(10996452266160306281));
    EXPECT_EQ(random.next(), UINT64_C(2958219263312191191));
    RandomStream zero(0);
    EXPECT_EQ(zero.next(), UINT64_C(16294208416658607535));
    for (int i = 0; i < 1000; ++i) {
        const double u = zero.uniform();
        EXPECT_GE(u, 0);
        EXPECT_LT(u, 1);
    }
}

TEST(Sampler, ZeroTemperatureTakesTheBestAndTheLowerIdOfEquals) {
    SamplerOptions o;
    o.temperature = 0;
    Sampler sampler = make(o, 5);
    EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3, 0}), 1);
    EXPECT_EQ(sampler.sample(std::vector<float>{-5, -3, -2, -9, -2}), 2);
}

TEST(Sampler, TemperatureShapesTheDistribution) {
    const auto logits = random_logits(40, 1, 1.5);
    for (const float t : {0.3f, 0.7f, 1.0f, 1.8f}) {
        SCOPED_TRACE(t);
        SamplerOptions o = everything_off();
        o.temperature = t;
        o.seed = 7;
        expect_distribution(o, logits);
    }
}

TEST(Sampler, EachStageDrawsFromTheReferenceDistribution) {
    const auto logits = random_logits(60, 2, 2);
    const auto check = [&](const char* what, auto&& change) {
        SCOPED_TRACE(what);
        SamplerOptions o = everything_off();
        o.seed = 11;
        change(o);
        expect_distribution(o, logits);
    };
    check("top-k 1", [](auto& o) { o.top_k = 1; });
    check("top-k 7", [](auto& o) { o.top_k = 7; });
    check("top-k of all", [](auto& o) { o.top_k = 60; });
    check("top-k above all", [](auto& o) { o.top_k = 1000; });
    check("top-p 0.5", [](auto& o) { o.top_p = 0.5f; });
    check("top-p tiny", [](auto& o) { o.top_p = 1e-6f; });
    check("top-p 0.999", [](auto& o) { o.top_p = 0.999f; });
    check("min-p 0.1", [](auto& o) { o.min_p = 0.1f; });
    check("min-p 1", [](auto& o) { o.min_p = 1; });
    check("typical 0.3", [](auto& o) { o.typical_p = 0.3f; });
    check("typical 0.95", [](auto& o) { o.typical_p = 0.95f; });
    check("bias", [](auto& o) { o.logit_bias = {{3, 2.5f}, {4, -kInf}, {59, 6.0f}}; });
    check("Gemma's defaults", [](auto& o) { o.top_k = 64, o.top_p = 0.95f; });
    check("all of them", [](auto& o) {
        o.top_k = 30, o.typical_p = 0.97f, o.top_p = 0.9f, o.min_p = 0.02f, o.temperature = 1.4f;
        o.logit_bias = {{1, 1.0f}};
    });
}

// The same draw from the reference's survivors, over vocabularies large enough to cut the
// candidate buffer many times and to widen the nucleus of top-p.
TEST(Sampler, DrawsWhatTheReferenceDraws) {
    RandomStream random(99);
    for (int round = 0; round < 200; ++round) {
        SCOPED_TRACE(round);
        const std::size_t n = 1 + random.next() % 20000;
        const auto logits = random_logits(n, random.next(), 0.2 + 4 * random.uniform());
        SamplerOptions o = everything_off();
        o.seed = random.next();
        const auto sometimes = [&] { return random.next() % 2 == 0; };
        if (sometimes()) o.top_k = 1 + random.next() % 300;
        if (sometimes()) o.typical_p = static_cast<float>(0.2 + 0.79 * random.uniform());
        if (sometimes()) o.min_p = static_cast<float>(0.3 * random.uniform());
        // One of the sorting stages, so that both sides walk from the best token down.
        if (o.top_k == 0 || sometimes())
            o.top_p = static_cast<float>(0.05 + 0.94 * random.uniform());
        o.temperature = static_cast<float>(0.1 + 2 * random.uniform());
        o.repeat_penalty = sometimes() ? 1.0f : 1.3f;
        o.presence_penalty = sometimes() ? 0.0f : 0.5f;
        o.frequency_penalty = sometimes() ? 0.0f : 0.25f;
        o.penalty_last_n = random.next() % 20;

        Sampler sampler = make(o, n);
        std::vector<std::int32_t> history;
        for (std::size_t i = 0; i < 30; ++i) {
            history.push_back(
                static_cast<std::int32_t>(random.next() % std::min<std::size_t>(n, 12)));
            sampler.accept(history.back());
        }
        const auto left = reference(logits, o, history);
        double rest = RandomStream(o.seed).uniform();
        std::int32_t expected = left.back().id;
        for (const auto& c : left) {
            rest -= c.p;
            if (rest < 0) {
                expected = c.id;
                break;
            }
        }
        EXPECT_EQ(sampler.sample(logits), expected);
    }
}

TEST(Sampler, PenaltiesLookBackOnTheLastTokensOnly) {
    SamplerOptions o;
    o.temperature = 0;
    o.presence_penalty = 2;
    o.penalty_last_n = 2;
    Sampler sampler = make(o, 4);
    const std::vector<float> logits{4, 3, 2.5f, 0};
    EXPECT_EQ(sampler.sample(logits), 0);
    sampler.accept(0);
    EXPECT_EQ(sampler.sample(logits), 1);
    sampler.accept(1);
    EXPECT_EQ(sampler.sample(logits), 2);
    sampler.accept(2);  // 0 has left the window
    EXPECT_EQ(sampler.sample(logits), 0);
    sampler.accept(1000);  // outside the vocabulary: ignored
    sampler.accept(-1);
    EXPECT_EQ(sampler.sample(logits), 0);
    sampler.reset();
    EXPECT_EQ(sampler.sample(logits), 0);
}

TEST(Sampler, RepeatPenaltyMovesNegativeLogitsDownToo) {
    SamplerOptions o;
    o.temperature = 0;
    o.repeat_penalty = 2;
    Sampler sampler = make(o, 3);
    sampler.accept(0);
    EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.5f, -3}), 1);
    EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.4f, 1}), 0);
    EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.6f, 1}), 1);
}

TEST(Sampler, FrequencyPenaltyCountsEachTime) {
    SamplerOptions o;
    o.temperature = 0;
    o.frequency_penalty = 1;
    Sampler sampler = make(o, 2);
    const std::vector<float> logits{2.5f, 0};
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(sampler.sample(logits), 0);
        sampler.accept(0);
    }
    EXPECT_EQ(sampler.sample(logits), 1);
}

TEST(Sampler, ManyEqualLogitsKeepTheLowestIds) {
    SamplerOptions o = everything_off();
    o.top_k = 3;
    const std::vector<float> logits(5000, 1.0f);
    Sampler sampler = make(o, logits.size());
    std::vector<int> seen(logits.size(), 0);
    for (int i = 0; i < 300; ++i) ++seen[static_cast<std::size_t>(sampler.sample(logits).value())];
    EXPECT_GT(seen[0], 60);
    EXPECT_GT(seen[1], 60);
    EXPECT_GT(seen[2], 60);
    EXPECT_EQ(seen[0] + seen[1] + seen[2], 300);
}

TEST(Sampler, TopPOfAFlatDistributionKeepsItsShare) {
    SamplerOptions o = everything_off();
    o.top_p = 0.5f;
    const std::vector<float> logits(20000, 0.0f);
    Sampler sampler = make(o, logits.size());
    std::int32_t highest = 0;
    for (int i = 0; i < 600; ++i) highest = std::max(highest, sampler.sample(logits).value());
    EXPECT_LT(highest, 10001);
    EXPECT_GT(highest, 9900);
}

TEST(Sampler, NanAndMinusInfinityAreNeverDrawn) {
    for (const bool cut : {false, true}) {
        SamplerOptions o = everything_off();
        if (cut) o.top_k = 4, o.top_p = 0.99f, o.min_p = 0.01f, o.typical_p = 0.99f;
        Sampler sampler = make(o, 6);
        for (int i = 0; i < 500; ++i) {
            const auto id = sampler.sample(std::vector<float>{kNan, 1, -kInf, 1, kNan, 0});
            EXPECT_THAT(id, ::testing::AnyOf(1, 3, 5));
        }
        EXPECT_EQ(sampler.sample(std::vector<float>{0, 1, kInf, 1, kNan, 0}), 2);
        EXPECT_EQ(sampler.sample(std::vector<float>{kNan, -kInf, kNan, -kInf, kNan, kNan}),
                  std::nullopt);
    }
    SamplerOptions greedy;
    greedy.temperature = 0;
    EXPECT_EQ(make(greedy, 3).sample(std::vector<float>{kNan, -2, kNan}), 1);
    EXPECT_EQ(make(greedy, 2).sample(std::vector<float>{kNan, kNan}), std::nullopt);
}

TEST(Sampler, HugeLogitsAndTinyTemperaturesStayFinite) {
    SamplerOptions o = everything_off();
    o.temperature = 1e-30f;
    EXPECT_EQ(make(o, 3).sample(std::vector<float>{3e38f, -3e38f, 3.1e38f}), 2);
    o.temperature = 1e30f;
    EXPECT_TRUE(make(o, 3).sample(std::vector<float>{3e38f, -3e38f, 3.1e38f}).has_value());
}

TEST(Sampler, PenaltiesThatOverflowBanAndSpoilNothing) {
    std::vector<float> logits(100, 0.0f);
    logits[5] = 2.0f;
    logits[70] = 1.0f;
    SamplerOptions overflowing;  // inf - inf
    overflowing.temperature = 0;
    overflowing.repeat_penalty = 1e-38f;
    overflowing.presence_penalty = 3e38f;
    overflowing.frequency_penalty = 3e38f;
    SamplerOptions banned;  // -inf + inf
    banned.temperature = 0;
    banned.logit_bias = {{5, -kInf}};
    banned.frequency_penalty = -3e38f;
    for (const SamplerOptions& options : {overflowing, banned}) {
        Sampler sampler = make(options, logits.size());
        sampler.accept(5);
        sampler.accept(5);
        EXPECT_EQ(sampler.sample(logits), 70);
    }
}

TEST(Sampler, ASeedRepeatsAndResetStartsOver) {
    const auto logits = random_logits(1000, 5, 1);
    SamplerOptions o;
    o.seed = 123;
    Sampler a = make(o, 1000), b = make(o, 1000);
    o.seed = 124;
    Sampler other = make(o, 1000);
    std::vector<std::int32_t> first, again, after_reset, different;
    for (int i = 0; i < 50; ++i) first.push_back(a.sample(logits).value());
    for (int i = 0; i < 50; ++i) again.push_back(b.sample(logits).value());
    a.reset();
    for (int i = 0; i < 50; ++i) after_reset.push_back(a.sample(logits).value());
    for (int i = 0; i < 50; ++i) different.push_back(other.sample(logits).value());
    EXPECT_EQ(first, again);
    EXPECT_EQ(first, after_reset);
    EXPECT_NE(first, different);
}

TEST(Sampler, AllocatesNothingOnceCreated) {
    const auto peaked = random_logits(50000, 21, 3), flat = random_logits(50000, 22, 0.01);
    SamplerOptions gemma, wide = everything_off(), all;
    gemma.repeat_penalty = 1.1f;
    wide.top_p = 0.9f;
    all.top_k = 0, all.typical_p = 0.9f, all.min_p = 0.01f, all.logit_bias = {{5, 1.0f}};
    for (const auto& options : {gemma, wide, all, everything_off()}) {
        Sampler sampler = make(options, 50000);
        const std::size_t before = testing::allocation_count();
        for (int i = 0; i < 80; ++i) {
            sampler.accept(sampler.sample(i % 2 == 0 ? peaked : flat).value());
        }
        EXPECT_EQ(testing::allocation_count(), before);
    }
}

TEST(Sampler, RefusesWhatMakesNoSenseInOneLine) {
    const auto message = [](auto&& change) {
        SamplerOptions o;
        change(o);
        auto sampler = Sampler::create(o, 100);
        return sampler ? std::string("accepted") : sampler.error().message;
    };
    EXPECT_EQ(message([](auto&) {}), "accepted");
    EXPECT_EQ(message([](auto& o) { o.temperature = -1; }), "temperature is -1, must be 0 or more");
    EXPECT_EQ(message([](auto& o) { o.temperature = kNan; }),
              "temperature is nan, must be 0 or more");
    EXPECT_EQ(message([](auto& o) { o.top_p = 0; }), "top-p is 0, must be above 0 and at most 1");
    EXPECT_EQ(message([](auto& o) { o.top_p = 1.5f; }),
              "top-p is 1.5, must be above 0 and at most 1");
    EXPECT_EQ(message([](auto& o) { o.typical_p = kNan; }),
              "typical-p is nan, must be above 0 and at most 1");
    EXPECT_EQ(message([](auto& o) { o.min_p = -0.5f; }), "min-p is -0.5, must be between 0 and 1");
    EXPECT_EQ(message([](auto& o) { o.repeat_penalty = 0; }),
              "repeat penalty is 0, must be above 0");
    EXPECT_EQ(message([](auto& o) { o.presence_penalty = kInf; }),
              "presence penalty is inf, must be finite");
    EXPECT_EQ(message([](auto& o) { o.frequency_penalty = kNan; }),
              "frequency penalty is nan, must be finite");
    EXPECT_EQ(message([](auto& o) { o.penalty_last_n = 2000000; }),
              "penalties look back on 2000000 tokens, at most 1048576 are allowed");
    EXPECT_EQ(message([](auto& o) {
                  o.logit_bias = {{100, 1.0f}};
              }),
              "logit bias for token 100, the vocabulary has 100 tokens");
    EXPECT_EQ(message([](auto& o) {
                  o.logit_bias = {{1, kInf}};
              }),
              "logit bias of token 1 is inf, must be finite or -inf");
    EXPECT_EQ(message([](auto& o) { o.logit_bias = {{1, -kInf}}; }), "accepted");
}

}  // namespace
}  // namespace unicorn::engine
