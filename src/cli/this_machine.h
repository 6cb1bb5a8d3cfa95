#pragma once
// The machine that a plan is for when none is named.

#include <string>

#include "base/result.h"
#include "plan/hardware_profile.h"

namespace unicorn::cli {

/// This machine as it is now, with the disk of the file or folder `path`, and with the speeds that
/// were measured here before. Takes milliseconds: nothing is measured, and the Vulkan loader is not
/// loaded. Errors: those of machine::detect().
Result<plan::HardwareProfile> this_machine(const std::string& path);

/// The same, but where memory was never measured it is now, and kept for the next time; takes some
/// tenths of a second then. With `disk` the disk is, too, which takes up to three seconds; one that
/// cannot be measured stays unknown. Errors: out_of_memory; those of machine::detect().
Result<plan::HardwareProfile> this_machine_measured(const std::string& path, bool disk);

}  // namespace unicorn::cli
