#pragma once

#include "machine/machine.h"
#include "plan/hardware_profile.h"

namespace unicorn::machine {

/// What the planner sees of a machine, by the ledger's rules:
///   system    MemTotal; available is MemAvailable or what the control group leaves. On an APU the
///             tiers gtt, npu and host all draw on it: the same byte is never counted twice.
///   carveout  an integrated GPU's VRAM, which the firmware took from the DIMMs: its own pool.
///   gpu0      a discrete GPU's VRAM.
/// Only devices that this process can use now are in it, and of several GPUs the primary one. A
/// tier's read_gb_s is what was measured; else an estimate, or 0 without anything to estimate from.
plan::HardwareProfile to_profile(const Machine& machine);

/// This machine as it is now, with the disk of the file or folder `path`, and with the speeds that
/// were measured here before. Takes milliseconds: nothing is measured, and Vulkan is asked
/// only about a GPU of which nothing else tells. Errors: those of detect().
Result<Machine> look_at_this_machine(const std::string& path);

}  // namespace unicorn::machine
