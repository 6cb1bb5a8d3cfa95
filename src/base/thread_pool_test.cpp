#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace unicorn {
namespace {

TEST(Split, CoversEverythingOnceOnGrainBoundaries) {
    for (std::size_t n : {0U, 1U, 7U, 15U, 16U, 17U, 1152U}) {
        for (std::size_t count : {1U, 2U, 3U, 8U}) {
            for (std::size_t grain : {1U, 16U}) {
                std::size_t at = 0;
                for (std::size_t i = 0; i < count; ++i) {
                    const Range range = split(n, i, count, grain);
                    EXPECT_EQ(range.begin, at);
                    EXPECT_TRUE(range.end == n || range.end % grain == 0);
                    at = range.end;
                }
                EXPECT_EQ(at, n);
            }
        }
    }
}

// More threads than cores on most machines, so parking and waking are exercised too.
class ThreadPoolTest : public testing::TestWithParam<std::size_t> {};

TEST_P(ThreadPoolTest, EveryThreadRunsEveryRegion) {
    ThreadPool pool(GetParam());
    ASSERT_EQ(pool.size(), GetParam());
    std::vector<int> calls(pool.size(), 0);
    for (int region = 0; region < 200; ++region) {
        pool.run([&](Team& team) { ++calls[team.index()]; });
    }
    EXPECT_EQ(calls, std::vector<int>(pool.size(), 200));
}

TEST_P(ThreadPoolTest, BarrierMakesWritesVisible) {
    ThreadPool pool(GetParam());
    const std::size_t n = pool.size();
    std::vector<std::size_t> values(n, 0);
    std::vector<int> wrong(n, 0);
    pool.run([&](Team& team) {
        for (std::size_t round = 1; round <= 500; ++round) {
            values[team.index()] = round;
            team.barrier();
            if (values[(team.index() + 1) % n] != round) ++wrong[team.index()];
            team.barrier();
        }
    });
    EXPECT_EQ(wrong, std::vector<int>(n, 0));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(AvailableCpus, IsAtLeastOne) { EXPECT_GE(available_cpus(), 1U); }

}  // namespace
}  // namespace unicorn
