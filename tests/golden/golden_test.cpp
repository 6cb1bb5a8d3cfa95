// Our forward pass against huggingface/transformers': every layer's output and the logits, in f32.
// README.md here says how the expected values were made.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "backends/cpu/cpu_device.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "formats/safetensors.h"
#include "kernels/isa.h"
#include "model/gemma3.h"
#include "quant/convert.h"
#include "testing/tiny_model.h"

namespace unicorn {
namespace {

constexpr double kTolerance = 1e-4;         // of the row's norm
constexpr double kQ8CacheTolerance = 4e-2;  // measured: 0.009 to 0.023
constexpr double kGpuTolerance = 1e-2;
constexpr std::size_t kChunk = 512;

std::vector<std::string> cases() {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(UNICORN_SOURCE_DIR "/tests/golden")) {
        if (std::filesystem::exists(entry.path() / "expected.safetensors")) {
            names.push_back(entry.path().filename().string());
        }
    }
    std::ranges::sort(names);
    return names;
}

/// |a - b| / |b| in the Euclidean norm; infinite when anything is not finite.
double relative_error(std::span<const float> a, std::span<const float> b) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        difference += d * d;
        norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    const double error = std::sqrt(difference / norm);
    return std::isfinite(error) ? error : HUGE_VAL;
}

struct Expected {
    std::vector<std::int32_t> tokens;
    std::vector<std::int64_t> positions;
    std::vector<std::vector<float>> hidden;  // by layer: [positions, D]
    std::vector<float> logits;               // [positions, V]
};

class Golden : public ::testing::TestWithParam<std::string> {
protected:
    void SetUp() override {
        const auto isa = kernels::choose_isa();
        if (!isa) GTEST_SKIP() << isa.error().message;
        const std::string folder = std::string(UNICORN_SOURCE_DIR "/tests/golden/") + GetParam();
        auto file = formats::Safetensors::open(folder + "/expected.safetensors");
        ASSERT_TRUE(file) << file.error().message;
        const auto tokens = file->read_ints("tokens");
        ASSERT_TRUE(tokens) << tokens.error().message;
        expected_.tokens.assign(tokens->begin(), tokens->end());
        expected_.positions = file->read_ints("positions").value();
        expected_.logits = file->read_floats("logits").value();
        for (std::size_t i = 0; file->find("hidden." + std::to_string(i)) != nullptr; ++i) {
            expected_.hidden.push_back(file->read_floats("hidden." + std::to_string(i)).value());
        }
        ASSERT_FALSE(expected_.hidden.empty());

        // The checkpoint has no vocabulary; any of the right size will do.
        const std::size_t n_vocab = expected_.logits.size() / expected_.positions.size();
        std::filesystem::copy(folder, folder_.path("hf"));
        std::ofstream tokenizer(folder_.path("hf") + "/tokenizer.json");
        tokenizer
            << R"({"model": {"type": "BPE", "byte_fallback": false, "merges": [], "vocab": {)";
        for (std::size_t i = 0; i < n_vocab; ++i) {
            const char* const special[] = {"<pad>", "<eos>", "<bos>", "<unk>"};
            tokenizer << (i == 0 ? "" : ", ") << '"'
                      << (i < 4 ? special[i] : "p" + std::to_string(i)) << "\": " << i;
        }
        tokenizer
            << R"(}}, "added_tokens": [{"id": 0, "content": "<pad>", "special": true},)"
               R"({"id": 1, "content": "<eos>", "special": true},{"id": 2, "content": "<bos>", "special": true},)"
               R"({"id": 3, "content": "<unk>", "special": true}]})";
        tokenizer.close();
        quant::ConvertOptions options;
        options.type = tensor::DType::f32;
        const auto report = quant::convert_hf(folder_.path("hf"), gguf_path(), options);
        ASSERT_TRUE(report) << report.error().message;
    }
    void compare_logits(tensor::DType kv_type, double tolerance);
    std::string gguf_path() const { return folder_.path("model.gguf"); }

    testing::TemporaryFolder folder_;
    Expected expected_;
};

TEST_P(Golden, EveryLayerAgrees) {
    const auto file = formats::Gguf::open(gguf_path());
    ASSERT_TRUE(file) << file.error().message;
    const auto config = model::read_config(*file);
    ASSERT_TRUE(config) << config.error().message;
    const auto weights = model::bind_weights(*file, *config);
    ASSERT_TRUE(weights) << weights.error().message;
    auto device = backends::cpu::CpuDevice::open(2, std::size_t{1} << 30);
    ASSERT_TRUE(device) << device.error().message;
    auto& host = *(*device)->allocator(memory::Tier::host);
    const std::size_t n = expected_.tokens.size();
    auto cache = engine::KvCache::create(*config, tensor::DType::f32, n, 1, kChunk, host);
    ASSERT_TRUE(cache);
    const std::int32_t slot = cache->open_slot().value();
    model::Activations activations;
    const auto memory = model::allocate_activations(*config, kChunk, 1, host, host, activations);
    ASSERT_TRUE(memory);

    const auto pass = model::forward_pass(*config, *weights, activations, cache->layers());
    ASSERT_EQ(pass.layer_ends.size(), expected_.hidden.size());
    std::vector<std::unique_ptr<device::Program>> layers;
    std::size_t begin = 0;
    for (const std::size_t end : pass.layer_ends) {
        auto program = (*device)->prepare(std::span(pass.body).subspan(begin, end - begin), kChunk);
        ASSERT_TRUE(program) << program.error().message;
        layers.push_back(std::move(*program));
        begin = end;
    }

    std::vector<std::int32_t> positions(n);
    std::iota(positions.begin(), positions.end(), 0);
    const std::size_t dim = config->dim;
    std::vector<double> worst(layers.size(), 0);
    for (std::size_t first = 0; first < n; first += kChunk) {
        const std::size_t count = std::min(kChunk, n - first);
        cache->prepare_write(slot, first, count);
        const device::Run run{0, static_cast<std::int32_t>(count), static_cast<std::int32_t>(first),
                              slot};
        device::Batch batch;
        batch.tokens = std::span(expected_.tokens).subspan(first, count);
        batch.positions = std::span(positions).subspan(first, count);
        batch.runs = {&run, 1};
        cache->describe(batch);
        for (std::size_t layer = 0; layer < layers.size(); ++layer) {
            ASSERT_TRUE((*device)->wait((*device)->submit(*layers[layer], batch, {}).value()));
            for (std::size_t i = 0; i < expected_.positions.size(); ++i) {
                const auto position = static_cast<std::size_t>(expected_.positions[i]);
                if (position < first || position >= first + count) continue;
                const auto* row = reinterpret_cast<const float*>(activations.residual.host) +
                                  (position - first) * dim;
                const double error = relative_error(
                    {row, dim}, std::span(expected_.hidden[layer]).subspan(i * dim, dim));
                worst[layer] = std::max(worst[layer], error);
            }
        }
    }
    for (std::size_t layer = 0; layer < layers.size(); ++layer)
        EXPECT_LE(worst[layer], kTolerance) << "layer " << layer;
    RecordProperty("worst", std::to_string(*std::ranges::max_element(worst)));
}

void Golden::compare_logits(tensor::DType kv_type, double tolerance) {
    engine::EngineOptions options;
    options.threads = 2;
    options.context = expected_.tokens.size();
    options.kv_type = kv_type;
    if (const char* device = std::getenv("UNICORN_GOLDEN_DEVICE"); device != nullptr) {
        options.device = device;
        tolerance = std::max(tolerance, kGpuTolerance);
    }
    const auto engine = engine::Engine::open(gguf_path(), options);
    ASSERT_TRUE(engine) << engine.error().message;
    auto sequence = (*engine)->create_sequence();
    ASSERT_TRUE(sequence);
    const std::size_t n_vocab = (*engine)->n_vocab();
    ASSERT_EQ(n_vocab * expected_.positions.size(), expected_.logits.size());
    std::size_t checked = 0;
    double worst = 0;
    const engine::Input input{&*sequence, expected_.tokens, engine::Logits::all};
    const auto status = (*engine)->evaluate(
        {&input, 1}, [&](std::size_t, std::size_t position, std::span<const float> logits) {
            const auto found =
                std::ranges::find(expected_.positions, static_cast<std::int64_t>(position));
            if (found == expected_.positions.end()) return;
            const auto row = static_cast<std::size_t>(found - expected_.positions.begin());
            worst = std::max(
                worst, relative_error(logits,
                                      std::span(expected_.logits).subspan(row * n_vocab, n_vocab)));
            ++checked;
        });
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(checked, expected_.positions.size());
    EXPECT_LE(worst, tolerance);
    RecordProperty("worst", std::to_string(worst));
}

TEST_P(Golden, LogitsAgree) { compare_logits(tensor::DType::f32, kTolerance); }

TEST_P(Golden, LogitsWithAQ8CacheAgreeUpToItsRounding) {
    compare_logits(tensor::DType::q8_0, kQ8CacheTolerance);
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(cases()), [](const auto& test) {
    std::string name = test.param;
    std::ranges::replace(name, '-', '_');
    return name;
});

TEST(GoldenCases, AreAllThere) { EXPECT_GE(cases().size(), 5U); }

}  // namespace
}  // namespace unicorn
