#pragma once
// How much CPU time the control group of this process may use.

#include <optional>
#include <string>

namespace unicorn {

/// The quota in CPUs (1.5: one and a half) of the tightest control group that holds this process,
/// its own or one above it; nothing when none sets one. cgroup v2 (cpu.max) and v1
/// (cpu.cfs_quota_us). Files that cannot be read or parsed count as no limit.
/// `root` stands before /proc and /sys, for tests.
std::optional<double> cpu_quota(const std::string& root = "");

}  // namespace unicorn
