// The engine on a Vulkan device: the CPU's tokens, and results that do not depend on chunks,
// batches and forks. The device is Mesa's software driver, or what UNICORN_TEST_VULKAN names.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "engine/engine.h"
#include "engine/generator.h"
#include "engine/sampler.h"
#include "testing/float_copy.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

using Row = std::vector<float>;

std::string device_name() {
    const char* wanted = std::getenv("UNICORN_TEST_VULKAN");
    return wanted == nullptr ? "vulkan:lavapipe" : wanted;
}

/// How far the same sums in another order may move logits (difference() below). Matrix units, which
/// hardware has, take floats as f16 where there are several rows.
double same() { return std::getenv("UNICORN_TEST_VULKAN") == nullptr ? 1e-4 : 1e-2; }

class VulkanEngineTest : public ::testing::Test {
protected:
    void SetUp() override {
        EngineOptions options;
        options.device = device_name();
        auto engine = Engine::open(tiny("q4_0"), options);
        if (engine) return;
        const char* required = std::getenv("UNICORN_REQUIRE_VULKAN");
        if (required != nullptr && std::string(required) == "1") {
            FAIL() << "UNICORN_REQUIRE_VULKAN=1, but: " << engine.error().message;
        }
        GTEST_SKIP() << engine.error().message;
    }
    std::string tiny(const std::string& recipe) {
        const std::string path = folder_.path(recipe + ".gguf");
        if (std::FILE* file = std::fopen(path.c_str(), "r")) {
            std::fclose(file);
        } else {
            testing::write_tiny_model(path, recipe);
        }
        return path;
    }
    static std::unique_ptr<Engine> open(const std::string& path, EngineOptions options,
                                        std::string device = device_name()) {
        options.device = std::move(device);
        options.threads = 2;
        auto engine = Engine::open(path, options);
        EXPECT_TRUE(engine) << engine.error().message;
        return std::move(*engine);
    }
    testing::TemporaryFolder folder_;
};

std::vector<std::int32_t> prompt(std::size_t n, std::uint32_t seed = 1) {
    std::vector<std::int32_t> tokens(n);
    for (std::int32_t& token : tokens) {
        seed = seed * 1664525u + 1013904223u;
        token = static_cast<std::int32_t>((seed >> 8) % 600);
    }
    return tokens;
}

std::vector<Row> evaluate(Engine& engine, Sequence& sequence, std::span<const std::int32_t> tokens,
                          Logits which = Logits::all) {
    std::vector<Row> rows;
    const Input input{&sequence, tokens, which};
    const auto status =
        engine.evaluate({&input, 1}, [&](std::size_t, std::size_t, std::span<const float> logits) {
            rows.emplace_back(logits.begin(), logits.end());
        });
    EXPECT_TRUE(status) << status.error().message;
    return rows;
}

std::vector<Row> all_logits(Engine& engine, std::span<const std::int32_t> tokens) {
    auto sequence = engine.create_sequence();
    return evaluate(engine, *sequence, tokens);
}

/// |a - b| / |b|, the largest over the rows.
double difference(const std::vector<Row>& a, const std::vector<Row>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        double error = 0, norm = 0;
        for (std::size_t j = 0; j < a[i].size(); ++j) {
            const double d = static_cast<double>(a[i][j]) - static_cast<double>(b[i][j]);
            error += d * d;
            norm += static_cast<double>(b[i][j]) * static_cast<double>(b[i][j]);
        }
        const double relative = std::sqrt(error / norm);
        if (!std::isfinite(relative)) return HUGE_VAL;
        most = std::max(most, relative);
    }
    return most;
}

std::int32_t most_likely(const Row& logits) {
    return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

const std::string kBundled = UNICORN_SOURCE_DIR "/models/unicorn-stories-29m-q8_0.gguf";
constexpr char kBeginning[] =
    "Long ago, in a country far away, there lived a king who had three daughters.";

/// The most likely token after each of 200, on the CPU and on the GPU; both go on with the CPU's.
struct Compared {
    std::vector<std::int32_t> cpu, gpu;
    std::vector<float> gaps;  // between the CPU's logits of the two
    std::vector<double> differences;
};

Compared compare_greedy(Engine& cpu, Engine& gpu) {
    auto a = cpu.create_sequence(), b = gpu.create_sequence();
    Compared result;
    std::vector<std::int32_t> next = cpu.tokenizer().encode(kBeginning);
    for (int i = 0; i < 200; ++i) {
        const Row expected = evaluate(cpu, *a, next, Logits::last).at(0);
        const Row got = evaluate(gpu, *b, next, Logits::last).at(0);
        result.differences.push_back(difference({got}, {expected}));
        result.cpu.push_back(most_likely(expected));
        result.gpu.push_back(most_likely(got));
        result.gaps.push_back(expected[static_cast<std::size_t>(result.cpu.back())] -
                              expected[static_cast<std::size_t>(result.gpu.back())]);
        next = {result.cpu.back()};
    }
    return result;
}

// The bundled model with its weights as floats, so that neither device rounds activations: the
// same tokens, or a tie.
TEST_F(VulkanEngineTest, BundledModelMakesTheCpusTokens) {
    const std::string path = folder_.path("floats.gguf");
    testing::write_float_copy(kBundled, path);
    EngineOptions options;
    options.context = 512;
    options.kv_type = tensor::DType::f32;
    const auto gpu = open(path, options);
    const auto cpu = open(path, options, "cpu");
    const Compared got = compare_greedy(*cpu, *gpu);
    for (std::size_t i = 0; i < got.cpu.size(); ++i) {
        EXPECT_LE(got.differences[i], same()) << "token " << i;
        EXPECT_LE(got.gaps[i], 10 * same()) << "token " << i;
    }
}

// As it is, both devices round activations to int8, which moves these logits by 0.6 % of their
// norm, and any other rounding before moves them anywhere within that after three layers: where
// two tokens are that close, either may come first.
TEST_F(VulkanEngineTest, RoundedActivationsKeepTheCpusTokensUnlessTheyAreClose) {
    EngineOptions options;
    options.context = 512;
    const auto gpu = open(kBundled, options);
    const auto cpu = open(kBundled, options, "cpu");
    const Compared got = compare_greedy(*cpu, *gpu);
    std::size_t n_same = 0;
    for (std::size_t i = 0; i < got.cpu.size(); ++i) {
        EXPECT_LE(got.differences[i], 2.5e-2) << "token " << i;
        EXPECT_LE(got.gaps[i], 0.25f) << "token " << i;
        n_same += got.cpu[i] == got.gpu[i];
    }
    EXPECT_GE(n_same, 190U);
}

TEST_F(VulkanEngineTest, AgreesWithTheCpuInEveryRecipe) {
    for (const char* recipe : {"f32", "bf16", "q4_0", "q4_k_m", "mixed"}) {
        for (const tensor::DType kv : {tensor::DType::f16, tensor::DType::q8_0}) {
            if (kv == tensor::DType::q8_0 && std::string(recipe) != "f32") continue;
            EngineOptions options;
            options.kv_type = kv;
            options.context = 256;
            const auto tokens = prompt(60);
            const auto expected = all_logits(*open(tiny(recipe), options, "cpu"), tokens);
            const auto got = all_logits(*open(tiny(recipe), options), tokens);
            // Float weights are multiplied in f32 by both, others in int8 by the CPU.
            const bool exact = std::string(recipe) == "f32" || std::string(recipe) == "bf16";
            EXPECT_LE(difference(got, expected), exact ? 10 * same() : 5e-2) << recipe;
        }
    }
}

TEST_F(VulkanEngineTest, ChunksDoNotChangeLogits) {
    const auto tokens = prompt(110);
    EngineOptions options;
    options.context = 256;
    const auto whole = all_logits(*open(tiny("f32"), options), tokens);
    for (const std::size_t chunk : {5U, 32U}) {
        options.chunk_tokens = chunk;
        EXPECT_LE(difference(all_logits(*open(tiny("f32"), options), tokens), whole), same())
            << chunk;
    }
}

TEST_F(VulkanEngineTest, BatchesAndForksDoNotChangeLogits) {
    EngineOptions options;
    options.context = 256;
    options.max_sequences = 4;
    options.chunk_tokens = 64;
    const auto engine = open(tiny("f32"), options);
    const std::vector<std::vector<std::int32_t>> prompts = {prompt(90, 1), prompt(1, 2),
                                                            prompt(55, 3)};
    std::vector<std::vector<Row>> together(3);
    {
        std::vector<Sequence> sequences;
        std::vector<Input> inputs;
        for (std::size_t i = 0; i < 3; ++i)
            sequences.push_back(std::move(*engine->create_sequence()));
        for (std::size_t i = 0; i < 3; ++i)
            inputs.push_back({&sequences[i], prompts[i], Logits::last});
        const LogitsSink sink = [&](std::size_t input, std::size_t, std::span<const float> logits) {
            together[input].emplace_back(logits.begin(), logits.end());
        };
        ASSERT_TRUE(engine->evaluate(inputs, sink));
        // A token more for each, all in one batch; before it, one forks off and goes another way,
        // on its own copy of the page that both would write.
        auto fork = sequences[0].fork();
        ASSERT_TRUE(fork);
        const std::vector<std::int32_t> next = {5}, elsewhere = {6, 7};
        evaluate(*engine, *fork, elsewhere);
        for (Input& input : inputs) input.tokens = next;
        ASSERT_TRUE(engine->evaluate(inputs, sink));
    }
    for (std::size_t i = 0; i < 3; ++i) {
        auto tokens = prompts[i];
        tokens.push_back(5);
        const auto alone = all_logits(*engine, tokens);
        EXPECT_LE(difference(together[i], {alone[alone.size() - 2], alone.back()}), same()) << i;
    }
}

/// The tokens that `sampler` draws from the device's logits, one pass after the other.
std::vector<std::int32_t> drawn_by_cpu(Engine& engine, Sequence& sequence, Sampler& sampler,
                                       std::int32_t first, std::size_t n) {
    std::vector<std::int32_t> ids;
    for (std::int32_t id = first; ids.size() < n;) {
        const Row logits = evaluate(engine, sequence, {&id, 1}, Logits::last).at(0);
        id = sampler.sample(logits).value_or(-1);
        sampler.accept(id);
        ids.push_back(id);
    }
    return ids;
}

Sampler sampler_of(const Engine& engine, const SamplerOptions& options) {
    return std::move(*Sampler::create(options, engine.n_vocab()));
}

SamplerOptions greedy() {
    SamplerOptions options;
    options.temperature = 0;
    return options;
}

// The device feeds itself the tokens it picks: they are those that the logits say, and the sequence
// goes on from there, also when it was stopped with a pass under way.
TEST_F(VulkanEngineTest, PicksTheMostLikelyTokens) {
    EngineOptions options;
    options.context = 256;
    const auto engine = open(tiny("f32"), options);
    Sampler sampler = sampler_of(*engine, greedy());
    ASSERT_TRUE(engine->can_decode(sampler));
    const auto tokens = prompt(40);
    auto sequence = engine->create_sequence();
    ASSERT_TRUE(sequence);
    const std::int32_t first =
        most_likely(evaluate(*engine, *sequence, tokens, Logits::last).at(0));
    const auto expected = drawn_by_cpu(*engine, *sequence, sampler, first, 20);
    std::vector<std::int32_t> got;
    for (const std::size_t stop : {20U, 13U, 1U}) {
        sequence->truncate(tokens.size());
        got.clear();
        const auto take = [&](std::size_t, std::int32_t id) {
            got.push_back(id);
            return got.size() < stop;
        };
        const Decoding decoding{&*sequence, &sampler, first, 20};
        ASSERT_TRUE(engine->decode({&decoding, 1}, take));
        EXPECT_EQ(got, std::vector<std::int32_t>(
                           expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(stop)));
        EXPECT_EQ(sequence->length(), tokens.size() + stop);
    }
    // What the stopped pass left behind does no harm.
    const std::int32_t next = expected[0];
    EXPECT_EQ(most_likely(evaluate(*engine, *sequence, {&next, 1}, Logits::last).at(0)),
              expected[1]);
}

// Sequences that decode together, each with a sampler of its own, get the tokens that they get
// alone, one after the other; those that end early leave the others as they are.
TEST_F(VulkanEngineTest, SequencesDecodeTogether) {
    EngineOptions options;
    options.context = 256;
    options.max_sequences = 3;
    const auto engine = open(tiny("f32"), options);
    for (const bool all_greedy : {true, false}) {
        std::vector<SamplerOptions> wanted(3, greedy());
        if (!all_greedy) {
            wanted[0] = {.temperature = 1.5f, .repeat_penalty = 1.2f, .seed = 3};
            wanted[1] = {.top_k = 200, .top_p = 1, .frequency_penalty = 0.3f, .seed = 4};
        }
        const std::vector<std::size_t> lengths = {30, 9, 21}, stops = {12, 100, 20};
        std::vector<Sequence> sequences;
        std::vector<Sampler> samplers;
        std::vector<std::vector<std::int32_t>> expected, got(3);
        for (std::uint32_t i = 0; i < 3; ++i) {
            const auto tokens = prompt(20 + 15 * i, i + 1);
            sequences.push_back(std::move(*engine->create_sequence()));
            samplers.push_back(sampler_of(*engine, wanted[i]));
            evaluate(*engine, sequences[i], tokens, Logits::none);
            expected.push_back(drawn_by_cpu(*engine, sequences[i], samplers[i], 7, 31));
            sequences[i].truncate(tokens.size());
            samplers[i].reset();
        }
        std::vector<Decoding> decodings;
        for (std::size_t i = 0; i < 3; ++i) {
            ASSERT_TRUE(engine->can_decode(samplers[i]));
            decodings.push_back({&sequences[i], &samplers[i], 7, lengths[i]});
        }
        const auto take = [&](std::size_t i, std::int32_t id) {
            got[i].push_back(id);
            samplers[i].accept(id);
            return got[i].size() < stops[i];
        };
        ASSERT_TRUE(engine->decode(decodings, take));
        for (std::size_t i = 0; i < 3; ++i) {
            const auto n = std::min(lengths[i], stops[i]);
            EXPECT_EQ(got[i].size(), n);
            // The samplers and sequences go on as if the CPU had drawn.
            const auto rest =
                drawn_by_cpu(*engine, sequences[i], samplers[i], got[i].back(), 31 - n);
            got[i].insert(got[i].end(), rest.begin(), rest.end());
            EXPECT_EQ(got[i], expected[i]) << i;
        }
    }
}

// generate() lets the device draw where it can, and draws on the CPU where it cannot: from the same
// logits, the same tokens.
TEST_F(VulkanEngineTest, GeneratesWhatTheCpusSamplerDraws) {
    EngineOptions options;
    options.context = 256;
    const auto engine = open(tiny("f32"), options);
    const auto tokens = prompt(30);
    std::vector<SamplerOptions> all(7);
    all[0] = greedy();
    all[1].seed = 5;
    all[2] = {.temperature = 0.7f, .top_k = 40, .min_p = 0.05f, .seed = 6};
    all[3] = {.temperature = 2, .top_k = 500, .top_p = 1, .repeat_penalty = 1.3f, .seed = 7};
    all[4] = {.presence_penalty = 1, .frequency_penalty = 0.5f, .logit_bias = {{9, 2.0f}}};
    all[5] = {.typical_p = 0.9f, .seed = 8};
    all[6] = {.top_k = 0, .seed = 9};
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(i);
        Sampler sampler = sampler_of(*engine, all[i]);
        EXPECT_EQ(engine->can_decode(sampler), i < 5);
        GenerateOptions how;
        how.max_tokens = 60;
        how.ignore_eos = true;
        auto sequence = engine->create_sequence();
        const auto got = generate(*engine, *sequence, tokens, sampler, how, {}, {});
        ASSERT_TRUE(got) << got.error().message;

        sequence->truncate(0);
        sampler.reset();
        for (const std::int32_t id : tokens) sampler.accept(id);
        std::vector<std::int32_t> expected, next = tokens;
        while (expected.size() < 60) {
            Row logits = evaluate(*engine, *sequence, next, Logits::last).at(0);
            for (const std::int32_t id : engine->stop_ids())
                logits[static_cast<std::size_t>(id)] = -HUGE_VALF;
            expected.push_back(sampler.sample(logits).value_or(-1));
            sampler.accept(expected.back());
            next = {expected.back()};
        }
        EXPECT_EQ(got->ids, expected);
    }
}

// A device that is lost at any submission is set up again, and what is evaluated and decoded is
// what it would have been; forks, samplers and logits already handed out too.
TEST_F(VulkanEngineTest, GoesOnAfterALostDevice) {
    int submissions_left = -1;  // until the loss; never where negative
    EngineOptions options;
    options.context = 256;
    options.max_sequences = 3;
    options.chunk_tokens = 16;
    options.lose_device = [&] { return submissions_left >= 0 && submissions_left-- == 0; };
    const auto engine = open(tiny("f32"), options);
    const auto tokens = prompt(40);
    const SamplerOptions sampling{.repeat_penalty = 1.2f, .seed = 3};
    std::vector<Row> expected_logits;
    std::vector<std::int32_t> expected, expected_of_fork;
    std::size_t n_lost = 0;
    for (const int at : {-1, 0, 3, 5, 6, 9, 20}) {
        SCOPED_TRACE(at);
        auto sequence = engine->create_sequence();
        ASSERT_TRUE(sequence);
        Sampler sampler = sampler_of(*engine, sampling);
        submissions_left = at;
        const auto logits = evaluate(*engine, *sequence, tokens);
        auto fork = sequence->fork();
        ASSERT_TRUE(fork);
        std::vector<std::int32_t> got;
        const auto take = [&](std::size_t, std::int32_t id) {
            got.push_back(id);
            sampler.accept(id);
            return true;
        };
        const Decoding decoding{&*sequence, &sampler, 7, 30};
        const auto status = engine->decode({&decoding, 1}, take);
        ASSERT_TRUE(status) << status.error().message;
        n_lost += at >= 0;
        EXPECT_EQ(engine->n_rebuilt(), n_lost);
        Sampler other = sampler_of(*engine, sampling);
        const auto of_fork = drawn_by_cpu(*engine, *fork, other, 9, 5);
        if (at < 0) {
            expected_logits = logits, expected = got, expected_of_fork = of_fork;
            continue;
        }
        EXPECT_EQ(logits.size(), tokens.size());
        EXPECT_LE(difference(logits, expected_logits), same());
        EXPECT_EQ(got, expected);
        EXPECT_EQ(of_fork, expected_of_fork);
        EXPECT_EQ(sequence->length(), tokens.size() + 30);
    }
}

// Of two sequences one has tokens to compute first. Whenever the device is lost meanwhile, both go
// on from all that they had.
TEST_F(VulkanEngineTest, SequencesGoOnTogetherAfterALostDevice) {
    int submissions_left = -1;
    EngineOptions options;
    options.context = 256;
    options.max_sequences = 2;
    options.chunk_tokens = 16;
    options.lose_device = [&] { return submissions_left >= 0 && submissions_left-- == 0; };
    const auto engine = open(tiny("f32"), options);
    std::vector<std::vector<std::int32_t>> expected;
    for (const int at : {-1, 0, 1, 2, 3, 5, 8}) {
        SCOPED_TRACE(at);
        std::vector<Sequence> sequences;
        for (std::uint32_t i = 0; i < 2; ++i) {
            sequences.push_back(std::move(*engine->create_sequence()));
            evaluate(*engine, sequences[i], prompt(i == 0 ? 40 : 120, i + 1), Logits::none);
        }
        sequences[1].truncate(50);  // its window's keys are gone
        const Sampler sampler = sampler_of(*engine, greedy());
        std::vector<Sampler> samplers(2, sampler);
        std::vector<std::vector<std::int32_t>> got(2);
        const auto take = [&](std::size_t i, std::int32_t id) {
            got[i].push_back(id);
            return true;
        };
        const std::vector<Decoding> decodings = {{&sequences[0], &samplers[0], 7, 12},
                                                 {&sequences[1], &samplers[1], 9, 12}};
        submissions_left = at;
        const auto status = engine->decode(decodings, take);
        ASSERT_TRUE(status) << status.error().message;
        if (at < 0) expected = got;
        EXPECT_EQ(got, expected);
        EXPECT_EQ(sequences[0].length(), 52U);
        EXPECT_EQ(sequences[1].length(), 62U);
    }
}

TEST_F(VulkanEngineTest, FailsWhenTheDeviceIsLostTwiceAndTriesAgainLater) {
    bool loses = false;
    EngineOptions options;
    options.context = 256;
    options.lose_device = [&] { return loses; };
    const auto engine = open(tiny("f32"), options);
    auto sequence = engine->create_sequence();
    ASSERT_TRUE(sequence);
    const auto tokens = prompt(20);
    const auto before = evaluate(*engine, *sequence, tokens, Logits::last);
    const std::vector<std::int32_t> next = {5};
    Sampler sampler = sampler_of(*engine, greedy());
    const Input input{&*sequence, next, Logits::last};
    const Decoding decoding{&*sequence, &sampler, 5, 10};
    loses = true;
    for (const bool decodes : {false, true}) {
        const auto status =
            decodes ? engine->decode({&decoding, 1}, {}) : engine->evaluate({&input, 1}, {});
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::device_lost);
        EXPECT_NE(status.error().message.find("lost again after it was set up anew"),
                  std::string::npos)
            << status.error().message;
        EXPECT_EQ(sequence->length(), tokens.size());
    }
    loses = false;
    const auto after = evaluate(*engine, *sequence, next, Logits::last);
    auto fresh = tokens;
    fresh.push_back(5);
    sequence->truncate(0);
    EXPECT_LE(difference(after, evaluate(*engine, *sequence, fresh, Logits::last)), same());
}

// "auto" takes hardware that has room, and else the CPU; a software device only goes by its name.
TEST_F(VulkanEngineTest, AutoTakesAGpuThatHasRoom) {
    const bool hardware = std::getenv("UNICORN_TEST_VULKAN") != nullptr;
    const auto engine = open(tiny("q4_0"), {}, "auto");
    EXPECT_TRUE(engine->device_name().starts_with(hardware ? "vulkan" : "cpu"))
        << engine->device_name();
    EXPECT_EQ(engine->options().device, hardware ? "vulkan" : "cpu");
    EXPECT_TRUE(engine->warnings().empty());
    EngineOptions options;
    options.auto_gpu = device_name();
    EXPECT_TRUE(open(tiny("q4_0"), options, "auto")->device_name().starts_with("vulkan"));
    // Too little room there, though the CPU takes less.
    EngineOptions small;
    small.device = device_name();
    small.memory_limit_bytes = 1 << 20;
    const auto none = Engine::open(kBundled, small);
    ASSERT_FALSE(none);
    const std::string& verdict = none.error().message;
    const double needed_mb = std::stod(verdict.substr(verdict.find("needs ") + 6));
    options.memory_limit_bytes = static_cast<std::uint64_t>((needed_mb - 10) * 1e6);
    const auto elsewhere = open(kBundled, options, "auto");
    EXPECT_TRUE(elsewhere->device_name().starts_with("cpu")) << elsewhere->device_name();
    ASSERT_FALSE(elsewhere->warnings().empty());
    EXPECT_NE(elsewhere->warnings()[0].find("the CPU runs the model, not vulkan"),
              std::string::npos)
        << elsewhere->warnings()[0];
    options = {};
    options.stream = plan::StreamPolicy::lru;
    const auto streams = open(tiny("q4_0"), options, "auto");
    EXPECT_TRUE(streams->device_name().starts_with("cpu")) << streams->device_name();
    EXPECT_TRUE(streams->warnings().empty());
    options.device = device_name();
    const auto refused = Engine::open(tiny("q4_0"), options);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
}

TEST_F(VulkanEngineTest, SaysWhatDoesNotFit) {
    EngineOptions options;
    options.device = device_name();
    options.memory_limit_bytes = 1 << 20;
    const auto engine = Engine::open(tiny("f32"), options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::out_of_memory);
    EXPECT_NE(engine.error().message.find("does not fit"), std::string::npos)
        << engine.error().message;
}

}  // namespace
}  // namespace unicorn::engine
