#include "memory/bandwidth.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unicorn::memory {
namespace {

TEST(ReadBandwidth, ReadsTheWholeBufferWithAnyNumberOfThreads) {
    for (const std::size_t n_threads : {1, 2, 3}) {
        ThreadPool pool(n_threads);
        ReadBandwidth bandwidth(pool, 1 << 20);
        EXPECT_EQ(bandwidth.bytes(), 1u << 20);
        const double gb_per_s = bandwidth.measure_gb_per_s();
        EXPECT_TRUE(std::isfinite(gb_per_s));
        EXPECT_GT(gb_per_s, 0);
    }
}

TEST(ReadBandwidth, RoundsDownToPagesAndDefaultsToMoreThanTheCaches) {
    ThreadPool pool(1);
    EXPECT_EQ(ReadBandwidth(pool, 1).bytes(), 4096u);
    EXPECT_EQ(ReadBandwidth(pool, 10000).bytes(), 8192u);
    EXPECT_GE(ReadBandwidth(pool).bytes(), std::size_t{256} << 20);
}

}  // namespace
}  // namespace unicorn::memory
