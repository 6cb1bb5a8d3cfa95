// Weights in both kinds of a GPU's memory. The device is Mesa's software driver, or what
// UNICORN_TEST_VULKAN names.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "backends/vulkan/compute_device.h"
#include "engine/load_weights.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

TEST(VulkanLoad, EachMatrixGoesToItsTier) {
    const char* wanted = std::getenv("UNICORN_TEST_VULKAN");
    auto device =
        backends::vulkan::ComputeDevice::open(wanted == nullptr ? "vulkan:lavapipe" : wanted, {});
    if (!device) {
        const char* required = std::getenv("UNICORN_REQUIRE_VULKAN");
        if (required != nullptr && std::string(required) == "1") FAIL() << device.error().message;
        GTEST_SKIP() << device.error().message;
    }
    const testing::TemporaryFolder folder;
    const std::string path = folder.path("model.gguf");
    testing::write_tiny_model(path, "mixed");
    const auto file = formats::Gguf::open(path);
    ASSERT_TRUE(file);
    auto weights = model::bind_weights(*file, model::read_config(*file).value());
    ASSERT_TRUE(weights);
    std::vector<device::TensorRef*> matrices;
    weights->for_each_matrix([&](device::TensorRef& w) { matrices.push_back(&w); });
    const std::vector<const std::byte*> in_file = [&] {
        std::vector<const std::byte*> places;
        for (const auto* w : matrices) places.push_back(w->host);
        return places;
    }();
    const auto tier_of = [&](const device::TensorRef& w) {
        const auto i = std::ranges::find(in_file, w.host) - in_file.begin();
        return i % 3 == 0 ? memory::Tier::gtt : memory::Tier::vram;
    };
    const auto loaded = load_weights(*file, matrices, **device, {.tier_of = tier_of});
    ASSERT_TRUE(loaded) << loaded.error().message;
    for (const memory::Tier tier : {memory::Tier::vram, memory::Tier::gtt}) {
        std::size_t bytes = 0;
        for (const auto* w : matrices) bytes += w->tier == tier ? device::stored_bytes(*w) : 0;
        EXPECT_GE((*device)->allocator(tier)->usage().used, bytes);
    }
    std::size_t n_compared = 0;
    for (std::size_t i = 0; i < matrices.size(); ++i) {
        const device::TensorRef& w = *matrices[i];
        EXPECT_EQ(w.tier, i % 3 == 0 ? memory::Tier::gtt : memory::Tier::vram);
        EXPECT_NE(w.device_address, 0U);
        if (w.host == nullptr) continue;  // a discrete GPU's own memory
        std::vector<std::byte> expected(device::stored_bytes(w));
        device::TensorRef to = w;
        to.host = expected.data();
        (*device)->pack(to, 0, to.rows, in_file[i]);
        EXPECT_EQ(std::memcmp(w.host, expected.data(), expected.size()), 0) << "matrix " << i;
        ++n_compared;
    }
    EXPECT_GE(n_compared, matrices.size() / 3);
    EXPECT_GT(loaded->bytes_elsewhere, 0U);
    EXPECT_LT(loaded->bytes_elsewhere, loaded->bytes());
}

}  // namespace
}  // namespace unicorn::engine
