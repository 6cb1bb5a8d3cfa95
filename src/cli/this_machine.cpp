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

Result<plan::HardwareProfile> this_machine_measured(const std::string& path, bool disk) {
    auto found = look(path);
    if (!found) return forward(found);
    machine::Measured& known = found->measured;
    bool news = false;
    if (!known.host_gb_s) {
        auto gb_s = machine::measure_host_gb_s(found->memory.usable_bytes());
        if (!gb_s) return forward(gb_s);
        known.host_gb_s = *gb_s;
        news = true;
    }
    if (disk && !known.disk_gb_s) {
        if (auto gb_s = machine::measure_disk_gb_s(path)) {
            known.disk_gb_s = *gb_s;
            news = true;
        } else {
            note("not measured: {}", gb_s.error().message);
        }
    }
    if (const std::string folder = machine::cache_folder(); news && !folder.empty()) {
        if (auto status = machine::store_measured(folder, *found); !status)
            note("not kept: {}", status.error().message);
    }
    return machine::to_profile(*found);
}

}  // namespace unicorn::cli
