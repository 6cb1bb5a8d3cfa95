#include "kernels/gated_gelu.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/testing.h"

namespace unicorn::kernels {
namespace {

using testing::Guarded;
using testing::random_floats;
using testing::same_bits;

long double exact_gelu(float gate) {
    const auto x = static_cast<long double>(gate);
    return x / 2 *
           (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x)));
}

void expect_gelu(float out, float gate, float up, Isa isa) {
    const double expected = static_cast<double>(exact_gelu(gate) * static_cast<long double>(up));
    const double tolerance = 4e-7 * std::max(1.0, std::abs(static_cast<double>(gate))) *
                             std::abs(static_cast<double>(up));
    ASSERT_NEAR(static_cast<double>(out), expected, tolerance)
        << name(isa) << " gate " << gate << " up " << up;
}

TEST(GatedGelu, EveryFormIsWithinTheBoundForGatesOfEverySize) {
    std::vector<float> gates;  // both signs, from the least denormal to the largest float
    for (std::uint32_t bits = 0; bits < 0x7F800000u; bits += 40009) {
        gates.push_back(std::bit_cast<float>(bits));
        gates.push_back(-gates.back());
    }
    for (float x = -12.0f; x < 12.0f; x += 0x1p-11f) gates.push_back(x);
    for (const Isa isa : runnable_isas()) {
        for (const float scale : {1.0f, 0.01f}) {
            const std::vector<float> ups(gates.size(), -scale);
            std::vector<float> out(gates.size());
            gated_gelu(isa, out, gates, ups);
            for (std::size_t i = 0; i < gates.size(); ++i) {
                ASSERT_TRUE(std::isfinite(out[i])) << name(isa) << " gate " << gates[i];
                expect_gelu(out[i], gates[i], ups[i], isa);
            }
        }
    }
}

TEST(GatedGelu, MultipliesByUp) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t n : {2048u, 6912u, 10240u, 15360u, 21504u}) {
            const std::vector<float> gate = random_floats(n, 1, 4.0f),
                                     up = random_floats(n, 2, 1e5f);
            std::vector<float> out(n);
            gated_gelu(isa, out, gate, up);
            for (std::size_t i = 0; i < n; ++i) expect_gelu(out[i], gate[i], up[i], isa);
        }
    }
}

TEST(GatedGelu, AnElementsValueDoesNotDependOnItsPlace) {
    const std::vector<float> gate = random_floats(40, 3, 2.0f), up = random_floats(40, 4);
    for (const Isa isa : runnable_isas()) {
        std::vector<float> alone(40);
        for (std::size_t i = 0; i < 40; ++i)
            gated_gelu(isa, {&alone[i], 1}, {&gate[i], 1}, {&up[i], 1});
        for (std::size_t first = 0; first < 9; ++first) {
            for (std::size_t n = 1; first + n <= 40; ++n) {
                Guarded<float> out(n);
                gated_gelu(isa, out.span(), std::span(gate).subspan(first, n),
                           std::span(up).subspan(first, n));
                EXPECT_TRUE(same_bits<float>(out.span(), std::span(alone).subspan(first, n)))
                    << name(isa) << " " << first << " + " << n;
                EXPECT_TRUE(out.guards_intact()) << name(isa) << " N " << n;
            }
        }
    }
}

TEST(GatedGelu, MayWriteOverEitherInput) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t n : {1u, 7u, 16u, 17u, 100u}) {
            const std::vector<float> gate = random_floats(n, 5), up = random_floats(n, 6);
            std::vector<float> out(n), over_gate = gate, over_up = up;
            gated_gelu(isa, out, gate, up);
            gated_gelu(isa, over_gate, over_gate, up);
            gated_gelu(isa, over_up, gate, over_up);
            EXPECT_EQ(out, over_gate) << name(isa) << " N " << n;
            EXPECT_EQ(out, over_up) << name(isa) << " N " << n;
        }
    }
}

TEST(GatedGelu, ANanStaysInItsPlace) {
    for (const Isa isa : runnable_isas()) {
        std::vector<float> gate = random_floats(33, 7), up = random_floats(33, 8), out(33);
        gate[3] = up[32] = std::numeric_limits<float>::quiet_NaN();
        gated_gelu(isa, out, gate, up);
        for (std::size_t i = 0; i < out.size(); ++i) {
            EXPECT_EQ(std::isnan(out[i]), i == 3 || i == 32) << name(isa) << " at " << i;
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
