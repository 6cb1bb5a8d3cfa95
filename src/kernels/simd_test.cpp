// The vector exponential, over the whole range that softmax and GELU use.

#include "kernels/simd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "kernels/isa.h"

namespace unicorn::kernels {
namespace {

using Lanes = std::array<float, 16>;

UNICORN_TARGET_AVX2 void exp_avx2(Lanes& x) {
    for (std::size_t i = 0; i < x.size(); i += 8) {
        _mm256_storeu_ps(&x[i], simd::exp_nonpositive(_mm256_loadu_ps(&x[i])));
    }
}

UNICORN_TARGET_AVX512 void exp_avx512(Lanes& x) {
    _mm512_storeu_ps(x.data(), simd::exp_nonpositive(_mm512_loadu_ps(x.data())));
}

class Exp : public ::testing::TestWithParam<Isa> {
protected:
    void SetUp() override {
        const auto isas = runnable_isas();
        if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end()) {
            GTEST_SKIP() << "this CPU does not have " << name(GetParam());
        }
    }
    static void exp(Lanes& x) { GetParam() == Isa::avx2 ? exp_avx2(x) : exp_avx512(x); }
};

TEST_P(Exp, IsWithinTwoTenMillionthsFromMinus87To0) {
    Lanes x;
    double worst = 0;
    for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(87.0f);) {
        for (float& value : x) {
            value = -std::bit_cast<float>(std::min(bits, std::bit_cast<std::uint32_t>(87.0f)));
            bits += bits < 0x30000000u ? 1000003 : 193;  // below 2^-31 the result is 1
        }
        Lanes y = x;
        exp(y);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double expected = std::exp(static_cast<double>(x[i]));
            worst = std::max(worst, std::abs(static_cast<double>(y[i]) / expected - 1));
        }
    }
    EXPECT_LE(worst, 2e-7);
}

TEST_P(Exp, IsZeroFarBelowOneAtZeroAndNanForNan) {
    const float below = std::nextafter(-87.0f, -100.0f);
    Lanes x = {0.0f,
               -0.0f,
               below,
               -88.0f,
               -104.0f,
               -1e4f,
               -1e30f,
               -std::numeric_limits<float>::max(),
               -std::numeric_limits<float>::infinity(),
               std::numeric_limits<float>::quiet_NaN()};
    exp(x);
    EXPECT_EQ(x[0], 1.0f);
    EXPECT_EQ(x[1], 1.0f);
    for (std::size_t i = 2; i < 9; ++i) EXPECT_EQ(std::bit_cast<std::uint32_t>(x[i]), 0u) << i;
    EXPECT_TRUE(std::isnan(x[9]));
}

INSTANTIATE_TEST_SUITE_P(Forms, Exp, ::testing::Values(Isa::avx2, Isa::avx512),
                         [](const auto& form) { return std::string(name(form.param)); });

}  // namespace
}  // namespace unicorn::kernels
