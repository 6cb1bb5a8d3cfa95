// The search, with times that the test makes up.

#include "backends/vulkan/matmul_tune.h"

#include <gmock/gmock.h>

namespace unicorn::backends::vulkan {
namespace {

const ShapeLimits kLimits = {
    .invocations = 1024, .shared_bytes = 49152, .subgroup = 32, .matrix = {16, 16, 16}};
const ProductKey kVec = {
    ProductShader::matvec_dot4, tensor::DType::q4_0, ProductUse::single, 4096, 4096, 1};
const ProductKey kMat = {
    ProductShader::matmul_coopmat, tensor::DType::q4_0, ProductUse::gated, 4096, 4096, 16};

std::vector<TuneTask> tasks() {
    return {{.n_rows = 1, .key = kVec, .known = MatvecShape{256, 1, 1, 4}},
            {.n_rows = 16, .key = kMat, .known = MatmulShape{128, 16, 64, 32, 16, 1, 0}}};
}

/// `seconds` of the shapes that are not the first, but for one, which has `of_last`.
TimeShapes times(double of_known, double of_last, double of_others) {
    return [=](const TuneTask&, std::span<const ProductShape> shapes) {
        std::vector<double> out(shapes.size(), of_others);
        out.front() = of_known;
        out.back() = of_last;
        return Result<std::vector<double>>(out);
    };
}

double no_time() { return 0; }

TEST(ShapesNear, BeginWithWhatIsKnownAndAreValid) {
    for (const TuneTask& task : tasks()) {
        const auto shapes = shapes_near(kLimits, task.key, task.known);
        ASSERT_GE(shapes.size(), 3u);
        EXPECT_LE(shapes.size(), 10u);
        EXPECT_EQ(shapes[0], task.known);
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            EXPECT_TRUE(check_shape(kLimits, task.key, shapes[i])) << format_shape(shapes[i]);
            for (std::size_t j = 0; j < i; ++j) EXPECT_NE(shapes[i], shapes[j]);
        }
    }
}

TEST(SearchShapes, TakesTheFasterOne) {
    const auto found = search_shapes(tasks(), kLimits, times(1.0, 0.9, 0.95), no_time, {});
    ASSERT_TRUE(found);
    ASSERT_EQ(found->findings.size(), 2u);
    for (const TuneFinding& f : found->findings) EXPECT_EQ(f.best, f.shapes.size() - 1);
    const TunedShapes faster = found->faster();
    EXPECT_EQ(faster.size(), 2u);
    EXPECT_EQ(faster.at(kVec), found->findings[0].shapes.back());
}

TEST(SearchShapes, KeepsWhatIsKnownUnlessAnotherIsClearlyFaster) {
    const auto found = search_shapes(tasks(), kLimits, times(1.0, 0.98, 1.1), no_time, {});
    ASSERT_TRUE(found);
    for (const TuneFinding& f : found->findings) EXPECT_EQ(f.best, 0u);
    EXPECT_TRUE(found->faster().empty());
}

TEST(SearchShapes, KeepsWhatIsKnownWhenTheOtherOnlyHadLuck) {
    const TimeShapes lucky_once = [](const TuneTask&, std::span<const ProductShape> shapes) {
        std::vector<double> out(shapes.size(), 1.0);
        if (shapes.size() > 2) out.back() = 0.5;
        return Result<std::vector<double>>(out);
    };
    const auto found = search_shapes(tasks(), kLimits, lucky_once, no_time, {});
    ASSERT_TRUE(found);
    EXPECT_TRUE(found->faster().empty());
}

TEST(SearchShapes, EndsWithItsTime) {
    double now = 0;
    const auto found = search_shapes(tasks(), kLimits, times(1, 0.5, 1),
                                     [&] { return std::exchange(now, 11.0); }, {.budget_s = 10});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->findings.size(), 1u);
    EXPECT_EQ(found->n_left, 1u);
}

TEST(SearchShapes, HandsErrorsOn) {
    const auto found = search_shapes(
        tasks(), kLimits,
        [](const TuneTask&, std::span<const ProductShape>) -> Result<std::vector<double>> {
            return fail(ErrorCode::device_lost, "gone");
        },
        no_time, {});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, ErrorCode::device_lost);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
