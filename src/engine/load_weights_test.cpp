// Loaded weights are the same bytes whatever way they came.

#include "engine/load_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "backends/cpu/cpu_device.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

const testing::TemporaryFolder& folder() {
    static const testing::TemporaryFolder instance;
    return instance;
}

/// A model whose embedding is cut into several pieces.
std::string model_path(const std::string& recipe) {
    const std::string path = folder().path(recipe + ".gguf");
    if (!std::filesystem::exists(path)) {
        quant::SynthShape shape = testing::tiny_shape();
        shape.n_vocab = 20000;
        testing::write_tiny_model(path, recipe, shape);
    }
    return path;
}

struct Model {
    explicit Model(const std::string& path, std::size_t budget = std::size_t{1} << 30)
        : file(formats::Gguf::open(path).value()),
          device(backends::cpu::CpuDevice::open(2, budget).value()),
          weights(model::bind_weights(file, model::read_config(file).value()).value()) {
        weights.for_each_matrix([&](device::TensorRef& w) { matrices.push_back(&w); });
    }

    formats::Gguf file;
    std::unique_ptr<backends::cpu::CpuDevice> device;
    model::Weights weights;
    std::vector<device::TensorRef*> matrices;
};

/// The matrix packed in one go from the map.
std::vector<std::byte> packed(const Model& model, const device::TensorRef& in_file) {
    const device::Placement place = model.device->place(in_file);
    std::vector<std::byte> bytes(place.bytes + 64);
    device::TensorRef to = in_file;
    to.layout = place.layout;
    const std::size_t skip = (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64;
    to.host = bytes.data() + skip;
    model.device->pack(to, 0, to.rows, in_file.host);
    std::memmove(bytes.data(), to.host, place.bytes);
    bytes.resize(place.bytes);
    return bytes;
}

class LoadWeights : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(LoadWeights, BytesAreTheSameByEveryWay) {
    const auto [recipe, way] = GetParam();
    for (const std::size_t n_threads : {1u, 3u}) {
        Model model(model_path(recipe));
        std::vector<device::TensorRef> before;
        for (const auto* w : model.matrices) before.push_back(*w);
        LoadOptions options;
        options.way = load_way_from_name(way).value();
        options.threads = n_threads;
        auto loaded = load_weights(model.file, model.matrices, *model.device, options);
        if (!loaded && loaded.error().code == ErrorCode::unsupported)
            GTEST_SKIP() << loaded.error().message;
        ASSERT_TRUE(loaded) << loaded.error().message;
        std::uint64_t source = 0;
        for (std::size_t i = 0; i < before.size(); ++i) {
            const device::TensorRef& w = *model.matrices[i];
            source += device::stored_bytes(before[i]);
            const std::vector<std::byte> expected = packed(model, before[i]);
            ASSERT_EQ(device::stored_bytes(w), expected.size());
            EXPECT_EQ(std::memcmp(w.host, expected.data(), expected.size()), 0)
                << "matrix " << i << ", " << n_threads << " threads";
        }
        const ReadStats& stats = loaded->stats;
        EXPECT_EQ(stats.direct_bytes + stats.cached_bytes + loaded->mapped_bytes, source);
        if (options.way == LoadWay::cache) {
            EXPECT_EQ(stats.direct_bytes, 0U);
        }
        if (options.way == LoadWay::uring || options.way == LoadWay::threads) {
            EXPECT_EQ(stats.direct_bytes, source);
        }
        const bool quantized = tensor::info(before[0].type).quantized;
        EXPECT_EQ(loaded->mapped_bytes > 0, !quantized && options.way == LoadWay::automatic);
        // Nothing but the weights is left.
        EXPECT_EQ(model.device->allocator(memory::Tier::host)->usage().used, loaded->bytes());
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, LoadWeights,
                         ::testing::Combine(::testing::Values("q4_0", "mixed", "bf16"),
                                            ::testing::Values("auto", "uring", "threads",
                                                              "cache")));

TEST(LoadWeightsErrors, ACancelledLoadLeavesEverythingAsItWas) {
    Model model(model_path("q4_0"));
    const std::byte* const before = model.matrices[0]->host;
    LoadOptions options;
    options.threads = 2;
    options.cancel = [] { return true; };
    const auto loaded = load_weights(model.file, model.matrices, *model.device, options);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, ErrorCode::cancelled);
    EXPECT_EQ(model.matrices[0]->host, before);
    EXPECT_EQ(model.device->allocator(memory::Tier::host)->usage().used, 0U);
}

TEST(LoadWeightsErrors, AFileCutOffBeforeItIsReadIsAnError) {
    for (const char* way : {"auto", "uring", "threads", "cache"}) {
        const std::string path = folder().path("cut.gguf");
        std::filesystem::copy_file(model_path("mixed"), path,
                                   std::filesystem::copy_options::overwrite_existing);
        Model model(path);
        std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
        LoadOptions options;
        options.way = load_way_from_name(way).value();
        options.threads = 2;
        const auto loaded = load_weights(model.file, model.matrices, *model.device, options);
        ASSERT_FALSE(loaded);
        if (loaded.error().code == ErrorCode::unsupported) continue;
        EXPECT_EQ(loaded.error().code, ErrorCode::io);
        EXPECT_NE(loaded.error().message.find(path), std::string::npos);
    }
}

TEST(LoadWeightsErrors, TooLittleMemoryIsAnErrorWithNumbers) {
    Model model(model_path("q4_0"), 1000000);
    const auto loaded = load_weights(model.file, model.matrices, *model.device, {});
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, ErrorCode::out_of_memory);
    EXPECT_NE(loaded.error().message.find("the weights do not fit"), std::string::npos);
    EXPECT_NE(loaded.error().message.find("1.00 MB"), std::string::npos) << loaded.error().message;
}

TEST(LoadWeightsErrors, UnknownWaysAreErrors) {
    EXPECT_FALSE(load_way_from_name("floppy"));
    EXPECT_EQ(load_way_from_name("threads").value(), LoadWay::threads);
}

}  // namespace
}  // namespace unicorn::engine
