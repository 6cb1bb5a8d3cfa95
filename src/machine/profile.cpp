#include "machine/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/cache_folder.h"
#include "machine/measure.h"

namespace unicorn::machine {
namespace {

using memory::Tier;

/// The share of a memory bus's peak that reading reaches: 73 of 89.6 GB/s on a Radeon 780M, 215 of
/// 256 on a Strix Halo, both from public llama.cpp runs.
constexpr double kReachableShare = 0.8;
/// What the NPU's own DMA reads (GB/s): XDNA1 as its channels and clock allow, XDNA2 as
/// FastFlowLM's documentation has it. Nobody has published a measurement on XDNA1.
constexpr double kXdna1GbS = 20, kXdna2GbS = 60;
/// As the vendor counts them.
constexpr double kXdna1Tops = 10, kXdna2Tops = 50;

/// Hardware threads that a process may use.
std::uint64_t threads(const Cpu& cpu) {
    const auto n = static_cast<double>(cpu.n_logical);
    return static_cast<std::uint64_t>(
        std::max(1.0, std::floor(std::min(n, cpu.quota.value_or(n)))));
}

/// "AMD Ryzen 9 8945HS w/ Radeon 780M Graphics" and 96 -> "ryzen-9-8945hs-96gb".
std::string profile_name(const Machine& machine) {
    std::string model = machine.cpu.model.substr(0, machine.cpu.model.find(" w/"));
    std::string slug;
    for (const char c : model) {
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            slug += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        else if (!slug.empty() && slug.back() != '-')
            slug += '-';
    }
    for (const char* maker : {"amd-", "intel-r-", "intel-"})
        if (slug.starts_with(maker)) slug.erase(0, std::string_view(maker).size());
    while (slug.ends_with('-')) slug.pop_back();
    std::uint64_t bytes = 0;
    for (const MemoryModule& module : machine.memory.modules) bytes += module.bytes;
    if (bytes == 0) {
        bytes = machine.memory.total_bytes;
        for (const Gpu& gpu : machine.gpus)
            if (gpu.integrated) bytes += gpu.vram_total_bytes.value_or(0);
    }
    const double gib = static_cast<double>(bytes) / (1 << 30);
    return fmt::format("{}-{:.0f}gb", slug.empty() ? "machine" : slug, std::max(1.0, gib));
}

plan::Pool pool(std::string name, std::uint64_t total, std::uint64_t used) {
    return {.name = std::move(name),
            .capacity_bytes = total,
            .available_bytes = total - std::min(used, total)};
}

class Builder {
public:
    explicit Builder(const Machine& machine) : machine_(machine) {
        const double peak = memory_bus(machine.memory.modules).peak_gb_s();
        dram_estimate_ = peak > 0 ? peak * kReachableShare : machine.measured.host_gb_s.value_or(0);
    }

    plan::HardwareProfile build() {
        profile_.name = profile_name(machine_);
        const Memory& memory = machine_.memory;
        profile_.pools.push_back(
            {"system", memory.total_bytes, std::min(memory.usable_bytes(), memory.total_bytes)});
        const std::uint64_t host_limit =
            std::min(memory.total_bytes, memory.cgroup_limit_bytes.value_or(kUnlimited));
        add_tier(Tier::host, "system", host_limit, dram_estimate_, machine_.measured.host_gb_s);
        profile_.devices.push_back({.kind = plan::DeviceKind::cpu,
                                    .name = machine_.cpu.model,
                                    .threads = threads(machine_.cpu),
                                    .tiers = {Tier::host}});
        add_gpu();
        add_npu();
        add_disk();
        return std::move(profile_);
    }

private:
    void add_tier(Tier tier, std::string pool_name, std::uint64_t capacity, double estimate,
                  std::optional<double> measured = {}) {
        profile_.tiers.push_back({.tier = tier,
                                  .pool = std::move(pool_name),
                                  .capacity_bytes = capacity,
                                  .read_gb_s = measured.value_or(estimate),
                                  .measured = measured.has_value()});
    }

    /// What is left of the GPU's share of the system's memory: other programs' part is gone.
    std::uint64_t gtt_left(const Gpu& gpu) const {
        std::uint64_t total =
            std::min(gpu.gtt_total_bytes.value_or(0), machine_.memory.total_bytes);
        const auto pages = machine_.memory.ttm_pages_limit;
        if (pages && *pages < (kUnlimited >> 12)) total = std::min(total, *pages << 12);
        return total - std::min(gpu.gtt_used_bytes.value_or(0), total);
    }

    void add_gpu() {
        const Gpu* gpu = machine_.primary_gpu();
        if (gpu == nullptr || !gpu->accessible) {
            add_software_gpu();
            return;
        }
        plan::DeviceProfile device{.kind = plan::DeviceKind::gpu,
                                   .name = gpu->name,
                                   .integrated = gpu->integrated,
                                   .tiers = {}};
        if (gpu->vram_total_bytes.value_or(0) > 0) {
            const std::string name = gpu->integrated ? "carveout" : "gpu0";
            profile_.pools.push_back(
                pool(name, *gpu->vram_total_bytes, gpu->vram_used_bytes.value_or(0)));
            // The same DIMMs as the host's on an APU; nothing to go by on a discrete GPU.
            add_tier(Tier::vram, name, *gpu->vram_total_bytes, gpu->integrated ? dram_estimate_ : 0,
                     machine_.measured.vram_gb_s);
            device.tiers.push_back(Tier::vram);
        }
        if (const std::uint64_t bytes = gtt_left(*gpu); bytes > 0) {
            add_tier(Tier::gtt, "system", bytes,
                     gpu->integrated ? dram_estimate_ : gpu->link_gb_s * kReachableShare,
                     machine_.measured.gtt_gb_s);
            device.tiers.push_back(Tier::gtt);
        }
        profile_.devices.push_back(std::move(device));
    }

    void add_software_gpu() {
        for (const VulkanDevice& vulkan : machine_.vulkan.devices) {
            if (vulkan.type != VulkanType::cpu) continue;
            profile_.devices.push_back({.kind = plan::DeviceKind::gpu,
                                        .name = vulkan.name,
                                        .software = true,
                                        .tiers = {Tier::host}});
            return;
        }
    }

    void add_npu() {
        const Npu* npu = machine_.ready_npu();
        if (npu == nullptr) return;
        const bool xdna1 = npu->generation == NpuGeneration::xdna1;
        // Its buffers are locked pages, so the process's limit for those is the tier's.
        const std::uint64_t limit =
            machine_.user.root ? kUnlimited : machine_.user.memlock_bytes.value_or(kUnlimited);
        if (limit == 0) return;
        add_tier(Tier::npu, "system", std::min(limit, machine_.memory.total_bytes),
                 xdna1 ? kXdna1GbS : kXdna2GbS);
        profile_.devices.push_back({.kind = plan::DeviceKind::npu,
                                    .name = npu->board.empty() ? "AMD NPU" : npu->board,
                                    .integrated = true,
                                    .int8_tops = xdna1 ? kXdna1Tops : kXdna2Tops,
                                    .tiers = {Tier::npu}});
    }

    void add_disk() {
        if (machine_.disk.total_bytes.value_or(0) == 0) return;
        add_tier(Tier::disk, "", *machine_.disk.total_bytes, 0, machine_.measured.disk_gb_s);
    }

    const Machine& machine_;
    double dram_estimate_ = 0;
    plan::HardwareProfile profile_;
};

}  // namespace

plan::HardwareProfile to_profile(const Machine& machine) { return Builder(machine).build(); }

Result<Machine> look_at_this_machine(const std::string& path) {
    auto machine = detect({.path = path, .vulkan = false});
    if (!machine) return machine;
    // NVIDIA's driver tells sysfs nothing of its memory.
    if (const Gpu* gpu = machine->primary_gpu(); gpu != nullptr && gpu->driver == "nvidia") {
        machine = detect({.path = path, .vulkan = true});
        if (!machine) return machine;
    }
    if (auto known = load_measured(cache_folder(), *machine)) machine->measured = std::move(*known);
    machine->measured.disk_device = machine->disk.device;
    return machine;
}

}  // namespace unicorn::machine
