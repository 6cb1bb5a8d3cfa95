#include "quant/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "kernels/dequantize.h"

namespace unicorn::quant {
namespace {

using tensor::DType;
using tensor::DTypeInfo;

std::vector<float> read_floats(const std::string& path) {
    auto file = MappedFile::open(path);
    EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
    if (!file) return {};
    std::vector<float> values(file->bytes().size() / sizeof(float));
    std::memcpy(values.data(), file->bytes().data(), values.size() * sizeof(float));
    return values;
}

std::vector<float> normal(std::size_t n, unsigned seed) {
    std::mt19937 bits(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> x(n);
    for (float& v : x) v = distribution(bits);
    return x;
}

std::vector<std::byte> encode(DType type, const std::vector<float>& x) {
    std::vector<std::byte> blocks(tensor::row_bytes(type, x.size()));
    quantize_row(type, x, blocks.data());
    return blocks;
}

std::vector<float> decode(DType type, const std::vector<std::byte>& blocks, std::size_t n) {
    std::vector<float> x(n);
    kernels::dequantize_row(type, blocks.data(), x);
    return x;
}

std::vector<float> round_trip(DType type, const std::vector<float>& x) {
    return decode(type, encode(type, x), x.size());
}

double relative_rms_error(const std::vector<float>& got, const std::vector<float>& wanted) {
    double error = 0;
    double total = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const double difference = static_cast<double>(got[i]) - static_cast<double>(wanted[i]);
        error += difference * difference;
        total += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
    }
    return std::sqrt(error / total);
}

std::vector<DTypeInfo> quantized_types() {
    std::vector<DTypeInfo> chosen;
    for (const DTypeInfo& type : tensor::all_dtypes()) {
        if (type.quantized) chosen.push_back(type);
    }
    return chosen;
}

class Quantize : public testing::TestWithParam<DTypeInfo> {};
INSTANTIATE_TEST_SUITE_P(Types, Quantize, testing::ValuesIn(quantized_types()),
                         [](const auto& param) { return std::string(param.param.name); });

// The reference quantiser's relative RMS error, from ../shared/vectors/quant/README.md.
double reference_error(DType type) {
    switch (type) {
        case DType::q4_0: return 0.0832;
        case DType::q4_1: return 0.0743;
        case DType::q5_0: return 0.0423;
        case DType::q5_1: return 0.0360;
        case DType::q8_0: return 0.0051;
        case DType::q2_k: return 0.2929;
        case DType::q3_k: return 0.1493;
        case DType::q4_k: return 0.0672;
        case DType::q5_k: return 0.0346;
        case DType::q6_k: return 0.0166;
        case DType::iq4_nl: return 0.0735;
        case DType::iq4_xs: return 0.0742;
        default: return 0;
    }
}

TEST_P(Quantize, IsAsGoodAsTheReferenceOnTheSharedVectors) {
    const std::string directory = UNICORN_SOURCE_DIR "/../shared/vectors/quant";
    if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not here";
    const std::vector<float> x = read_floats(directory + "/input.f32");
    ASSERT_EQ(x.size(), 2048U);
    EXPECT_LE(relative_rms_error(round_trip(GetParam().type, x), x),
              reference_error(GetParam().type));
}

// The bundled vectors are the first 256 of the shared ones, with the reference's own results.
TEST_P(Quantize, IsAsGoodAsTheReferenceOnTheBundledVectors) {
    const std::string directory = UNICORN_SOURCE_DIR "/src/kernels/testdata/";
    const std::vector<float> x = read_floats(directory + "input.f32");
    const std::vector<float> reference =
        read_floats(directory + std::string(GetParam().name) + ".f32");
    ASSERT_EQ(x.size(), 256U);
    ASSERT_EQ(reference.size(), x.size());
    EXPECT_LE(relative_rms_error(round_trip(GetParam().type, x), x),
              relative_rms_error(reference, x));
}

// The figures that quantize.h gives.
TEST_P(Quantize, ReachesItsAccuracyOnNormalWeights) {
    const auto limit = [](DType type) {
        switch (type) {
            case DType::q4_0: return 0.0825;
            case DType::q4_1:
            case DType::q4_k: return 0.0705;
            case DType::q5_0: return 0.0410;
            case DType::q5_1: return 0.0345;
            case DType::q8_0: return 0.0052;
            case DType::q2_k: return 0.2650;
            case DType::q3_k: return 0.1450;
            case DType::q5_k: return 0.0349;
            case DType::q6_k: return 0.0180;
            case DType::iq4_nl:
            case DType::iq4_xs: return 0.0745;
            default: return 0.0;
        }
    };
    const std::vector<float> x = normal(1 << 16, 7);
    EXPECT_LE(relative_rms_error(round_trip(GetParam().type, x), x), limit(GetParam().type));
}

// Scales are floats: a power of two goes through untouched.
TEST_P(Quantize, ScalesWithItsInput) {
    const std::vector<float> x = normal(1024, 3);
    std::vector<float> larger = x;
    for (float& v : larger) v *= 16;
    const std::vector<float> decoded = round_trip(GetParam().type, x);
    const std::vector<float> decoded_larger = round_trip(GetParam().type, larger);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(decoded_larger[i], 16 * decoded[i]) << i;
}

TEST_P(Quantize, KeepsZeros) {
    const std::vector<float> zeros(512, 0.0f);
    for (float v : round_trip(GetParam().type, zeros)) ASSERT_EQ(v, 0.0f);
}

// One weight among zeros: the zeros stay near zero and the weight near itself.
TEST_P(Quantize, KeepsALonelyWeight) {
    for (const float lonely : {1.0f, -1.0f}) {
        std::vector<float> x(256, 0.0f);
        x[77] = lonely;
        const std::vector<float> decoded = round_trip(GetParam().type, x);
        EXPECT_LE(relative_rms_error(decoded, x), 0.08) << lonely;
    }
}

TEST_P(Quantize, HandlesConstantsOfAnySizeAndSign) {
    for (const float value : {1e-3f, 0.5f, -0.5f, 300.0f, -300.0f, 60000.0f, -60000.0f}) {
        const std::vector<float> x(256, value);
        const std::vector<float> decoded = round_trip(GetParam().type, x);
        EXPECT_LE(relative_rms_error(decoded, x), 0.05) << value;
    }
}

TEST_P(Quantize, MakesWeightsTooSmallForTheirScaleZeroOrTiny) {
    for (const float value : {1e-9f, 1e-20f, 1e-38f, std::numeric_limits<float>::denorm_min()}) {
        std::vector<float> x = normal(256, 5);
        for (float& v : x) v *= value;
        for (float v : round_trip(GetParam().type, x)) ASSERT_LE(std::abs(v), 1e-7f);
    }
}

TEST_P(Quantize, TakesNanAsZeroAndInfinityAsTheLargestF16) {
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> broken = normal(1024, 11);
    std::vector<float> repaired = broken;
    const auto put = [&](std::size_t i, float value, float stands_for) {
        broken[i] = value;
        repaired[i] = stands_for;
    };
    put(3, std::numeric_limits<float>::quiet_NaN(), 0);
    put(40, infinity, 65504);
    put(300, -infinity, -65504);
    put(600, 3e38f, 65504);
    put(601, -3e38f, -65504);
    EXPECT_EQ(encode(GetParam().type, broken), encode(GetParam().type, repaired));
    for (float v : round_trip(GetParam().type, broken)) ASSERT_TRUE(std::isfinite(v));

    const std::vector<float> nothing_but_nan(256, std::numeric_limits<float>::quiet_NaN());
    for (float v : round_trip(GetParam().type, nothing_but_nan)) ASSERT_EQ(v, 0.0f);
}

// Unaligned output, and not a byte beside it.
TEST_P(Quantize, WritesExactlyItsBlocks) {
    const DTypeInfo& type = GetParam();
    const std::vector<float> x = normal(2 * type.block_size, 13);
    const std::vector<std::byte> blocks = encode(type.type, x);
    std::vector<std::byte> guarded(blocks.size() + 2, std::byte{0xA5});
    quantize_row(type.type, x, guarded.data() + 1);
    EXPECT_EQ(guarded.front(), std::byte{0xA5});
    EXPECT_EQ(guarded.back(), std::byte{0xA5});
    EXPECT_EQ(std::memcmp(guarded.data() + 1, blocks.data(), blocks.size()), 0);
}

TEST(QuantizeFloats, RoundToNearestEven) {
    const std::vector<float> x = {1.0f,      -2.5f,     0x1.002p0f, 0x1.006p0f,
                                  0x1.01p0f, 0x1.03p0f, 65519.0f};
    EXPECT_EQ(round_trip(DType::f32, x), x);
    const std::vector<float> as_f16 = {1.0f,      -2.5f,     1.0f,    0x1.008p0f,
                                       0x1.01p0f, 0x1.03p0f, 65504.0f};
    EXPECT_EQ(round_trip(DType::f16, x), as_f16);
    const std::vector<float> as_bf16 = {1.0f, -2.5f, 1.0f, 1.0f, 1.0f, 0x1.04p0f, 65536.0f};
    EXPECT_EQ(round_trip(DType::bf16, x), as_bf16);
}

TEST(QuantizeFloats, KeepNanAndInfinity) {
    const float infinity = std::numeric_limits<float>::infinity();
    const std::vector<float> x = {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()};
    for (DType type : {DType::f32, DType::f16, DType::bf16}) {
        const std::vector<float> decoded = round_trip(type, x);
        EXPECT_EQ(decoded[0], infinity);
        EXPECT_EQ(decoded[1], -infinity);
        EXPECT_TRUE(std::isnan(decoded[2]));
    }
}

}  // namespace
}  // namespace unicorn::quant
