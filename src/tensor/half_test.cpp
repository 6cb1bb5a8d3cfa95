#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace unicorn::tensor {
namespace {

TEST(Half, EveryF16RoundTrips) {
    for (std::uint32_t h = 0; h < 0x10000; ++h) {
        const float f = f16_to_f32(static_cast<std::uint16_t>(h));
        if (std::isnan(f)) {
            EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
        } else {
            EXPECT_EQ(f32_to_f16(f), h);
        }
    }
}

TEST(Half, F16RoundsToNearestEven) {
    EXPECT_EQ(f32_to_f16(1.0f), 0x3C00);
    EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3C00);      // tie to even
    EXPECT_EQ(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02);  // tie to even, upward
    EXPECT_EQ(f32_to_f16(65504.0f), 0x7BFF);
    EXPECT_EQ(f32_to_f16(65519.0f), 0x7BFF);
    EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
    EXPECT_EQ(f32_to_f16(-1e30f), 0xFC00);
    EXPECT_EQ(f32_to_f16(0x1p-24f), 0x0001);
    EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);  // tie to even
    EXPECT_EQ(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
    EXPECT_EQ(f32_to_f16(std::nextafter(0x1p-14f, 0.0f)), 0x0400);
    EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
}

TEST(Half, EveryBf16RoundTrips) {
    for (std::uint32_t h = 0; h < 0x10000; ++h) {
        const float f = bf16_to_f32(static_cast<std::uint16_t>(h));
        if (std::isnan(f)) {
            EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(f))));
        } else {
            EXPECT_EQ(f32_to_bf16(f), h);
        }
    }
    EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);  // tie to even
    EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
}

}  // namespace
}  // namespace unicorn::tensor
