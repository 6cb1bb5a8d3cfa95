#include "kernels/kv_page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/testing.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;
using testing::random_floats;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kQ8Max = 65504.0f * 127;

/// A page of guard bytes with one vector stored in it.
struct Page {
    static constexpr std::size_t kGuard = 64;
    static constexpr std::uint8_t kByte = 0xA5;

    Page(DType dtype, std::size_t head_dim)
        : type(dtype),
          dim(head_dim),
          bytes(kv_page_bytes(dtype, head_dim) + 2 * kGuard, std::byte{kByte}) {}

    void store(Isa isa, std::size_t token, const std::vector<float>& x) {
        store_kv(isa, type, bytes.data() + kGuard, token, x);
    }
    template <typename T>
    T get(std::size_t at) const {
        T value;
        std::memcpy(&value, bytes.data() + kGuard + at, sizeof value);
        return value;
    }
    float scale(std::size_t token, std::size_t e) const {
        const std::size_t group = (token * dim + e) / kKvGroup;
        return tensor::f16_to_f32(get<std::uint16_t>(kPageTokens * dim + 2 * group));
    }
    /// The element as it is stored.
    float value(std::size_t token, std::size_t e) const {
        const std::size_t at = token * dim + e;
        if (type == DType::f32) return get<float>(4 * at);
        if (type == DType::f16) return tensor::f16_to_f32(get<std::uint16_t>(2 * at));
        return static_cast<float>(get<std::int8_t>(at)) * scale(token, e);
    }

    DType type;
    std::size_t dim;
    std::vector<std::byte> bytes;
};

TEST(KvPage, TakesTheBytesOfItsTypeInWholeCacheLines) {
    EXPECT_EQ(kv_page_bytes(DType::f32, 256), 32U * 256 * 4);
    EXPECT_EQ(kv_page_bytes(DType::f16, 256), 32U * 256 * 2);
    EXPECT_EQ(kv_page_bytes(DType::q8_0, 256), 32U * 256 / 32 * 34);
    for (const DType type : {DType::f16, DType::q8_0, DType::f32}) {
        for (std::size_t dim = 16; dim <= kMaxHeadDim; dim += 16) {
            EXPECT_EQ(can_cache(type, dim), type != DType::q8_0 || dim % 32 == 0);
            if (can_cache(type, dim)) {
                EXPECT_EQ(kv_page_bytes(type, dim) % 64, 0U);
            }
        }
        for (const std::size_t dim : {0U, 8U, 24U, 288U}) EXPECT_FALSE(can_cache(type, dim)) << dim;
    }
    EXPECT_FALSE(can_cache(DType::q4_0, 256));
    EXPECT_FALSE(can_cache(DType::bf16, 256));
}

TEST(KvPage, WritesNothingButItsToken) {
    for (const Isa isa : runnable_isas()) {
        for (const DType type : {DType::f16, DType::q8_0, DType::f32}) {
            for (std::size_t dim = 32; dim <= kMaxHeadDim; dim += 32) {
                for (const std::size_t token : {0U, 1U, 30U, 31U}) {
                    Page page(type, dim);
                    page.store(isa, token, random_floats(dim, 3));
                    const std::size_t row = dim * (type == DType::f32   ? 4
                                                   : type == DType::f16 ? 2
                                                                        : 1);
                    const std::size_t scales = Page::kGuard + kPageTokens * dim;
                    const std::size_t scale_row = type == DType::q8_0 ? dim / kKvGroup * 2 : 0;
                    for (std::size_t i = 0; i < page.bytes.size(); ++i) {
                        const bool mine = (i >= Page::kGuard + token * row &&
                                           i < Page::kGuard + (token + 1) * row) ||
                                          (i >= scales + token * scale_row &&
                                           i < scales + (token + 1) * scale_row);
                        if (!mine) {
                            ASSERT_EQ(page.bytes[i], std::byte{Page::kByte})
                                << name(isa) << " " << tensor::name(type) << " E " << dim << " at "
                                << i;
                        }
                    }
                }
            }
        }
    }
}

TEST(KvPage, F16RoundsToNearestEvenAndClamps) {
    std::vector<float> x;
    for (std::uint32_t h = 0; h < 0x7C00;
         ++h) {  // every f16, the midpoints above it, and beside those
        const float low = tensor::f16_to_f32(static_cast<std::uint16_t>(h));
        const float high =
            h == 0x7BFF ? 65536.0f : tensor::f16_to_f32(static_cast<std::uint16_t>(h + 1));
        const float middle = low + (high - low) / 2;
        for (const float value :
             {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
            x.push_back(value);
            x.push_back(-value);
        }
    }
    for (const float value :
         {65505.0f, 65520.0f, 1e16f, std::numeric_limits<float>::max(), kInfinity, 1e-30f}) {
        x.push_back(value);
        x.push_back(-value);
    }
    x.resize((x.size() + 255) / 256 * 256);
    for (const Isa isa : runnable_isas()) {
        Page page(DType::f16, 256);
        for (std::size_t i = 0; i < x.size(); i += 256) {
            page.store(isa, 7,
                       {x.begin() + static_cast<std::ptrdiff_t>(i),
                        x.begin() + static_cast<std::ptrdiff_t>(i) + 256});
            for (std::size_t e = 0; e < 256; ++e) {
                std::uint16_t expected = tensor::f32_to_f16(x[i + e]);
                if ((expected & 0x7FFF) == 0x7C00) expected -= 1;  // the largest finite f16
                ASSERT_EQ(page.get<std::uint16_t>(2 * (7 * 256 + e)), expected)
                    << name(isa) << " x " << x[i + e];
            }
        }
    }
}

TEST(KvPage, Q8IsWithinHalfAScaleAndTheScaleWithinItsBound) {
    // From where f16 scales have one bit left to where values are clamped.
    for (int exponent = -40; exponent <= 26; ++exponent) {
        const std::vector<float> x =
            random_floats(256, static_cast<unsigned>(exponent + 50), std::ldexp(1.0f, exponent));
        Page first(DType::q8_0, 256);
        first.store(Isa::scalar, 5, x);
        for (std::size_t e = 0; e < 256; ++e) {
            const std::size_t group = e / kKvGroup * kKvGroup;
            float most = 0;
            for (std::size_t i = group; i < group + kKvGroup; ++i)
                most = std::max(most, std::min(std::abs(x[i]), kQ8Max));
            const auto scale = static_cast<double>(first.scale(5, e));
            const double exact = static_cast<double>(most) / 127;
            ASSERT_GE(scale, exact);
            ASSERT_LE(scale, exact * (1 + 0x1p-10) + 0x1p-24) << "exponent " << exponent;
            const auto clamped = static_cast<double>(std::clamp(x[e], -kQ8Max, kQ8Max));
            ASSERT_LE(std::abs(static_cast<double>(first.value(5, e)) - clamped), 0.5001 * scale)
                << "exponent " << exponent << " x " << x[e];
        }
        for (const Isa isa : runnable_isas()) {
            Page page(DType::q8_0, 256);
            page.store(isa, 5, x);
            ASSERT_EQ(page.bytes, first.bytes) << name(isa) << " exponent " << exponent;
        }
    }
}

TEST(KvPage, Q8StoresZerosLimitsInfinitiesAndNan) {
    for (const Isa isa : runnable_isas()) {
        Page page(DType::q8_0, 64);
        std::vector<float> x(64, 0.0f);
        x[1] = -0.0f;
        x[2] = 1e-44f;  // a scale of 0 in f32
        page.store(isa, 0, x);
        for (std::size_t e = 0; e < 64; ++e) EXPECT_EQ(page.value(0, e), 0.0f) << name(isa);

        x = random_floats(64, 9);
        x[3] = kInfinity;
        x[4] = -kInfinity;
        x[5] = std::numeric_limits<float>::max();
        page.store(isa, 1, x);
        EXPECT_EQ(page.value(1, 3), kQ8Max) << name(isa);
        EXPECT_EQ(page.value(1, 4), -kQ8Max);
        EXPECT_EQ(page.value(1, 5), kQ8Max);

        x[3] = std::bit_cast<float>(0xFF800001u);  // a signalling NaN with a sign
        x[40] = 2.5f;
        page.store(isa, 2, x);
        for (std::size_t e = 0; e < 64; ++e)
            EXPECT_EQ(std::isnan(page.value(2, e)), e < 32) << name(isa) << " " << e;
        EXPECT_NEAR(page.value(2, 40), 2.5f, 0.02f);
    }
}

TEST(KvPage, PlainTypesKeepNanNan) {
    for (const Isa isa : runnable_isas()) {
        for (const DType type : {DType::f16, DType::f32}) {
            Page page(type, 16);
            std::vector<float> x = random_floats(16, 4);
            x[3] = std::bit_cast<float>(0xFF800001u);
            x[4] = kNan;
            page.store(isa, 9, x);
            for (std::size_t e = 0; e < 16; ++e)
                EXPECT_EQ(std::isnan(page.value(9, e)), e == 3 || e == 4) << name(isa) << " " << e;
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
