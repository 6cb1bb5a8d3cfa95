#include "kernels/logits.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace unicorn::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

std::vector<float> random_logits(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 8);
    std::vector<float> x(n);
    for (float& v : x) v = normal(random);
    return x;
}

TEST(CleanLogits, MakesNanAndInfinityHarmlessInEveryFormAndPlace) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t n : {1, 7, 8, 9, 31, 32, 33, 100}) {
            for (std::size_t place = 0; place < n; ++place) {
                auto x = random_logits(n, 1);
                std::vector<float> out(n + 1, 1234.0f);
                x[place] = kNan;
                x[(place + 5) % n] = place % 2 == 0 ? kInf : -kInf;
                const float max = clean_logits(isa, x, std::span(out).first(n));
                float expected_max = -kInf;
                for (std::size_t i = 0; i < n; ++i) {
                    const float expected = std::isnan(x[i]) ? -kInf : std::min(x[i], kLargest);
                    ASSERT_EQ(out[i], expected) << name(isa) << " n " << n << " i " << i;
                    expected_max = std::max(expected_max, expected);
                }
                ASSERT_EQ(max, expected_max) << name(isa) << " n " << n;
                ASSERT_EQ(out[n], 1234.0f) << "wrote past the end";
                ASSERT_EQ(max_logit(isa, std::span(out).first(n)), max) << name(isa);
            }
        }
    }
}

TEST(CleanLogits, AllNanOrEmptyHasNoMaximum) {
    for (const Isa isa : runnable_isas()) {
        std::vector<float> x(19, kNan);
        EXPECT_EQ(clean_logits(isa, x, x), -kInf) << name(isa);
        EXPECT_EQ(clean_logits(isa, {}, {}), -kInf) << name(isa);
        EXPECT_EQ(max_logit(isa, {}), -kInf) << name(isa);
    }
}

TEST(MaxLogit, ANanHidesNothing) {
    for (const Isa isa : runnable_isas()) {
        for (std::size_t place = 0; place < 40; ++place) {
            std::vector<float> x(41, -1.0f);
            x[place == 0 ? 40 : place - 1] = 3.0f;
            x[place] = kNan;
            EXPECT_EQ(max_logit(isa, x), 3.0f) << name(isa) << " " << place;
        }
    }
}

TEST(FindAbove, FindsTheFirstFromAnyStart) {
    constexpr std::size_t kSize = 101;
    for (const Isa isa : runnable_isas()) {
        for (std::size_t place = 0; place < kSize; ++place) {
            std::vector<float> x(kSize, 1.0f);
            x[place] = 2.0f;
            if (place + 1 < kSize) x[place + 1] = kNan;
            if (place + 9 < kSize) x[place + 9] = 3.0f;
            for (std::size_t first = 0; first <= kSize; ++first) {
                std::size_t expected = first;
                while (expected < kSize && !(x[expected] > 1.0f)) ++expected;
                ASSERT_EQ(find_above(isa, x, first, 1.0f), expected)
                    << name(isa) << " place " << place << " first " << first;
            }
        }
    }
}

TEST(FindAbove, ANanIsNotAboveAndHidesNothing) {
    std::vector<float> x(64, kNan);
    for (const Isa isa : runnable_isas()) {
        x[40] = kNan;
        EXPECT_EQ(find_above(isa, x, 0, -kInf), 64U) << name(isa);
        x[40] = -5.0f;
        EXPECT_EQ(find_above(isa, x, 0, -kInf), 40U) << name(isa);
    }
}

TEST(SumExp, IsWithinItsBoundAndTheSameInEveryForm) {
    for (const std::size_t n : {1, 7, 8, 9, 33, 5000}) {
        auto x = random_logits(n, 2);
        x[0] = 30.0f;
        if (n > 2) x[2] = -kInf;
        double expected = 0;
        double bound = 0;
        for (const float v : x) {
            const double distance = 30.0 - static_cast<double>(v);
            const double term = std::exp(-distance);
            expected += term;
            if (term > 0) bound += term * (3e-7 + 0x1p-24 * distance);
        }
        bound += static_cast<double>(n) * 2e-38;
        const double first = sum_exp(Isa::scalar, x, 30.0f);
        for (const Isa isa : runnable_isas()) {
            const double sum = sum_exp(isa, x, 30.0f);
            EXPECT_NEAR(sum, expected, bound) << name(isa) << " n " << n;
            EXPECT_EQ(std::bit_cast<std::uint64_t>(sum), std::bit_cast<std::uint64_t>(first))
                << name(isa) << " n " << n;
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
