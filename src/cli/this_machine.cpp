#include "cli/this_machine.h"

#include <new>

#include "base/thread_pool.h"
#include "cli/machine.h"
#include "memory/bandwidth.h"
#include "memory/host_allocator.h"

namespace unicorn::cli {

Result<plan::HardwareProfile> this_machine() {
    const MachineInfo info = machine_info();
    plan::HardwareProfile profile =
        plan::cpu_only_profile(info.memory_bytes, memory::available_memory_bytes());
    profile.name = "this machine";
    profile.devices.front().name = info.cpu;
    try {
        ThreadPool pool(info.cpus);
        memory::ReadBandwidth bandwidth(pool);
        profile.tiers.front().read_gb_s = bandwidth.measure_gb_per_s();
        profile.tiers.front().measured = true;
    } catch (const std::bad_alloc&) {
        return fail(ErrorCode::out_of_memory, "no memory left to measure how fast it is");
    }
    return profile;
}

}  // namespace unicorn::cli
