#pragma once
// The machine that a plan is for when none is named.

#include <string>

#include "base/result.h"
#include "plan/hardware_profile.h"

namespace unicorn::cli {

/// This machine as it is now, with the disk of the file or folder `path`. How fast its memory is
/// read is measured the first time, which takes some tenths of a second, and kept; with `disk` the
/// disk is, too, which takes up to three seconds and, for a folder, 128 MiB in it for as long. What
/// cannot be measured stays unknown, with a remark. Errors: those of machine::detect().
Result<plan::HardwareProfile> this_machine_measured(const std::string& path, bool disk);

}  // namespace unicorn::cli
