// The device draws what the CPU's sampler draws: every option, alone and together, over logits of
// every kind, for hundreds of draws with one seed and one history.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "backends/vulkan/compute_device.h"
#include "backends/vulkan/testing.h"
#include "engine/sampler.h"

namespace unicorn::engine {
namespace {

using backends::vulkan::ComputeDevice;
using kernels::draw::DrawState;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
    std::string name;
    SamplerOptions options;
    std::vector<std::int32_t> banned = {};
};

/// Logits of round `n`: spread out, close together, with ties, all equal, with what is no number,
/// of all sizes that a float has, and with hardly any or none that can be drawn.
void fill(std::span<float> logits, std::size_t n, RandomStream& random) {
    const auto normal = [&](double scale) {
        double sum = -6;
        for (int i = 0; i < 12; ++i) sum += random.uniform();
        return static_cast<float>(sum * scale);
    };
    const auto any = [&] { return logits[random.next() % logits.size()] = 0, random.next(); };
    const auto pick = [&]() -> float& { return logits[any() % logits.size()]; };
    for (float& x : logits) {
        switch (n % 8) {
            case 0: x = normal(3); break;
            case 1: x = normal(0.05); break;
            case 2: x = std::round(normal(2)); break;  // ties by the hundred
            case 3: x = n % 16 == 3 ? 1.25f : -0.0f; break;
            case 4: x = random.next() % 3 == 0 ? kNan : normal(1); break;
            case 5: {
                const auto bits = static_cast<std::uint32_t>(random.next());
                std::memcpy(&x, &bits, sizeof(x));
                break;
            }
            case 6: x = -kInf; break;
            default: x = normal(1e-39); break;  // denormal
        }
    }
    if (n % 8 == 3) pick() = 0.0f, pick() = 1e-45f;
    if (n % 8 == 4) pick() = kInf, pick() = -kInf;
    if (n % 16 == 6)
        for (int i = 0; i < 5; ++i) pick() = normal(1);
}

class VulkanSamplerTest : public ::testing::Test {
protected:
    void SetUp() override {
        backends::vulkan::ComputeOptions options;
        options.device.cache_folder = "";
        options.instance.validation = backends::vulkan::has_validation_layer();
        auto device = ComputeDevice::open(
            backends::vulkan::environment("UNICORN_TEST_VULKAN", "vulkan:lavapipe"), options);
        if (!device) return backends::vulkan::skip_or_fail(device.error());
        device_ = std::move(*device);
    }
    void TearDown() override {
        if (device_ == nullptr) return;
        EXPECT_EQ(device_->validation_errors(), std::vector<std::string>());
    }

    /// Each case is a row of one batch; `n_draws` of them, all with the history so far.
    void expect_same_draws(const std::vector<Case>& cases, std::size_t n_vocab,
                           std::size_t n_draws) {
        const std::size_t stride = n_vocab + 7, rows = cases.size();
        auto& allocator = *device_->allocator(memory::Tier::gtt);
        auto logits = allocator.allocate(rows * stride * sizeof(float), 64);
        auto states = device_->results().allocate(rows * sizeof(DrawState), 64);
        auto ids = device_->results().allocate(rows * sizeof(std::int32_t), 64);
        ASSERT_TRUE(logits && states && ids);
        const device::Sample step{
            {.rows = rows, .cols = stride, .device_address = logits->device_address()},
            {.rows = rows,
             .cols = sizeof(DrawState) / sizeof(std::uint32_t),
             .device_address = states->device_address()},
            {.rows = 1, .cols = rows, .device_address = ids->device_address()},
            n_vocab};
        const device::Step steps[] = {step};
        auto program = device_->prepare(steps, rows);
        ASSERT_TRUE(program) << program.error().message;

        std::vector<Sampler> samplers;
        std::vector<std::int32_t> logit_rows;
        for (std::size_t r = 0; r < rows; ++r) {
            auto sampler = Sampler::create(cases[r].options, n_vocab);
            ASSERT_TRUE(sampler) << cases[r].name << sampler.error().message;
            for (std::int32_t id = 0; id < 20; ++id) sampler->accept(id * id % 50);
            ASSERT_TRUE(sampler->fits_gpu(cases[r].banned.size())) << cases[r].name;
            sampler->describe(cases[r].banned, reinterpret_cast<DrawState*>(states->host())[r]);
            samplers.push_back(std::move(*sampler));
            logit_rows.push_back(static_cast<std::int32_t>(r));
        }
        device::Batch batch;
        batch.logit_rows = logit_rows;
        RandomStream random(7);
        std::vector<float> values(n_vocab);
        for (std::size_t n = 0; n < n_draws; ++n) {
            fill(values, n, random);
            for (std::size_t r = 0; r < rows; ++r) {
                auto* const row = logits->host() + r * stride * sizeof(float);
                std::memcpy(row, values.data(), n_vocab * sizeof(float));
            }
            auto ticket = device_->submit(**program, batch, {});
            ASSERT_TRUE(ticket) << ticket.error().message;
            ASSERT_TRUE(device_->wait(*ticket));
            for (std::size_t r = 0; r < rows; ++r) {
                auto masked = values;
                for (const std::int32_t id : cases[r].banned)
                    masked[static_cast<std::size_t>(id)] = -kInf;
                const std::int32_t expected = samplers[r].sample(masked).value_or(-1);
                ASSERT_EQ(reinterpret_cast<const std::int32_t*>(ids->host())[r], expected)
                    << cases[r].name << ", draw " << n;
                if (expected >= 0) samplers[r].accept(expected);
            }
        }
    }

    std::unique_ptr<ComputeDevice> device_;
};

Case with(const char* name, auto&& change) {
    Case c{name, {}};
    c.options.top_p = 1;
    c.options.seed = std::hash<std::string>{}(name);
    change(c.options);
    return c;
}

std::vector<Case> options_alone_and_together() {
    std::vector<Case> cases = {
        with("top-k", [](auto&) {}),
        with("top-k 1", [](auto& o) { o.top_k = 1; }),
        with("top-k 1024", [](auto& o) { o.top_k = 1024; }),
        with("temperature 0.3", [](auto& o) { o.temperature = 0.3f; }),
        with("temperature 2.5, top-k 700", [](auto& o) { o.temperature = 2.5f, o.top_k = 700; }),
        with("temperature 1e-30", [](auto& o) { o.temperature = 1e-30f; }),
        with("temperature 1e30", [](auto& o) { o.temperature = 1e30f; }),
        with("top-p 0.95", [](auto& o) { o.top_p = 0.95f; }),
        with("top-p 0.1", [](auto& o) { o.top_p = 0.1f; }),
        with("top-p 1e-30", [](auto& o) { o.top_p = 1e-30f; }),
        with("min-p 0.1", [](auto& o) { o.min_p = 0.1f; }),
        with("min-p 1", [](auto& o) { o.min_p = 1; }),
        with("min-p 1e-45", [](auto& o) { o.min_p = 1e-45f; }),
        with("repeat", [](auto& o) { o.repeat_penalty = 1.3f; }),
        with("presence", [](auto& o) { o.presence_penalty = 0.7f, o.penalty_last_n = 3; }),
        with("frequency", [](auto& o) { o.frequency_penalty = 0.2f, o.penalty_last_n = 1024; }),
        with("no look back", [](auto& o) { o.repeat_penalty = 2, o.penalty_last_n = 0; }),
        with("rewards", [](auto& o) { o.repeat_penalty = 0.8f, o.frequency_penalty = -0.3f; }),
        with("penalties that overflow",
             [](auto& o) {
                 o.repeat_penalty = 1e-38f, o.presence_penalty = 3e38f, o.frequency_penalty = 3e38f;
             }),
        with("bias",
             [](auto& o) {
                 o.logit_bias = {{0, -kInf}, {3, 2.5f}, {4, -1e38f}, {999, 3e38f}, {1000, 1e-40f}};
             }),
        with("greedy with all",
             [](auto& o) {
                 o.temperature = 0, o.repeat_penalty = 1.2f, o.frequency_penalty = 0.1f;
                 o.logit_bias = {{2, 1.5f}};
             }),
        with("all", [](auto& o) {
            o.temperature = 0.8f, o.top_k = 200, o.top_p = 0.9f, o.min_p = 0.02f;
            o.repeat_penalty = 1.1f, o.presence_penalty = 0.1f, o.frequency_penalty = 0.05f;
            for (std::int32_t id = 0; id < 900; ++id)
                o.logit_bias[id] = 0.01f * static_cast<float>(id % 40);
        })};
    cases.push_back(with("banned", [](auto& o) { o.logit_bias = {{5, 3.0f}}; }));
    cases.back().banned = {1, 5, 7};
    cases.push_back(with("greedy but for some", [](auto& o) { o.temperature = 0; }));
    cases.back().banned = {1, 106};
    return cases;
}

TEST_F(VulkanSamplerTest, DrawsWhatTheCpuDraws) {
    expect_same_draws(options_alone_and_together(), 1500, 500);
}

// Sizes around those of workgroups, and the smallest that top-k cuts.
TEST_F(VulkanSamplerTest, DrawsFromVocabulariesOfEverySize) {
    for (const std::size_t n_vocab : {3U, 255U, 1025U, 16385U}) {
        std::vector<Case> cases;
        for (const std::size_t k : {1U, 2U, 254U, 1024U}) {
            if (k >= n_vocab) continue;
            cases.push_back(with("sizes", [&](auto& o) { o.top_k = k, o.top_p = 0.999f; }));
        }
        expect_same_draws(cases, n_vocab, 32);
    }
}

TEST_F(VulkanSamplerTest, DrawsFromGemmasVocabulary) {
    std::vector<Case> cases = {with("Gemma's defaults", [](auto& o) { o.top_p = 0.95f; }),
                               with("top-k 1024", [](auto& o) { o.top_k = 1024; })};
    expect_same_draws(cases, 262144, 24);
}

TEST(SamplerOnAGpu, SaysWhatItCannotDo) {
    const auto fits = [](auto&& change, std::size_t n_banned = 0) {
        SamplerOptions options;
        change(options);
        auto sampler = Sampler::create(options, 100000);
        return sampler && sampler->fits_gpu(n_banned);
    };
    EXPECT_TRUE(fits([](auto&) {}));
    EXPECT_TRUE(fits([](auto& o) { o.top_k = 1024; }));
    EXPECT_FALSE(fits([](auto& o) { o.top_k = 1025; }));
    EXPECT_FALSE(fits([](auto& o) { o.top_k = 0; }));
    EXPECT_FALSE(fits([](auto& o) { o.typical_p = 0.9f; }));
    EXPECT_TRUE(fits([](auto& o) { o.top_k = 0, o.temperature = 0; }));
    EXPECT_TRUE(fits([](auto& o) { o.penalty_last_n = 5000; }));
    EXPECT_FALSE(fits([](auto& o) { o.penalty_last_n = 5000, o.repeat_penalty = 1.1f; }));
    EXPECT_FALSE(fits([](auto&) {}, 2000));
}

}  // namespace
}  // namespace unicorn::engine
