#pragma once
// Settings of the system that cost speed, changed for as long as the machine is up and brought
// back: what they were is kept in a file.

#include <string>
#include <vector>

#include "base/result.h"
#include "machine/npu_driver.h"

namespace unicorn::machine {

/// One thing that can be set, and how it stands.
struct Setting {
    std::string name = {};     // "governor of policy0"
    std::string path = {};     // the kernel's file, or the NPU's device node
    bool npu = false;          // set by the NPU's driver instead of by writing to the file
    std::string current = {};  // empty: could not be read
    std::string wanted = {};
    std::string problem = {};  // why it cannot be read or set; empty when it can
    bool is_as_wanted() const { return current == wanted; }
};

/// What became of one setting.
struct Change {
    std::string name;
    std::string before, after;  // `after` as read back
    std::string problem;        // empty when `after` is what was asked for
};

struct TuneOptions {
    /// A folder that stands for the root of a machine; empty: this machine. The file of old values
    /// lies below it, in /var/lib/unicorn.
    std::string sysfs_root = {};
    /// Who sets the NPU's power mode; empty: the amdxdna driver, on this machine only.
    NpuDriver* npu_driver = nullptr;
};

/// Everything here that matters: governor and energy preference of each CPU policy, amdgpu's
/// performance level, the NPU's power mode, vm.swappiness, vm.vfs_cache_pressure, transparent huge
/// pages. What this machine does not have is left out. Errors: not_found (no such root).
Result<std::vector<Setting>> tunable_settings(const TuneOptions& options);

/// Sets what is not as wanted, and reads each back. The old values are on disk before the first
/// change; of a setting that an earlier apply() since the last boot has changed, the older value
/// stays.
/// Errors, with nothing changed: not_found (no such root), io (the old values cannot be kept;
/// without root's rights that is what fails), invalid_file (a damaged record, which is left as it
/// is).
Result<std::vector<Change>> apply_settings(const TuneOptions& options);

/// Brings the old values back, in the opposite order, and forgets those that came back. A record
/// of an earlier boot is only removed: a restart has brought the system's own values back.
/// Errors: not_found (no such root, nothing recorded, restarted since), invalid_file (a damaged
/// record), io.
Result<std::vector<Change>> restore_settings(const TuneOptions& options);

/// The command by which root runs this program's tune with `options`, to be copied.
std::string tune_command(const std::string& options);

/// Where the old values are kept: "<root>/var/lib/unicorn/tune.json".
std::string tune_state_path(const TuneOptions& options);

}  // namespace unicorn::machine
