#pragma once
// Judging a machine: what stands in the way of using all of it, and the command that changes that.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "machine/machine.h"

namespace unicorn::machine {

enum class Verdict {
    pass,  // fine, or not to be had here
    warn,  // works, slower or smaller than it could
    fail,  // something this machine has cannot be used
};
std::string_view name(Verdict verdict);

struct Check {
    std::string name = {};  // "kernel"
    Verdict verdict = Verdict::pass;
    std::string detail = {};   // one line
    std::string command = {};  // what to run; every failure has one
};

struct DoctorOptions {
    /// How much memory the GPU should be able to map (GTT).
    std::optional<std::uint64_t> wanted_gtt_bytes = {};
    /// A model that is to run: its files' bytes.
    std::optional<std::uint64_t> model_bytes = {};
};

/// A pure function: no file is read.
std::vector<Check> examine(const Machine& machine, const DoctorOptions& options = {});
/// The worst of them.
Verdict verdict(const std::vector<Check>& checks);

/// The line for /etc/modprobe.d that lets GPUs map `bytes` (rounded up to pages of 4 KiB).
std::string ttm_options(std::uint64_t bytes);

}  // namespace unicorn::machine
