#include "kernels/rope.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/testing.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using testing::Guarded;
using testing::kEpsilon;
using testing::random_floats;

constexpr std::size_t kHeadDims[] = {16, 18, 30, 32, 34, 48, 64, 128, 256};

TEST(RopeAngles, AreRoundedToF32AsTheModelWasPublished) {
    for (const std::size_t head_dim : kHeadDims) {
        for (const auto& [base, divisor] : {std::pair{1e4L, 1.0L}, {1e6L, 1.0L}, {1e6L, 8.0L}}) {
            for (const std::int32_t position : {0, 1, 7, 511, 4095, 32767, 131071}) {
                Guarded<float> cos(head_dim / 2), sin(head_dim / 2);
                rope_angles(position, static_cast<double>(base), static_cast<double>(divisor),
                            cos.span(), sin.span());
                for (std::size_t i = 0; i < head_dim / 2; ++i) {
                    const long double power = -2.0L * i / head_dim;
                    const auto frequency = static_cast<float>(std::pow(base, power) / divisor);
                    const float angle = static_cast<float>(position) * frequency;
                    // One rounding of a number of at most 1.
                    EXPECT_NEAR(static_cast<double>(cos[i]), std::cos(static_cast<double>(angle)),
                                kEpsilon)
                        << "E " << head_dim << " position " << position << " at " << i;
                    EXPECT_NEAR(static_cast<double>(sin[i]), std::sin(static_cast<double>(angle)),
                                kEpsilon)
                        << "E " << head_dim << " position " << position << " at " << i;
                }
                EXPECT_TRUE(cos.guards_intact() && sin.guards_intact());
            }
        }
    }
}

TEST(NormRope, EveryFormIsWithinTheBound) {
    constexpr double kEps = 1e-6;
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t head_dim : kHeadDims) {
            for (const float scale : {1.0f, 1e-9f, 1e5f, 2e15f}) {
                const std::size_t half = head_dim / 2;
                const std::vector<float> before = random_floats(head_dim, 1, scale),
                                         gain = random_floats(head_dim, 2);
                std::vector<float> cos(half), sin(half);
                rope_angles(12345, 1e4, 1, cos, sin);
                Guarded<float> x(before);
                norm_rope(isa, x.span(), Guarded<float>(gain).span(), static_cast<float>(kEps),
                          Guarded<float>(cos).span(), Guarded<float>(sin).span());
                double sum = 0;
                for (const float v : before) sum += static_cast<double>(v) * static_cast<double>(v);
                const double rms = std::sqrt(sum / static_cast<double>(head_dim) +
                                             static_cast<double>(static_cast<float>(kEps)));
                const double norm_bound = (static_cast<double>(head_dim) / 16 + 8) * kEpsilon;
                for (std::size_t i = 0; i < half; ++i) {
                    const double a =
                        static_cast<double>(before[i]) / rms * static_cast<double>(gain[i]);
                    const double b = static_cast<double>(before[i + half]) / rms *
                                     static_cast<double>(gain[i + half]);
                    const double c = static_cast<double>(cos[i]), s = static_cast<double>(sin[i]);
                    const double rounding = 4 * kEpsilon * (std::abs(a) + std::abs(b));
                    ASSERT_NEAR(static_cast<double>(x[i]), a * c - b * s,
                                norm_bound * (std::abs(a * c) + std::abs(b * s)) + rounding)
                        << name(isa) << " E " << head_dim << " at " << i;
                    ASSERT_NEAR(static_cast<double>(x[i + half]), b * c + a * s,
                                norm_bound * (std::abs(b * c) + std::abs(a * s)) + rounding)
                        << name(isa) << " E " << head_dim << " at " << i + half;
                }
                EXPECT_TRUE(x.guards_intact()) << name(isa) << " E " << head_dim;
            }
        }
    }
}

TEST(NormRope, ANanMakesTheHeadNan) {
    for (const Isa isa : runnable_isas()) {
        std::vector<float> x = random_floats(18, 3), cos(9), sin(9);
        rope_angles(1, 1e4, 1, cos, sin);
        x[17] = std::numeric_limits<float>::quiet_NaN();
        norm_rope(isa, x, std::vector<float>(18, 1.0f), 1e-6f, cos, sin);
        for (const float value : x) EXPECT_TRUE(std::isnan(value)) << name(isa);
    }
}

}  // namespace
}  // namespace unicorn::kernels
