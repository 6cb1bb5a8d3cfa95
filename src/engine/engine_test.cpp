// What the engine promises whatever the weights are: results do not depend on how tokens are cut
// into chunks, batched, threaded, forked or cut back, and decoding allocates nothing.

#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "engine/plan_model.h"
#include "testing/allocation_counter.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

using Row = std::vector<float>;

const testing::TemporaryFolder& folder() {
    static const testing::TemporaryFolder instance;
    return instance;
}

/// One model a recipe, written once.
std::string model_path(const std::string& recipe) {
    const std::string path = folder().path(recipe + ".gguf");
    if (FILE* file = std::fopen(path.c_str(), "r")) {
        std::fclose(file);
    } else {
        testing::write_tiny_model(path, recipe);
    }
    return path;
}

std::unique_ptr<Engine> open(const std::string& recipe, EngineOptions options = {}) {
    if (options.threads == 0) options.threads = 2;
    auto engine = Engine::open(model_path(recipe), options);
    EXPECT_TRUE(engine) << engine.error().message;
    return std::move(*engine);
}

std::vector<std::int32_t> prompt(std::size_t n, std::uint32_t seed = 1) {
    std::vector<std::int32_t> tokens(n);
    for (std::size_t i = 0; i < n; ++i) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = static_cast<std::int32_t>((seed >> 8) % 600);
    }
    return tokens;
}

std::vector<Row> all_logits(Engine& engine, Sequence& sequence,
                            std::span<const std::int32_t> tokens) {
    std::vector<Row> rows;
    const Input input{&sequence, tokens, Logits::all};
    const auto status = engine.evaluate(
        {&input, 1}, [&](std::size_t, std::size_t position, std::span<const float> logits) {
            EXPECT_EQ(position, sequence.length() - tokens.size() + rows.size());
            rows.emplace_back(logits.begin(), logits.end());
        });
    EXPECT_TRUE(status) << status.error().message;
    EXPECT_EQ(rows.size(), tokens.size());
    return rows;
}

std::vector<Row> all_logits(Engine& engine, std::span<const std::int32_t> tokens) {
    auto sequence = engine.create_sequence();
    EXPECT_TRUE(sequence);
    return all_logits(engine, *sequence, tokens);
}

/// Largest difference over the largest logit of the row.
double difference(const Row& a, const Row& b) {
    double worst = 0, scale = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return HUGE_VAL;
        worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
        scale = std::max(scale, std::abs(static_cast<double>(a[i])));
    }
    return worst / scale;
}

void expect_same(const std::vector<Row>& a, const std::vector<Row>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_LE(difference(a[i], b[i]), 1e-4) << "row " << i;
}

/// The types of a model's matrices and of its KV cache.
struct Types {
    std::string recipe;
    tensor::DType kv = tensor::DType::f16;
};

class EngineTest : public ::testing::TestWithParam<Types> {
protected:
    static std::unique_ptr<Engine> open_with(EngineOptions options = {}) {
        options.kv_type = GetParam().kv;
        return open(GetParam().recipe, options);
    }
};

TEST_P(EngineTest, ChunksDoNotChangeLogits) {
    const auto tokens = prompt(110);
    const auto whole = all_logits(*open_with(), tokens);
    for (const std::size_t chunk : {5U, 32U, 100U}) {
        EngineOptions options;
        options.chunk_tokens = chunk;
        expect_same(whole, all_logits(*open_with(options), tokens));
    }
}

/// Of the plan, what is only needed while weights are read.
std::uint64_t staging_bytes(const plan::Plan& plan) {
    std::uint64_t bytes = 0;
    for (const plan::Placement& p : plan.placements)
        bytes += p.what == plan::What::staging ? p.bytes : 0;
    return bytes;
}

TEST_P(EngineTest, ThePlanSaysWhatIsAllocated) {
    for (const std::size_t chunk : {16U, 512U}) {
        for (const std::size_t sequences : {1U, 20U}) {
            EngineOptions options;
            options.context = 200;
            options.chunk_tokens = chunk;
            options.max_sequences = sequences;
            const auto engine = open_with(options);
            const MemoryUse use = engine->memory();
            const plan::Plan& plan = engine->plan();
            EXPECT_EQ(plan.kv_bytes + plan.kv_chunk_bytes, use.kv_bytes);
            EXPECT_EQ(plan.other_bytes, use.workspace_bytes + staging_bytes(plan));
            EXPECT_EQ(plan.weights_by_role.back().first, "norms");
            EXPECT_EQ(plan.weight_bytes - plan.weights_by_role.back().second, use.weight_bytes);
            EXPECT_EQ(plan.needed_bytes, plan.weight_bytes + use.kv_bytes + plan.other_bytes);

            // Just that much beside the reserve is enough, and a byte less is refused.
            options.kv_type = GetParam().kv;
            options.threads = 2;
            const std::uint64_t available = plan.needed_bytes + reserve_bytes(plan.weight_bytes);
            plan::HardwareProfile machine = plan::cpu_only_profile(available, available);
            options.machine = machine;
            EXPECT_TRUE(Engine::open(model_path(GetParam().recipe), options));
            machine.pools[0].available_bytes -= 1;
            options.machine = machine;
            const auto refused = Engine::open(model_path(GetParam().recipe), options);
            ASSERT_FALSE(refused);
            EXPECT_EQ(refused.error().code, ErrorCode::out_of_memory);
            EXPECT_NE(refused.error().message.find("does not fit: needs"), std::string::npos);
        }
    }
}

TEST_P(EngineTest, ThreadsDoNotChangeLogits) {
    const auto tokens = prompt(100);
    EngineOptions options;
    options.threads = 1;
    const auto one = all_logits(*open_with(options), tokens);
    for (const std::size_t threads : {2U, 5U}) {
        options.threads = threads;
        expect_same(one, all_logits(*open_with(options), tokens));
    }
}

TEST_P(EngineTest, BatchesOfSequencesDoNotChangeLogits) {
    EngineOptions options;
    options.max_sequences = 3;
    options.chunk_tokens = 64;
    const auto engine = open_with(options);
    const std::vector<std::vector<std::int32_t>> prompts = {prompt(90, 1), prompt(1, 2),
                                                            prompt(55, 3)};
    std::vector<Sequence> sequences;
    std::vector<Input> inputs;
    for (std::size_t i = 0; i < 3; ++i) sequences.push_back(std::move(*engine->create_sequence()));
    for (std::size_t i = 0; i < 3; ++i) inputs.push_back({&sequences[i], prompts[i], Logits::last});
    std::vector<Row> together(3);
    const LogitsSink sink = [&](std::size_t input, std::size_t position,
                                std::span<const float> logits) {
        EXPECT_TRUE(together[input].empty());
        EXPECT_EQ(position, sequences[input].length() - 1);
        together[input].assign(logits.begin(), logits.end());
    };
    ASSERT_TRUE(engine->evaluate(inputs, sink));
    // And one more token each, all in one batch.
    const auto first = std::exchange(together, std::vector<Row>(3));
    const std::vector<std::int32_t> next = {5};
    for (Input& input : inputs) input.tokens = next;
    ASSERT_TRUE(engine->evaluate(inputs, sink));
    sequences.clear();

    for (std::size_t i = 0; i < 3; ++i) {
        auto tokens = prompts[i];
        tokens.push_back(5);
        const auto alone = all_logits(*engine, tokens);
        EXPECT_LE(difference(first[i], alone[alone.size() - 2]), 1e-4);
        EXPECT_LE(difference(together[i], alone.back()), 1e-4);
    }
}

TEST_P(EngineTest, ForksGoTheirOwnWays) {
    EngineOptions options;
    options.max_sequences = 2;
    const auto engine = open_with(options);
    const auto past = prompt(70, 1), left = prompt(40, 2), right = prompt(40, 3);
    auto a = engine->create_sequence();
    ASSERT_TRUE(a);
    all_logits(*engine, *a, past);
    auto b = a->fork();
    ASSERT_TRUE(b);
    EXPECT_EQ(engine->create_sequence().error().code, ErrorCode::out_of_memory);
    const auto left_rows = all_logits(*engine, *a, left);
    const auto right_rows = all_logits(*engine, *b, right);

    for (const auto& [tail, rows] :
         {std::pair(&left, &left_rows), std::pair(&right, &right_rows)}) {
        auto tokens = past;
        tokens.insert(tokens.end(), tail->begin(), tail->end());
        const auto other = open_with();
        const auto alone = all_logits(*other, tokens);
        for (std::size_t i = 0; i < tail->size(); ++i)
            ASSERT_LE(difference((*rows)[i], alone[70 + i]), 1e-4);
    }
}

TEST_P(EngineTest, TruncatedSequencesContinueAsIfNothingHadFollowed) {
    EngineOptions options;
    options.chunk_tokens = 16;
    const auto engine = open_with(options);
    const auto tokens = prompt(200, 1), tail = prompt(10, 2);
    for (const std::size_t keep :
         {199U, 190U, 100U, 1U, 0U}) {  // 100: local layers have dropped its window
        auto sequence = engine->create_sequence();
        ASSERT_TRUE(sequence);
        all_logits(*engine, *sequence, tokens);
        sequence->truncate(keep);
        EXPECT_EQ(sequence->length(), keep);
        const auto rows = all_logits(*engine, *sequence, tail);

        auto expected_tokens = tokens;
        expected_tokens.resize(keep);
        expected_tokens.insert(expected_tokens.end(), tail.begin(), tail.end());
        const auto expected = all_logits(*open_with(), expected_tokens);
        for (std::size_t i = 0; i < tail.size(); ++i)
            ASSERT_LE(difference(rows[i], expected[keep + i]), 1e-4) << keep;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, EngineTest,
                         ::testing::Values(Types{"f32"}, Types{"q4_0"}, Types{"mixed"},
                                           Types{"q4_0", tensor::DType::q8_0}),
                         [](const auto& test) {
                             return test.param.recipe + "_kv_" +
                                    std::string(tensor::name(test.param.kv));
                         });

// Decoding with several spans of keys in the cache is the one place where threads change how
// attention is cut up; one thread takes another path there.
TEST_P(EngineTest, LongContextsDecodeTheSameOnAnyNumberOfThreads) {
    const auto tokens = prompt(1020), tail = prompt(4, 9);
    std::vector<std::vector<Row>> rows;
    for (const std::size_t threads : {1U, 2U, 5U}) {
        EngineOptions options;
        options.threads = threads;
        options.context = 1024;
        const auto engine = open_with(options);
        auto sequence = engine->create_sequence();
        ASSERT_TRUE(sequence);
        const LogitsSink ignore = [](std::size_t, std::size_t, std::span<const float>) {};
        const Input past{&*sequence, tokens, Logits::none};
        ASSERT_TRUE(engine->evaluate({&past, 1}, ignore));
        rows.emplace_back();
        for (const std::int32_t& token : tail)
            rows.back().push_back(all_logits(*engine, *sequence, {&token, 1})[0]);
    }
    expect_same(rows[0], rows[1]);
    expect_same(rows[0], rows[2]);
}

TEST(Engine, EveryTypeGivesFiniteLogits) {
    for (const tensor::DTypeInfo& type : tensor::all_dtypes()) {
        const auto rows = all_logits(*open(std::string(type.name)), prompt(20));
        EXPECT_LT(difference(rows.back(), rows.back()), 1) << type.name;
    }
}

TEST_P(EngineTest, DecodingAllocatesNothing) {
    const auto engine = open_with();
    auto sequence = engine->create_sequence();
    ASSERT_TRUE(sequence);
    all_logits(*engine, *sequence, prompt(40));
    const std::vector<std::int32_t> token = {7};
    const Input input{&*sequence, token, Logits::last};
    float seen = 0;
    const LogitsSink sink = [&](std::size_t, std::size_t, std::span<const float> logits) {
        seen += logits[0];
    };
    ASSERT_TRUE(engine->evaluate({&input, 1}, sink));
    const std::size_t before = testing::allocation_count();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(engine->evaluate({&input, 1}, sink));
    EXPECT_EQ(testing::allocation_count() - before, 0U);
    EXPECT_TRUE(std::isfinite(seen));
}

// Rounding keys and values to 8 bits must show, and not by much.
TEST(Engine, KvTypesAgreeUpToTheirRounding) {
    const auto tokens = prompt(300);
    std::vector<std::vector<Row>> rows;
    std::vector<std::size_t> kv_bytes;
    for (const tensor::DType type : {tensor::DType::f32, tensor::DType::f16, tensor::DType::q8_0}) {
        EngineOptions options;
        options.kv_type = type;
        const auto engine = open("f32", options);
        kv_bytes.push_back(engine->memory().kv_bytes);
        rows.push_back(all_logits(*engine, tokens));
    }
    double f16 = 0, q8_0 = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        f16 = std::max(f16, difference(rows[0][i], rows[1][i]));
        q8_0 = std::max(q8_0, difference(rows[0][i], rows[2][i]));
    }
    EXPECT_LT(f16, 1e-3);
    EXPECT_LT(f16, q8_0);
    EXPECT_LT(q8_0, 2e-2);
    RecordProperty("q8_0", std::to_string(q8_0));
    EXPECT_EQ(kv_bytes[0], 2 * kv_bytes[1]);
    EXPECT_EQ(kv_bytes[2] * 64, kv_bytes[1] * 34);
}

TEST(Engine, RefusesWithoutChangingAnything) {
    EngineOptions options;
    options.context = 32;
    const auto engine = open("q4_0", options);
    auto sequence = engine->create_sequence();
    ASSERT_TRUE(sequence);
    const LogitsSink sink = [](std::size_t, std::size_t, std::span<const float>) {};
    const auto tokens = prompt(20);
    Input input{&*sequence, tokens, Logits::none};
    ASSERT_TRUE(engine->evaluate({&input, 1}, sink));

    const auto too_long = engine->evaluate({&input, 1}, sink);
    ASSERT_FALSE(too_long);
    EXPECT_NE(too_long.error().message.find("40 tokens do not fit in a context of 32"),
              std::string::npos);
    const std::vector<std::int32_t> unknown = {1, 600};
    input.tokens = unknown;
    EXPECT_EQ(engine->evaluate({&input, 1}, sink).error().code, ErrorCode::invalid_argument);
    input.tokens = {};
    EXPECT_FALSE(engine->evaluate({&input, 1}, sink));
    EXPECT_EQ(sequence->length(), 20U);
    input.tokens = std::span(tokens).first(12);
    EXPECT_TRUE(engine->evaluate({&input, 1}, sink));
    EXPECT_EQ(sequence->length(), 32U);
}

TEST(Engine, CancelKeepsWholeChunks) {
    EngineOptions options;
    options.chunk_tokens = 16;
    const auto engine = open("q4_0", options);
    auto sequence = engine->create_sequence();
    ASSERT_TRUE(sequence);
    const auto tokens = prompt(100);
    const Input input{&*sequence, tokens, Logits::last};
    const LogitsSink sink = [](std::size_t, std::size_t, std::span<const float>) { FAIL(); };
    int asked = 0;
    const auto status = engine->evaluate({&input, 1}, sink, [&] { return ++asked == 3; });
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::cancelled);
    EXPECT_EQ(sequence->length(), 32U);
    expect_same(all_logits(*engine, *sequence, std::span(tokens).subspan(32)), [&] {
        auto rows = all_logits(*open("q4_0"), tokens);
        rows.erase(rows.begin(), rows.begin() + 32);
        return rows;
    }());
}

TEST(Engine, RefusesOptionsThatCannotWork) {
    EngineOptions options;
    options.context = 1025;
    const auto engine = Engine::open(model_path("q4_0"), options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::invalid_argument);
    options.context = 0;
    options.threads = 100'000;  // ended in std::terminate once
    EXPECT_EQ(Engine::open(model_path("q4_0"), options).error().code, ErrorCode::invalid_argument);
    options.threads = 1;
    options.kv_type = tensor::DType::q4_0;
    EXPECT_EQ(Engine::open(model_path("q4_0"), options).error().code, ErrorCode::unsupported);
    options.kv_type = tensor::DType::f16;
    options.device = "tpu";
    EXPECT_EQ(Engine::open(model_path("q4_0"), options).error().code, ErrorCode::unsupported);
}

// A model that was cut off or written to while in use used to end the process (SIGBUS), or went on
// with whatever was there.
TEST(Engine, ModelThatChangesWhileInUseIsAnError) {
    for (const char* recipe : {"f32", "q8_0"}) {
        const std::string path = folder().path(std::string(recipe) + "-cut.gguf");
        std::filesystem::copy_file(model_path(recipe), path);
        EngineOptions options;
        options.threads = 2;
        auto engine = Engine::open(path, options);
        ASSERT_TRUE(engine) << engine.error().message;
        auto sequence = (*engine)->create_sequence();
        ASSERT_TRUE(sequence);
        const auto tokens = prompt(20);
        EXPECT_EQ(all_logits(**engine, *sequence, tokens).size(), tokens.size());

        std::filesystem::resize_file(path, std::filesystem::file_size(path) / 8);
        std::size_t rows = 0;
        const Input input{&*sequence, tokens, Logits::all};
        const auto status = (*engine)->evaluate(
            {&input, 1}, [&](std::size_t, std::size_t, std::span<const float>) { ++rows; });
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::io);
        EXPECT_EQ(status.error().message.find(path), 0U) << status.error().message;
        EXPECT_EQ(rows, 0U);  // nothing computed from what is gone is handed out
        EXPECT_EQ(sequence->n_computed(), 20U);
    }
}

std::vector<Row> prompt_and_answer(Engine& engine) {
    auto sequence = engine.create_sequence();
    EXPECT_TRUE(sequence);
    std::vector<Row> rows = all_logits(engine, *sequence, prompt(100));
    for (const std::int32_t token : prompt(5, 7)) {
        for (Row& row : all_logits(engine, *sequence, {&token, 1})) rows.push_back(std::move(row));
    }
    return rows;
}

// Streaming layers, by whatever policy and with however few buffers, changes no bit of any logit.
TEST(Engine, StreamedLayersGiveTheSameLogits) {
    for (const char* recipe : {"q8_0", "mixed", "bf16"}) {
        EngineOptions options;
        options.chunk_tokens = 32;  // the prompt in four passes
        const auto expected = prompt_and_answer(*open(recipe, options));
        EXPECT_FALSE(open(recipe, options)->stream_report());
        for (const std::size_t most_pinned : {0u, 1u, 4u, 6u}) {
            for (const std::size_t read_ahead : {0u, 1u, 3u}) {
                options.max_pinned_layers = most_pinned;
                options.read_ahead = read_ahead;
                const auto engine = open(recipe, options);
                const auto before = engine->stream_report();
                ASSERT_TRUE(before);
                EXPECT_EQ(before->pinned, most_pinned);
                EXPECT_EQ(before->layers, 7 - most_pinned);
                EXPECT_EQ(prompt_and_answer(*engine), expected)
                    << recipe << ", " << most_pinned << " pinned, " << read_ahead << " ahead";
                const auto after = engine->stream_report();
                EXPECT_EQ(after->stats.hits, 9 * most_pinned);  // 4 passes and 5
                EXPECT_EQ(after->stats.misses, 9 * (7 - most_pinned));
                EXPECT_GE(after->stats.read_bytes, 9 * before->bytes_per_pass);
            }
        }
    }
}

TEST(Engine, AMemoryLimitIsKeptOrSaysWhatItTakes) {
    EngineOptions options;
    options.context = 64;
    options.memory_limit_bytes = 1;
    const auto nothing = Engine::open(model_path("q8_0"), options);
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code, ErrorCode::out_of_memory);
    EXPECT_NE(nothing.error().message.find("--memory-limit"), std::string::npos);

    options.memory_limit_bytes = std::size_t{8} << 30;
    const auto plenty = open("q8_0", options);
    EXPECT_FALSE(plenty->stream_report());
    const MemoryUse use = plenty->memory();
    EXPECT_LE(use.peak_bytes, use.budget_bytes);
    EXPECT_LE(use.budget_bytes, options.memory_limit_bytes);
}

TEST(Engine, AStreamedFileThatIsCutOffIsAnError) {
    const std::string path = folder().path("stream-cut.gguf");
    std::filesystem::copy_file(model_path("q8_0"), path);
    EngineOptions options;
    options.threads = 2;
    options.max_pinned_layers = 2;
    auto engine = Engine::open(path, options);
    ASSERT_TRUE(engine) << engine.error().message;
    auto sequence = (*engine)->create_sequence();
    ASSERT_TRUE(sequence);
    const auto tokens = prompt(3);
    EXPECT_EQ(all_logits(**engine, *sequence, tokens).size(), tokens.size());
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    const Input input{&*sequence, tokens, Logits::last};
    const auto status = (*engine)->evaluate(
        {&input, 1}, [](std::size_t, std::size_t, std::span<const float>) { FAIL(); });
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::io);
}

// --verify: a model whose weights are not what was written is not opened.
TEST(Engine, VerifyNamesTheDamagedTensor) {
    const std::string path = folder().path("damaged.gguf");
    std::filesystem::copy_file(model_path("q8_0"), path);
    EngineOptions options;
    options.threads = 2;
    options.verify = true;
    EXPECT_TRUE(Engine::open(path, options));
    FILE* const file = std::fopen(path.c_str(), "r+b");
    ASSERT_NE(file, nullptr);
    std::fseek(file, -1, SEEK_END);  // of the last tensor, or what pads it
    std::fputc(0x55, file);
    std::fseek(file, -64, SEEK_END);
    std::fputc(0x55, file);
    std::fclose(file);
    const auto engine = Engine::open(path, options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::invalid_file);
    EXPECT_NE(engine.error().message.find(path + ": tensor "), std::string::npos);
    EXPECT_NE(engine.error().message.find("damaged"), std::string::npos);
}

}  // namespace
}  // namespace unicorn::engine
