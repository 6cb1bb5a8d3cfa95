#include "cli/this_machine.h"

#include "cli/terminal.h"
#include "machine/measure.h"
#include "machine/profile.h"

namespace unicorn::cli {
namespace {

Result<machine::Machine> look(const std::string& path) {
    auto found = machine::detect({.path = path, .vulkan = false});
    if (!found) return forward(found);
    if (auto known = machine::load_measured(machine::cache_folder(), *found))
        found->measured = std::move(*known);
    found->measured.disk_device = found->disk.device;
    return found;
}

}  // namespace

Result<plan::HardwareProfile> this_machine(const std::string& path) {
    auto found = look(path);
    if (!found) return forward(found);
    return machine::to_profile(*found);
}

Result<plan::HardwareProfile> this_machine_measured(const std::string& path) {
    auto found = look(path);
    if (!found) return forward(found);
    if (!found->measured.host_gb_s) {
        auto gb_s = machine::measure_host_gb_s(found->memory.usable_bytes());
        if (!gb_s) return forward(gb_s);
        found->measured.host_gb_s = *gb_s;
        const std::string folder = machine::cache_folder();
        if (!folder.empty()) {
            if (auto status = machine::store_measured(folder, *found); !status)
                note("not kept: {}", status.error().message);
        }
    }
    return machine::to_profile(*found);
}

}  // namespace unicorn::cli
