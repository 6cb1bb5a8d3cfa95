#include "cli/this_machine.h"

#include "base/cache_folder.h"
#include "cli/terminal.h"
#include "machine/measure.h"
#include "machine/profile.h"

namespace unicorn::cli {

Result<plan::HardwareProfile> this_machine_measured(const std::string& path, bool disk) {
    auto found = machine::look_at_this_machine(path);
    if (!found) return forward(found);
    machine::Measured& known = found->measured;
    bool news = false;
    if (!known.host_gb_s) {
        auto gb_s = machine::measure_host_gb_s(found->memory.usable_bytes());
        if (gb_s) {
            known.host_gb_s = *gb_s;
            news = true;
        } else {
            note("not measured: {}", gb_s.error().message);
        }
    }
    if (disk && !known.disk_gb_s) {
        if (auto gb_s = machine::measure_disk_gb_s(path)) {
            known.disk_gb_s = *gb_s;
            news = true;
        } else {
            note("not measured: {}", gb_s.error().message);
        }
    }
    if (const std::string folder = cache_folder(); news && !folder.empty()) {
        if (auto status = machine::store_measured(folder, *found); !status)
            note("not kept: {}", status.error().message);
    }
    return machine::to_profile(*found);
}

}  // namespace unicorn::cli
