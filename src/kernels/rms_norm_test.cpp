#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/testing.h"

namespace unicorn::kernels {
namespace {

using testing::Guarded;
using testing::kEpsilon;
using testing::random_floats;

constexpr float kEps = 1e-6f;
constexpr std::size_t kSizes[] = {1,  7,  8,  15,  16,   17,   31,   32,   33,   63,
                                  64, 65, 79, 640, 1152, 2560, 3840, 5376, 21504};

std::vector<double> exact_norm(std::span<const float> x, std::span<const float> gain) {
    long double sum = 0;
    for (const float v : x) sum += static_cast<long double>(v) * static_cast<long double>(v);
    const long double rms = std::sqrt(sum / x.size() + static_cast<long double>(kEps));
    std::vector<double> out(x.size());
    for (std::size_t d = 0; d < x.size(); ++d) {
        const long double normed = static_cast<long double>(x[d]) / rms;
        out[d] = static_cast<double>(normed * static_cast<long double>(gain[d]));
    }
    return out;
}

/// The contract's bound; `expected` is x / rms * gain.
double bound(std::size_t dim, double expected) {
    return (static_cast<double>(dim) / 16 + 8) * kEpsilon * std::abs(expected);
}

void expect_norm(std::span<const float> out, std::span<const float> x, std::span<const float> gain,
                 const std::string& what) {
    const std::vector<double> expected = exact_norm(x, gain);
    for (std::size_t d = 0; d < x.size(); ++d) {
        ASSERT_NEAR(static_cast<double>(out[d]), expected[d], bound(x.size(), expected[d]))
            << what << " D " << x.size() << " at " << d;
    }
}

TEST(RmsNorm, EveryFormIsWithinTheBoundAtEverySizeAndMagnitude) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : kSizes) {
            for (const float scale : {1.0f, 1e-12f, 1e5f, 2e15f}) {
                const std::vector<float> x = random_floats(dim, 1, scale);
                const std::vector<float> gain = random_floats(dim, 2, 3.0f);
                Guarded<float> out(dim);
                rms_norm(isa, out.span(), Guarded<float>(x).span(), Guarded<float>(gain).span(),
                         kEps);
                expect_norm(out.span(), x, gain, std::string(name(isa)));
                EXPECT_TRUE(out.guards_intact());
            }
        }
    }
}

TEST(RmsNorm, AcceptsTheLargestActivations) {
    for (const Isa isa : runnable_isas()) {
        const std::vector<float> x(21504, -1e16f), gain(21504, 2.0f);
        std::vector<float> out(21504);
        rms_norm(isa, out, x, gain, kEps);
        expect_norm(out, x, gain, std::string(name(isa)));
    }
}

TEST(RmsNorm, ARowOfZerosStaysZero) {
    for (const Isa isa : runnable_isas()) {
        const std::vector<float> x(33, 0.0f), gain(33, 2.0f);
        std::vector<float> out(33, 1.0f);
        rms_norm(isa, out, x, gain, kEps);
        EXPECT_EQ(out, x);
    }
}

TEST(RmsNorm, MayWriteOverItsInput) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : kSizes) {
            const std::vector<float> x = random_floats(dim, 3), gain = random_floats(dim, 4);
            std::vector<float> apart(dim), in_place = x;
            rms_norm(isa, apart, x, gain, kEps);
            rms_norm(isa, in_place, in_place, gain, kEps);
            EXPECT_EQ(apart, in_place) << name(isa) << " D " << dim;
        }
    }
}

TEST(RmsNorm, ANanAnywhereMakesTheWholeRowNan) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : {1u, 17u, 640u}) {
            for (const std::size_t place : {std::size_t{0}, dim / 2, std::size_t{dim - 1}}) {
                std::vector<float> x = random_floats(dim, 5), out(dim);
                x[place] = std::numeric_limits<float>::quiet_NaN();
                rms_norm(isa, out, x, random_floats(dim, 6), kEps);
                for (const float value : out)
                    EXPECT_TRUE(std::isnan(value)) << name(isa) << " D " << dim;
            }
        }
    }
}

TEST(AddRmsNorm, EveryFormAddsTheNormedBranchAndNormsTheSum) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : kSizes) {
            for (const float scale : {1.0f, 1e5f, 2e15f}) {
                const std::vector<float> before = random_floats(dim, 1, scale);
                const std::vector<float> branch = random_floats(dim, 2, scale);
                const std::vector<float> branch_gain = random_floats(dim, 3, scale);
                const std::vector<float> next_gain = random_floats(dim, 4);
                Guarded<float> residual(before), out(dim);
                add_rms_norm(isa, residual.span(), branch, branch_gain, next_gain, kEps,
                             out.span());
                const std::vector<double> normed = exact_norm(branch, branch_gain);
                for (std::size_t d = 0; d < dim; ++d) {
                    const double sum = static_cast<double>(before[d]) + normed[d];
                    const double tolerance = bound(dim, normed[d]) + kEpsilon * std::abs(sum);
                    ASSERT_NEAR(static_cast<double>(residual[d]), sum, tolerance)
                        << name(isa) << " D " << dim << " at " << d;
                }
                // The second norm is of the residual as it was stored.
                expect_norm(out.span(), residual.span(), next_gain, std::string(name(isa)));
                EXPECT_TRUE(residual.guards_intact());
                EXPECT_TRUE(out.guards_intact());
            }
        }
    }
}

TEST(AddRmsNorm, MayWriteOverTheBranch) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : {1u, 17u, 640u, 1152u}) {
            const std::vector<float> gain = random_floats(dim, 7);
            std::vector<float> branch = random_floats(dim, 8), out(dim);
            std::vector<float> residual = random_floats(dim, 9), residual_in_place = residual;
            add_rms_norm(isa, residual, branch, gain, gain, kEps, out);
            add_rms_norm(isa, residual_in_place, branch, gain, gain, kEps, branch);
            EXPECT_EQ(out, branch) << name(isa) << " D " << dim;
            EXPECT_EQ(residual, residual_in_place) << name(isa) << " D " << dim;
        }
    }
}

TEST(AddRmsNorm, ANanInTheBranchOrTheResidualReachesTheWholeRow) {
    for (const Isa isa : runnable_isas()) {
        for (const bool in_branch : {false, true}) {
            std::vector<float> branch = random_floats(17, 1), residual = random_floats(17, 2),
                               out(17);
            (in_branch ? branch : residual)[16] = std::numeric_limits<float>::quiet_NaN();
            add_rms_norm(isa, residual, branch, random_floats(17, 3), random_floats(17, 4), kEps,
                         out);
            for (const float value : out) EXPECT_TRUE(std::isnan(value)) << name(isa);
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
