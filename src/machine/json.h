#pragma once
// Machines and profiles as JSON, for --json and for the cache.

#include <nlohmann/json_fwd.hpp>

#include "machine/doctor.h"
#include "machine/machine.h"
#include "plan/hardware_profile.h"

namespace unicorn::machine {

nlohmann::ordered_json to_json(const Machine& machine);
nlohmann::ordered_json to_json(const plan::HardwareProfile& profile);
nlohmann::ordered_json to_json(const std::vector<Check>& checks);

}  // namespace unicorn::machine
