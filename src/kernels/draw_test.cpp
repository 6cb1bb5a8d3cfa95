// Integer arithmetic against the CPU's own floats, bit by bit.

#include "kernels/draw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace unicorn::kernels::draw {
namespace {

std::uint64_t random(std::uint64_t& counter) { return random_mix(counter += random_step()); }

/// Any finite float: all exponents, denormals and zeros; sometimes one near `other`.
float any_float(std::uint64_t& counter, float other = 0) {
    const std::uint64_t r = random(counter);
    auto bits = static_cast<uint>(r);
    if (r >> 62 == 0)
        bits = std::bit_cast<uint>(other) ^ static_cast<uint>((r >> 32) & 0x80000003u);
    if (r >> 62 == 1) bits &= 0x807FFFFFu;
    if (r >> 58 == 0x3F) bits &= kSign;
    const auto x = std::bit_cast<float>(bits);
    return std::isfinite(x) ? x : 1.0f;
}

void expect_same(uint got, float expected, float a, float b) {
    if (std::isnan(expected)) {
        EXPECT_TRUE(is_nan(got));
        return;
    }
    if (expected == 0) got &= ~kSign, expected = 0;
    ASSERT_EQ(got, std::bit_cast<uint>(expected)) << a << " and " << b;
}

TEST(Draw, AddsMultipliesAndDividesAsFloatsDo) {
    std::uint64_t counter = 1;
    for (int i = 0; i < 500000; ++i) {
        const float a = any_float(counter), b = any_float(counter, a);
        const auto x = std::bit_cast<uint>(a), y = std::bit_cast<uint>(b);
        expect_same(plus(x, y), a + b, a, b);
        expect_same(times(x, y), a * b, a, b);
        if (b != 0) expect_same(divided(x, y), a / b, a, b);
        // Of like size, as logits and penalties are.
        const float c = std::ldexp(static_cast<float>(random(counter) >> 40), -20);
        const float d = std::ldexp(static_cast<float>(random(counter) >> 40), -18);
        const auto p = std::bit_cast<uint>(c), q = std::bit_cast<uint>(d);
        expect_same(plus(p, q ^ kSign), c - d, c, d);
        if (d != 0) expect_same(divided(p, q), c / d, c, d);
    }
    const float inf = std::numeric_limits<float>::infinity();
    for (const float a : {inf, -inf, 1.0f}) {
        for (const float b : {inf, -inf})
            expect_same(plus(std::bit_cast<uint>(a), std::bit_cast<uint>(b)), a + b, a, b);
    }
}

TEST(Draw, WeightsArePowersOfTwo) {
    std::uint64_t counter = 2;
    for (int i = 0; i < 200000; ++i) {
        const std::uint64_t d = random(counter) >> 26;
        const double exact = std::exp2(40 - std::ldexp(static_cast<double>(d), -32));
        EXPECT_NEAR(static_cast<double>(weight(d)), exact, 2e-9 * exact + 1);
        EXPECT_GE(weight(d), weight(d + 1 + (random(counter) >> 50)));
    }
    EXPECT_EQ(weight(0), std::uint64_t{1} << 40);
    EXPECT_EQ(weight(std::uint64_t{7} << 32), std::uint64_t{1} << 33);
    EXPECT_EQ(weight(farthest()), 0U);
}

TEST(Draw, DistancesAreLogsOfShares) {
    std::uint64_t counter = 3;
    for (int i = 0; i < 200000; ++i) {
        const float a = std::ldexp(static_cast<float>(random(counter) >> 40), -19);
        const float b = a - std::ldexp(static_cast<float>(random(counter) >> 40), -20);
        const double t = std::ldexp(static_cast<double>(random(counter) >> 11) + 1, -51);
        int e = 0;
        const double m = std::frexp(std::log2(std::exp(1.0)) / t, &e);
        const auto got =
            distance(std::bit_cast<uint>(a - b), static_cast<uint>(std::ldexp(m, 31)), e - 31);
        const double exact = std::log2(std::exp(1.0)) * (double{a} - double{b}) / t;
        if (exact >= 64) {
            EXPECT_GE(static_cast<double>(got), std::ldexp(64 - 1e-4, 32));
        } else {
            EXPECT_NEAR(std::ldexp(static_cast<double>(got), -32), exact, 1e-7 * exact + 1e-9);
        }
    }
}

TEST(Draw, KeysOrderByLogitThenId) {
    std::uint64_t counter = 4;
    for (int i = 0; i < 200000; ++i) {
        const float a = any_float(counter), b = any_float(counter, a);
        const auto x = static_cast<uint>(random(counter) >> 42);
        const auto y = static_cast<uint>(random(counter) >> 42);
        const auto key = order_key(std::bit_cast<uint>(a), x);
        EXPECT_EQ(key > order_key(std::bit_cast<uint>(b), y), a > b || (a == b && x < y));
        EXPECT_EQ(key_id(key), x);
        EXPECT_EQ(std::bit_cast<float>(key_logit(key)), a);
    }
    EXPECT_EQ(key_logit(order_key(kNever, 5)), kNever);
}

TEST(Draw, SharesAreHighHalvesOfProducts) {
    std::uint64_t counter = 5;
    for (int i = 0; i < 10000; ++i) {
        const std::uint64_t a = random(counter), b = random(counter) >> (i % 64);
        __extension__ using Wide = unsigned __int128;
        EXPECT_EQ(share_of(a, b), static_cast<std::uint64_t>((Wide{a} * b) >> 64));
    }
    EXPECT_EQ(share_of(UINT64_MAX, UINT64_MAX), UINT64_MAX - 1);
}

}  // namespace
}  // namespace unicorn::kernels::draw
