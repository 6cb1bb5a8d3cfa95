#include "backends/vulkan/weight_layout.h"

#include <gtest/gtest.h>

#include <vector>

#include "backends/vulkan/matmul_testing.h"

namespace unicorn::backends::vulkan {
namespace {

// No more than 4 % of the file's bytes, for every type.
TEST(WeightLayout, TakesHardlyMoreThanTheFile) {
    for (const tensor::DTypeInfo& info : tensor::all_dtypes()) {
        const std::size_t file = 160 * tensor::row_bytes(info.type, 5376);
        const std::size_t stored = stored_bytes(info.type, 160, 5376);
        EXPECT_EQ(stored % 16, 0U);
        EXPECT_GE(stored, file) << info.name;
        EXPECT_LE(static_cast<double>(stored), 1.04 * static_cast<double>(file)) << info.name;
    }
}

TEST(WeightLayout, PartsMakeTheWhole) {
    for (const tensor::DTypeInfo& info : tensor::all_dtypes()) {
        const std::size_t rows = 41;
        const std::size_t cols = 512;
        const auto file = matmul_testing::random_weights(info.type, rows, cols, 1);
        const std::size_t bytes = stored_bytes(info.type, rows, cols);
        std::vector<std::byte> whole(bytes, std::byte{1});
        std::vector<std::byte> parts(bytes, std::byte{2});
        pack_rows(info.type, cols, rows, 0, rows, file.data(), whole.data());
        for (const auto& [first, last] : {std::pair{32, 41}, {0, 16}, {16, 32}})
            pack_rows(
                info.type, cols, rows, static_cast<std::size_t>(first),
                static_cast<std::size_t>(last),
                file.data() + static_cast<std::size_t>(first) * tensor::row_bytes(info.type, cols),
                parts.data());
        EXPECT_EQ(whole, parts) << info.name;
    }
}

}  // namespace
}  // namespace unicorn::backends::vulkan
