#include "machine/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/progress.h"
#include "machine/tune.h"

namespace unicorn::machine {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20, kGiB = std::uint64_t{1} << 30;
/// amdxdna came with Linux 6.14, RADV's cooperative matrices for RDNA3 with Mesa 23.3.
const Version kNpuKernel{.major = 6, .minor = 14};
const Version kMatrixMesa{.major = 23, .minor = 3};
/// amdgpu sizes GTT by TTM's limit since Linux 6.5; before, by a parameter of its own, in MiB.
const Version kTtmKernel{.major = 6, .minor = 5};
/// The NPU's driver maps a heap of 64 MiB for each process, and locks every buffer besides.
constexpr std::uint64_t kNpuHeap = 64 * kMiB;
/// What the system keeps of its memory, whatever the GPU may map.
constexpr std::uint64_t kSystemShare = 4 * kGiB;

std::string gib(std::uint64_t bytes) {
    return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(kGiB));
}

std::string install(const System& system, const char* debian, const char* fedora,
                    const char* arch) {
    if (system.os_id == "fedora") return fmt::format("sudo dnf install {}", fedora);
    if (system.os_id == "arch") return fmt::format("sudo pacman -S {}", arch);
    return fmt::format("sudo apt update && sudo apt install {}", debian);
}

/// Adds a suite of Debian from the mirror that this machine already uses.
std::string add_debian_suite(const char* suite) {
    return fmt::format(
        "echo \"deb $(apt-get indextargets --format '$(SITE)' 'Label: Debian' | head -n1) {} "
        "main\" | sudo tee /etc/apt/sources.list.d/{}.list && sudo apt update",
        suite, suite);
}

std::string new_kernel(const System& system) {
    if (system.os_id == "ubuntu" && system.os_version == "24.04")
        return "sudo apt update && sudo apt install linux-generic-hwe-24.04";
    if (system.os_id == "debian")  // a kernel stands alone: Debian 12 runs Debian 13's too
        return add_debian_suite("trixie-backports") +
               " && sudo apt install -t trixie-backports linux-image-amd64";
    return install(system, "linux-image-generic", "kernel", "linux");
}

std::string new_mesa(const System& system) {
    if (system.os_id == "debian" && system.os_version == "12")
        return add_debian_suite("bookworm-backports") +
               " && sudo apt install -t bookworm-backports mesa-vulkan-drivers";
    return install(system, "mesa-vulkan-drivers", "mesa-vulkan-drivers", "vulkan-radeon");
}

std::string rebuild_initramfs(const System& system) {
    if (system.os_id == "fedora") return "sudo dracut --force";
    if (system.os_id == "arch") return "sudo mkinitcpio -P";
    return "sudo update-initramfs -u";
}

bool is_hardware(const VulkanDevice& device) { return device.type != VulkanType::cpu; }

bool command_line_turns_off_iommu(const System& system) {
    const std::string line = fmt::format(" {} ", system.command_line);
    return line.find(" amd_iommu=off ") != std::string::npos ||
           line.find(" iommu=off ") != std::string::npos;
}

class Doctor {
public:
    Doctor(const Machine& machine, const DoctorOptions& options) : m_(machine), options_(options) {}

    std::vector<Check> run() {
        kernel();
        cpu();
        memory();
        channels();
        for (const Gpu& gpu : m_.gpus) this->gpu(gpu);
        if (m_.gpus.empty()) pass("gpu", "none found: the CPU does all the work");
        gtt();
        vulkan();
        matrices();
        groups();
        npu();
        memlock();
        power();
        disk();
        paging();
        bandwidth();
        return std::move(checks_);
    }

private:
    void add(const char* name, Verdict verdict, std::string detail, std::string command = {}) {
        checks_.push_back({name, verdict, std::move(detail), std::move(command)});
    }
    void pass(const char* name, std::string detail) { add(name, Verdict::pass, std::move(detail)); }
    void warn(const char* name, std::string detail, std::string command = {}) {
        add(name, Verdict::warn, std::move(detail), std::move(command));
    }
    void fail(const char* name, std::string detail, std::string command) {
        add(name, Verdict::fail, std::move(detail), std::move(command));
    }

    void kernel() {
        const Version& kernel = m_.system.kernel;
        const std::string text = fmt::format(
            "Linux {}{}{}", kernel.text, m_.system.os_name.empty() ? "" : ", ", m_.system.os_name);
        if (!m_.npus.empty() && kernel < kNpuKernel && m_.npus.front().driver.empty())
            return fail("kernel",
                        fmt::format("{}: too old for this machine's NPU, whose driver came with "
                                    "6.14 (restart afterwards)",
                                    text),
                        new_kernel(m_.system));
        pass("kernel", text);
    }

    void cpu() {
        const Cpu& cpu = m_.cpu;
        const auto has = [&cpu](const char* name) {
            return std::find(cpu.isa.begin(), cpu.isa.end(), name) != cpu.isa.end();
        };
        const std::string text = fmt::format(
            "{}, {} cores, {} threads{}", cpu.model, cpu.n_cores, cpu.n_logical,
            cpu.quota ? fmt::format(", of which this process may use {:.1f}", *cpu.quota) : "");
        if (!has("avx2") || !has("fma"))
            return warn("cpu", text + ": without AVX2 only the slow plain forms of kernels run");
        pass("cpu", fmt::format("{}, {}", text,
                                has("avx512_vnni") ? "AVX-512 with VNNI"
                                : has("avx512f")   ? "AVX-512"
                                                   : "AVX2"));
    }

    void memory() {
        const Memory& memory = m_.memory;
        std::string text =
            fmt::format("{} of {} available", gib(memory.usable_bytes()), gib(memory.total_bytes));
        if (memory.cgroup_limit_bytes)
            text += fmt::format(", limited by the control group to {}",
                                gib(*memory.cgroup_limit_bytes));
        if (options_.model_bytes && *options_.model_bytes > memory.usable_bytes())
            return warn("memory",
                        fmt::format("{}: less than the model's {}, so part of it will be "
                                    "read from disk for every token",
                                    text, human_bytes(static_cast<double>(*options_.model_bytes))));
        if (memory.usable_bytes() < kGiB)
            return warn("memory", text + ": too little for all but the smallest models");
        pass("memory", text);
    }

    void channels() {
        const auto& modules = m_.memory.modules;
        if (modules.empty())
            return pass("channels", m_.user.root
                                        ? "not known: the firmware lists no memory modules"
                                        : "not known: the firmware's list is not readable (root "
                                          "sees it)");
        const MemoryBus bus = memory_bus(modules);
        std::string text = fmt::format("{} module{} on {} channel{}", modules.size(),
                                       modules.size() == 1 ? "" : "s", bus.n_channels,
                                       bus.n_channels == 1 ? "" : "s");
        if (!modules.front().type.empty()) text = modules.front().type + ": " + text;
        if (bus.mt_s > 0) text += fmt::format(", {} MT/s", bus.mt_s);
        if (bus.peak_gb_s() > 0) text += fmt::format(", {:.1f} GB/s at most", bus.peak_gb_s());
        if (bus.n_channels == 1)
            return warn("channels",
                        text + ": a second module in the other channel doubles the speed",
                        "sudo dmidecode -t memory");
        pass("channels", text);
    }

    void gpu(const Gpu& gpu) {
        std::string text = fmt::format("{} at {}", gpu.name, gpu.pci_address);
        if (gpu.driver.empty()) {
            const char* module = gpu.vendor_id == 0x1002   ? "amdgpu"
                                 : gpu.vendor_id == 0x8086 ? "i915"
                                                           : "nvidia";
            return fail("gpu", text + ": no driver is bound to it",
                        fmt::format("sudo modprobe {}", module));
        }
        text += fmt::format(", {}, {}", gpu.driver, gpu.integrated ? "integrated" : "discrete");
        if (gpu.vram_total_bytes) {
            text += fmt::format(", {} {}", gib(*gpu.vram_total_bytes),
                                gpu.integrated ? "carved out of the system's memory" : "VRAM");
        }
        pass("gpu", text);
    }

    void gtt() {
        const Gpu* gpu = m_.primary_gpu();
        const std::optional<std::uint64_t> wanted = options_.wanted_gtt_bytes;
        if (gpu == nullptr || !gpu->gtt_total_bytes) {
            if (wanted)
                return warn("gtt", fmt::format("{} wanted, but no GPU here tells what it may map",
                                               gib(*wanted)));
            return pass("gtt", "no GPU here tells how much memory it may map");
        }
        std::uint64_t now = *gpu->gtt_total_bytes;
        if (m_.memory.ttm_pages_limit && *m_.memory.ttm_pages_limit < (kUnlimited >> 12))
            now = std::min(now, *m_.memory.ttm_pages_limit << 12);
        const std::string text =
            fmt::format("the GPU may map {} of {} of memory", gib(now), gib(m_.memory.total_bytes));
        const std::uint64_t most =
            m_.memory.total_bytes - std::min(m_.memory.total_bytes / 4, kSystemShare);
        if (wanted && *wanted > most)
            return fail("gtt",
                        fmt::format("{}; {} are wanted, but at most {} leave the system its share",
                                    text, gib(*wanted), gib(most)),
                        apply_ttm(most));
        if (wanted && *wanted > now)
            return fail("gtt",
                        fmt::format("{}; {} are wanted (restart afterwards)", text, gib(*wanted)),
                        apply_ttm(*wanted));
        const std::uint64_t vram = gpu->vram_total_bytes.value_or(0);
        if (gpu->integrated && options_.model_bytes && *options_.model_bytes > now + vram &&
            *options_.model_bytes < most + vram)
            return warn("gtt", text + ": less than the model takes (restart afterwards)",
                        apply_ttm(most));
        pass("gtt", text);
    }

    std::string apply_ttm(std::uint64_t bytes) const {
        const std::string own =
            m_.system.kernel < kTtmKernel
                ? fmt::format("\\noptions amdgpu gttsize={}", (bytes + kMiB - 1) / kMiB)
                : std::string();
        return fmt::format("printf '{}{}\\n' | sudo tee /etc/modprobe.d/unicorn-ttm.conf && {}",
                           ttm_options(bytes), own, rebuild_initramfs(m_.system));
    }

    bool has_gpu() const { return m_.primary_gpu() != nullptr; }

    void vulkan() {
        const VulkanFacts& vulkan = m_.vulkan;
        const std::string drivers =
            install(m_.system, "libvulkan1 mesa-vulkan-drivers",
                    "vulkan-loader mesa-vulkan-drivers", "vulkan-icd-loader vulkan-radeon");
        if (!vulkan.loader_installed) {
            if (has_gpu())
                return fail("vulkan", "no Vulkan loader (libvulkan.so.1): the GPU cannot be used",
                            drivers);
            return pass("vulkan", "no Vulkan loader, and no GPU that would need one");
        }
        if (!vulkan.asked) {
            const bool software =
                !vulkan.drivers.empty() &&
                std::all_of(vulkan.drivers.begin(), vulkan.drivers.end(),
                            [](const std::string& name) { return name.starts_with("lvp_"); });
            return judge_vulkan(
                vulkan.drivers.empty(), software,
                fmt::format("drivers installed: {}", fmt::join(vulkan.drivers, ", ")), drivers);
        }
        std::vector<std::string> names;
        for (const VulkanDevice& device : vulkan.devices)
            names.push_back(fmt::format("{} ({}{}{})", device.name, device.driver_info,
                                        device.driver_info.empty() ? "" : ", Vulkan ",
                                        device.api_version));
        const bool software =
            !vulkan.devices.empty() &&
            std::none_of(vulkan.devices.begin(), vulkan.devices.end(), is_hardware);
        judge_vulkan(vulkan.devices.empty(), software,
                     names.empty() ? vulkan.problem : fmt::format("{}", fmt::join(names, "; ")),
                     drivers);
    }

    void judge_vulkan(bool none, bool software, const std::string& text,
                      const std::string& command) {
        if (!none && !software) return pass("vulkan", text);
        const std::string what =
            none ? fmt::format("a loader, but no driver that works{}{}",
                               m_.vulkan.problem.empty() ? "" : ": ", m_.vulkan.problem)
                 : fmt::format("software only, which is the CPU in disguise: {}", text);
        if (has_gpu()) return fail("vulkan", what, command);
        if (software) return warn("vulkan", what);
        pass("vulkan", what);
    }

    void matrices() {
        const Gpu* gpu = m_.primary_gpu();
        if (gpu == nullptr || gpu->vendor_id != 0x1002) return;
        std::optional<Version> mesa = m_.system.mesa_package;
        for (const VulkanDevice& device : m_.vulkan.devices) {
            if (!is_hardware(device)) continue;
            if (device.cooperative_matrix)
                return pass("matrices", "cooperative matrices (VK_KHR_cooperative_matrix)");
            if (device.driver_info.starts_with("Mesa")) mesa = parse_version(device.driver_info);
        }
        if (!mesa)
            return pass("matrices",
                        "not known: neither Vulkan nor the package list tells Mesa's "
                        "version");
        if (*mesa < kMatrixMesa)
            return warn("matrices",
                        fmt::format("Mesa {}.{} is too old for cooperative matrices (23.3 has "
                                    "them): prompts are read several times slower",
                                    mesa->major, mesa->minor),
                        new_mesa(m_.system));
        if (m_.vulkan.asked && !m_.vulkan.devices.empty())
            return pass("matrices",
                        fmt::format("none on this GPU (Mesa {}.{})", mesa->major, mesa->minor));
        pass("matrices",
             fmt::format("Mesa {}.{} has cooperative matrices", mesa->major, mesa->minor));
    }

    void groups() {
        std::vector<std::string> closed;
        for (const Gpu& gpu : m_.gpus)
            if (!gpu.render_node.empty() && !gpu.accessible) closed.push_back(gpu.render_node);
        for (const Npu& npu : m_.npus)
            if (!npu.node.empty() && !npu.node_accessible) closed.push_back(npu.node);
        if (closed.empty()) {
            const bool any = !m_.gpus.empty() || !m_.npus.empty();
            return pass("groups", any ? "GPU and NPU may be opened" : "no device needs any");
        }
        const std::string groups = m_.user.device_groups.empty()
                                       ? "render,video"
                                       : fmt::format("{}", fmt::join(m_.user.device_groups, ","));
        fail("groups",
             fmt::format("this user may not open {} (log in again afterwards)",
                         fmt::join(closed, " and ")),
             fmt::format("sudo usermod -aG {} \"$USER\"", groups));
    }

    void npu() {
        if (m_.npus.empty()) return pass("npu", "none found");
        const Npu& npu = m_.npus.front();
        const char* what = npu.generation == NpuGeneration::xdna1   ? "XDNA1"
                           : npu.generation == NpuGeneration::xdna2 ? "XDNA2"
                                                                    : "newer than XDNA2";
        std::string text = fmt::format(
            "{} (1022:{:04x}, {})", npu.board.empty() ? "AMD NPU" : npu.board, npu.device_id, what);
        if (npu.generation == NpuGeneration::newer)
            return warn("npu", text + ": not one that this program drives");
        if (npu.driver.empty() && m_.system.kernel < kNpuKernel)
            return fail("npu",
                        fmt::format("{}: no driver in Linux {}.{}", text, m_.system.kernel.major,
                                    m_.system.kernel.minor),
                        new_kernel(m_.system));
        if (command_line_turns_off_iommu(m_.system))
            return fail("npu",
                        text +
                            ": its driver needs the IOMMU, which is off (restart "
                            "afterwards)",
                        "sudo sed -i -E 's/ ?(amd_)?iommu=off//g' /etc/default/grub && sudo "
                        "update-grub");
        if (npu.driver.empty())
            return fail("npu", text + ": no driver is bound to it", "sudo modprobe amdxdna");
        if (npu.node.empty())
            return fail(
                "npu",
                fmt::format("{}: {} made no device node; its log says why", text, npu.driver),
                "sudo dmesg | grep -i -e amdxdna -e npu");
        if (!npu.node_accessible)
            return fail("npu", fmt::format("{}: this user may not open {}", text, npu.node),
                        "sudo usermod -aG render \"$USER\"");
        if (!npu.firmware.empty()) text += ", firmware " + npu.firmware;
        if (npu.answers) text += ", driver interface " + npu.answers->driver_version;
        if (m_.is_this_machine && !npu.answers)
            return fail("npu", text + ": its driver does not answer",
                        "sudo dmesg | grep -i -e amdxdna -e npu");
        pass("npu", text);
    }

    void memlock() {
        const auto limit = m_.user.memlock_bytes;
        if (!limit) return pass("memlock", "not known");
        if (m_.user.root) return pass("memlock", "root may lock all memory");
        const std::string text = *limit == kUnlimited
                                     ? "unlimited"
                                     : fmt::format("at most {:.0f} MiB of locked memory",
                                                   static_cast<double>(*limit) / double{kMiB});
        const std::string command =
            "printf '* soft memlock unlimited\\n* hard memlock unlimited\\n' | sudo tee "
            "/etc/security/limits.d/99-unicorn-memlock.conf";
        if (m_.npus.empty() || *limit == kUnlimited) return pass("memlock", text);
        if (*limit <= kNpuHeap)
            return fail("memlock",
                        text +
                            ": the NPU's driver needs more than 64 MiB (log in again "
                            "afterwards)",
                        command);
        warn("memlock", text + ": bounds what the NPU can hold (log in again afterwards)", command);
    }

    void power() {
        const System& system = m_.system;
        const Cpu& cpu = m_.cpu;
        if (system.on_battery.value_or(false))
            return warn("power", "on battery: the firmware holds the clocks down");
        constexpr std::array kSlow{"low-power", "quiet", "cool"};
        if (std::find(kSlow.begin(), kSlow.end(), system.power_profile) != kSlow.end())
            return warn("power", fmt::format("power profile {}", system.power_profile),
                        "powerprofilesctl set performance");
        if (cpu.energy_preference == "power")
            return warn("power", "the CPU is set to save energy", tune_command("--apply"));
        const bool own_governor =
            cpu.scaling_driver == "amd-pstate-epp" || cpu.scaling_driver == "intel_pstate";
        if (cpu.governor == "powersave" && !own_governor)
            return warn("power",
                        fmt::format("governor powersave ({}): the CPU stays at its lowest "
                                    "clock",
                                    cpu.scaling_driver),
                        tune_command("--apply"));
        std::vector<std::string> parts;
        if (!system.power_profile.empty()) parts.push_back("profile " + system.power_profile);
        if (!cpu.governor.empty()) parts.push_back("governor " + cpu.governor);
        pass("power", parts.empty() ? "nothing here that could be set"
                                    : fmt::format("{}", fmt::join(parts, ", ")));
    }

    void disk() {
        const Disk& disk = m_.disk;
        if (disk.device.empty() && disk.file_system.empty()) return pass("disk", "not known");
        std::string text =
            fmt::format("{}{}{}", disk.device, disk.device.empty() ? "" : ", ", disk.file_system);
        if (disk.available_bytes)
            text +=
                fmt::format(", {} free", human_bytes(static_cast<double>(*disk.available_bytes)));
        // Virtual disks call themselves rotating whatever they lie on; no rotating disk is this
        // fast.
        const bool is_virtual = disk.device.starts_with("vd") || disk.device.starts_with("xvd");
        if (disk.rotational.value_or(false) && !is_virtual &&
            m_.measured.disk_gb_s.value_or(0) < 0.5)
            return warn("disk", text + ": a rotating disk loads models slowly");
        if (disk.direct_io == false)
            return warn("disk", text + ": no reads past the page cache (O_DIRECT) there");
        pass("disk", text);
    }

    void paging() {
        const Memory& memory = m_.memory;
        if (memory.transparent_huge_pages == "never")
            return warn("paging", "transparent huge pages are off: memory is read more slowly",
                        tune_command("--apply"));
        std::vector<std::string> parts;
        if (!memory.transparent_huge_pages.empty())
            parts.push_back("huge pages " + memory.transparent_huge_pages);
        if (memory.swappiness) parts.push_back(fmt::format("swappiness {}", *memory.swappiness));
        pass("paging", parts.empty() ? "not known" : fmt::format("{}", fmt::join(parts, ", ")));
    }

    void bandwidth() {
        const auto shown = [](std::optional<double> gb_s) {
            return gb_s ? fmt::format("{:.1f} GB/s", *gb_s) : "not measured";
        };
        std::string text = fmt::format("memory {}, disk {}", shown(m_.measured.host_gb_s),
                                       shown(m_.measured.disk_gb_s));
        if (has_gpu()) {
            text += fmt::format(", by the GPU: vram {}, gtt {}", shown(m_.measured.vram_gb_s),
                                shown(m_.measured.gtt_gb_s));
        }
        if (m_.ready_npu() != nullptr) text += ", by the NPU: not measured";
        const double peak = memory_bus(m_.memory.modules).peak_gb_s();
        // Half: what one channel of two gives, and less than any CPU here reads on all cores.
        if (m_.measured.host_gb_s && peak > 0 && *m_.measured.host_gb_s < peak / 2 && !m_.cpu.quota)
            return warn("bandwidth",
                        fmt::format("{}: less than half of the bus's {:.1f} GB/s", text, peak));
        pass("bandwidth", text);
    }

    const Machine& m_;
    const DoctorOptions& options_;
    std::vector<Check> checks_;
};

}  // namespace

std::string_view name(Verdict verdict) {
    switch (verdict) {
        case Verdict::pass: return "pass";
        case Verdict::warn: return "warn";
        case Verdict::fail: return "fail";
    }
    return "unknown";
}

std::vector<Check> examine(const Machine& machine, const DoctorOptions& options) {
    return Doctor(machine, options).run();
}

Verdict verdict(const std::vector<Check>& checks) {
    Verdict worst = Verdict::pass;
    for (const Check& check : checks) worst = std::max(worst, check.verdict);
    return worst;
}

std::string ttm_options(std::uint64_t bytes) {
    const std::uint64_t pages = bytes / 4096 + (bytes % 4096 != 0 ? 1 : 0);
    return fmt::format("options ttm pages_limit={} page_pool_size={}", pages, pages);
}

}  // namespace unicorn::machine
