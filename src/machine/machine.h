#pragma once
// What this machine has, as its kernel and drivers tell it: facts only, nothing concluded.
// doctor.h judges them, profile.h makes of them what the planner sees.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/memory_modules.h"
#include "machine/npu_driver.h"
#include "machine/version.h"
#include "machine/vulkan_probe.h"

namespace unicorn::machine {

struct Cpu {
    std::string model;              // "AMD Ryzen 9 8945HS w/ Radeon 780M Graphics"
    std::size_t n_logical = 0;      // hardware threads
    std::size_t n_cores = 0;        // physical cores
    std::optional<double> quota;    // CPUs that the control group may use
    std::vector<std::string> isa;   // of what kernels have forms for: "avx2", "avx512_vnni", ...
    std::string governor;           // of the first CPU: "powersave"
    std::string scaling_driver;     // "amd-pstate-epp"
    std::string energy_preference;  // "balance_performance"; empty where there is none
};

struct Memory {
    std::uint64_t total_bytes = 0;      // MemTotal: what the firmware left to the kernel
    std::uint64_t available_bytes = 0;  // MemAvailable
    std::uint64_t swap_bytes = 0;
    // The tightest control group's limit, and the least that any group on the way up leaves.
    std::optional<std::uint64_t> cgroup_limit_bytes, cgroup_available_bytes;
    std::vector<MemoryModule> modules;   // populated ones; empty when DMI is not readable
    std::string transparent_huge_pages;  // "madvise"
    std::optional<std::uint64_t> swappiness, vfs_cache_pressure;
    // The kernel's limit for memory that GPUs map, in pages of 4 KiB.
    std::optional<std::uint64_t> ttm_pages_limit, ttm_page_pool_size;

    /// MemAvailable, or less where a control group says so.
    std::uint64_t usable_bytes() const;
};

struct Gpu {
    std::string pci_address;  // "0000:c6:00.0"
    std::uint32_t vendor_id = 0, device_id = 0;
    std::string name;                    // "AMD Radeon 780M", or the PCI ids
    std::string driver;                  // "amdgpu"; empty when none is bound
    bool integrated = false;             // its memory is the system's
    std::string card_node, render_node;  // "/dev/dri/renderD128"; empty without a driver
    bool accessible = false;             // to this process: the render node, or by Vulkan
    double link_gb_s = 0;                // of its PCIe link, 1e9 bytes a second; 0: not told
    std::optional<std::uint64_t> vram_total_bytes, vram_used_bytes;
    std::optional<std::uint64_t> gtt_total_bytes, gtt_used_bytes;
    std::string performance_level;  // amdgpu's: "auto"
};

enum class NpuGeneration { xdna1, xdna2, newer };

struct Npu {
    std::string pci_address;
    std::uint32_t device_id = 0, revision = 0;
    NpuGeneration generation = NpuGeneration::xdna1;
    std::string driver;  // "amdxdna"; empty when none is bound
    std::string node;    // "/dev/accel/accel0"; empty when there is none
    bool node_accessible = false;
    std::string board;                  // "RyzenAI-npu1", as the driver names it
    std::string firmware;               // "1.5.2.380"
    std::optional<NpuAnswers> answers;  // what the driver said when asked
};

struct Disk {
    std::string path;         // the file or folder asked about
    std::string file_system;  // "ext4"
    std::string device;       // "nvme0n1p2"
    std::optional<bool> rotational;
    std::optional<std::uint64_t> total_bytes, available_bytes;
    std::optional<bool> direct_io;  // whether O_DIRECT works there
};

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

struct User {
    bool root = false;
    std::vector<std::string> groups;             // of this process, by name
    std::vector<std::string> device_groups;      // render and video, those that the system has
    std::optional<std::uint64_t> memlock_bytes;  // kUnlimited when it is
};

struct System {
    Version kernel;
    std::string os_id, os_version, os_name;  // "debian", "12", "Debian GNU/Linux 12 (bookworm)"
    std::string product;                     // "Micro Computer (HK) Tech Limited UM890 Pro"
    std::string command_line;                // the kernel's
    std::string power_profile;               // platform_profile: "balanced"; empty when none
    std::optional<bool> on_battery;
    bool iommu = false;                   // whether there is one in use
    std::optional<Version> mesa_package;  // of the package manager's list
};

/// GB/s (1e9 bytes) of reading; nothing: not measured on this machine.
struct Measured {
    std::optional<double> host_gb_s = {}, disk_gb_s = {};
    std::optional<double> vram_gb_s = {}, gtt_gb_s = {};  // by the primary GPU
    std::string disk_device = {};                         // what disk_gb_s was measured on
};

struct Machine {
    bool is_this_machine = true;  // else read below another root
    System system;
    Cpu cpu;
    Memory memory;
    std::vector<Gpu> gpus;  // by PCI address
    std::vector<Npu> npus;
    VulkanFacts vulkan;
    Disk disk;
    User user;
    Measured measured;

    /// The GPU that work would go to: the discrete one with the most memory, else an integrated
    /// one; nullptr without a GPU that has a driver.
    const Gpu* primary_gpu() const;
    /// The NPU that is ready for use: driver, node and access; nullptr without one.
    const Npu* ready_npu() const;
};

struct DetectOptions {
    /// A folder that stands for the root of a machine; empty: this machine.
    std::string sysfs_root = {};
    /// The file or folder whose disk is asked about.
    std::string path = ".";
    /// Whether to load the Vulkan loader and its drivers (tens of milliseconds); this machine only.
    bool vulkan = true;
    /// Who asks the NPU's driver; empty: the amdxdna driver, on this machine only.
    NpuDriver* npu_driver = nullptr;
};

/// Looks at everything. A fact that cannot be read is left empty; odd contents count as unreadable.
/// Errors: not_found (no such root), invalid_file (a /proc/meminfo without MemTotal).
Result<Machine> detect(const DetectOptions& options);

}  // namespace unicorn::machine
