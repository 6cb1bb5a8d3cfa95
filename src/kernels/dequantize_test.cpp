#include "kernels/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;
using tensor::DTypeInfo;

std::vector<std::byte> read_bytes(const std::string& path) {
    auto file = MappedFile::open(path);
    EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
    if (!file) return {};
    return {file->bytes().begin(), file->bytes().end()};
}

std::vector<float> as_floats(const std::vector<std::byte>& bytes) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
}

// Decodes DIR/TYPE.blocks and expects every bit of DIR/TYPE.f32.
void expect_exact(const std::string& directory, const DTypeInfo& type) {
    const std::string stem = directory + "/" + std::string(type.name);
    const std::vector<std::byte> blocks = read_bytes(stem + ".blocks");
    const std::vector<float> expected = as_floats(read_bytes(stem + ".f32"));
    ASSERT_FALSE(expected.empty());
    ASSERT_EQ(blocks.size(), tensor::row_bytes(type.type, expected.size()));

    std::vector<float> decoded(expected.size());
    dequantize_row(type.type, blocks.data(), decoded);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(decoded[i]),
                  std::bit_cast<std::uint32_t>(expected[i]))
            << type.name << "[" << i << "]: " << decoded[i] << ", expected " << expected[i];
    }
}

class Dequantize : public testing::TestWithParam<DTypeInfo> {};        // every type
class DequantizeBlocks : public testing::TestWithParam<DTypeInfo> {};  // the quantised ones

std::vector<DTypeInfo> types(bool quantized_only) {
    std::vector<DTypeInfo> chosen;
    for (const DTypeInfo& type : tensor::all_dtypes()) {
        if (type.quantized || !quantized_only) chosen.push_back(type);
    }
    return chosen;
}

std::string type_name(const testing::TestParamInfo<DTypeInfo>& param) {
    return std::string(param.param.name);
}

INSTANTIATE_TEST_SUITE_P(Types, Dequantize, testing::ValuesIn(types(false)), type_name);
INSTANTIATE_TEST_SUITE_P(Types, DequantizeBlocks, testing::ValuesIn(types(true)), type_name);

// testdata/ holds the first 256 weights of each shared vector.
TEST_P(DequantizeBlocks, DecodesTheBundledVectorsExactly) {
    expect_exact(UNICORN_SOURCE_DIR "/src/kernels/testdata", GetParam());
}

TEST_P(DequantizeBlocks, DecodesTheSharedVectorsExactly) {
    const std::string directory = UNICORN_SOURCE_DIR "/../shared/vectors/quant";
    if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not here";
    expect_exact(directory, GetParam());
}

TEST_P(Dequantize, ReadsBlocksAtAnyAlignment) {
    const DTypeInfo& type = GetParam();
    const std::size_t n = 2 * type.block_size;
    std::vector<std::byte> blocks(2 * type.block_bytes);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i * 37 % 61);
    std::vector<float> aligned(n);
    dequantize_row(type.type, blocks.data(), aligned);

    for (std::size_t shift = 1; shift < 4; ++shift) {
        std::vector<std::byte> moved(blocks.size() + shift);
        std::memcpy(moved.data() + shift, blocks.data(), blocks.size());
        std::vector<float> decoded(n);
        dequantize_row(type.type, moved.data() + shift, decoded);
        EXPECT_EQ(std::memcmp(decoded.data(), aligned.data(), n * sizeof(float)), 0) << type.name;
    }
}

// Bytes just past the blocks must not matter, nor floats past the span be written.
TEST_P(Dequantize, StaysInsideItsSpans) {
    const DTypeInfo& type = GetParam();
    std::vector<std::byte> blocks(type.block_bytes, std::byte{0x3c});
    std::vector<float> out(type.block_size + 1, 12345.0f);
    dequantize_row(type.type, blocks.data(), std::span(out).first(type.block_size));
    EXPECT_EQ(out.back(), 12345.0f);
    dequantize_row(type.type, blocks.data(), {});  // an empty row is a row
}

TEST(DequantizeFloats, ConvertsHalves) {
    const std::uint16_t f16[] = {0x3C00, 0xC000, 0x7BFF, 0x0001, 0x8000};
    float out[5];
    dequantize_row(DType::f16, reinterpret_cast<const std::byte*>(f16), out);
    EXPECT_EQ(out[0], 1.0f);
    EXPECT_EQ(out[1], -2.0f);
    EXPECT_EQ(out[2], 65504.0f);
    EXPECT_EQ(out[3], 0x1p-24f);
    EXPECT_TRUE(std::signbit(out[4]) && out[4] == 0.0f);

    const std::uint16_t bf16[] = {0x3F80, 0xC000, 0x7F7F, 0x0001, 0x8000};
    dequantize_row(DType::bf16, reinterpret_cast<const std::byte*>(bf16), out);
    EXPECT_EQ(out[0], 1.0f);
    EXPECT_EQ(out[1], -2.0f);
    EXPECT_EQ(out[2], 0x1.FEp127f);
    EXPECT_EQ(out[3], 0x1p-133f);
    EXPECT_TRUE(std::signbit(out[4]) && out[4] == 0.0f);
}

}  // namespace
}  // namespace unicorn::kernels
