#include "base/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace unicorn {
namespace {

namespace fs = std::filesystem;

/// A folder that stands for the root of a machine.
class CpuQuota : public testing::Test {
protected:
    void SetUp() override {
        const auto* test = testing::UnitTest::GetInstance()->current_test_info();
        root_ = fs::path(testing::TempDir()) / (std::string("cpu_quota_") + test->name());
        fs::remove_all(root_);
    }
    void TearDown() override { fs::remove_all(root_); }

    void put(const std::string& path, const std::string& text) {
        fs::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
    }
    std::optional<double> quota() const { return cpu_quota(root_.string()); }

    fs::path root_;
};

TEST_F(CpuQuota, IsNothingWithoutControlGroups) { EXPECT_EQ(quota(), std::nullopt); }

TEST_F(CpuQuota, MaxIsNoLimit) {
    put("proc/self/cgroup", "0::/user.slice\n");
    put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CpuQuota, TheTightestGroupOnTheWayUpCounts) {
    put("proc/self/cgroup", "0::/a/b/c\n");
    put("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n");
    put("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    put("sys/fs/cgroup/a/cpu.max", "max 100000\n");
    EXPECT_EQ(quota(), 1.5);
}

TEST_F(CpuQuota, AContainerSeesItsOwnGroupAtTheMount) {
    put("proc/self/cgroup", "0::/../../docker/1234\n");
    put("sys/fs/cgroup/cpu.max", "50000 100000\n");
    EXPECT_EQ(quota(), 0.5);
}

TEST_F(CpuQuota, ReadsVersionOne) {
    put("proc/self/cgroup", "4:memory:/job\n3:cpuacct,cpu:/job\n");
    put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000\n");
    put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(quota(), 2.0);
}

TEST_F(CpuQuota, WhatCannotBeReadIsNoLimit) {
    put("proc/self/cgroup", "nonsense\n0::/a\n::\n");
    put("sys/fs/cgroup/a/cpu.max", "many 0\n");
    EXPECT_EQ(quota(), std::nullopt);
    put("sys/fs/cgroup/a/cpu.max", "100000 0\n");
    EXPECT_EQ(quota(), std::nullopt);
}

}  // namespace
}  // namespace unicorn
