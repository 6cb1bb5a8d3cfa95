#pragma once
// The machine that a plan is for when none is named.

#include "base/result.h"
#include "plan/hardware_profile.h"

namespace unicorn::cli {

/// The CPU of this machine, the memory that is available now and how fast all threads read it,
/// measured. Takes some tenths of a second. Errors: out_of_memory.
Result<plan::HardwareProfile> this_machine();

}  // namespace unicorn::cli
