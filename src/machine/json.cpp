#include "machine/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace unicorn::machine {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json or_null(const std::optional<T>& value) {
    return value ? Json(*value) : Json(nullptr);
}

Json bytes_or_null(const std::optional<std::uint64_t>& value) {
    return value && *value == kUnlimited ? Json("unlimited") : or_null(value);
}

std::string pci_id(std::uint32_t vendor, std::uint32_t device) {
    return fmt::format("{:04x}:{:04x}", vendor, device);
}

const char* name_of(plan::DeviceKind kind) {
    switch (kind) {
        case plan::DeviceKind::cpu: return "cpu";
        case plan::DeviceKind::gpu: return "gpu";
        case plan::DeviceKind::npu: return "npu";
    }
    return "unknown";
}

const char* name_of(VulkanType type) {
    switch (type) {
        case VulkanType::other: return "other";
        case VulkanType::integrated: return "integrated";
        case VulkanType::discrete: return "discrete";
        case VulkanType::virtual_gpu: return "virtual";
        case VulkanType::cpu: return "cpu";
    }
    return "other";
}

const char* name_of(NpuGeneration generation) {
    switch (generation) {
        case NpuGeneration::xdna1: return "xdna1";
        case NpuGeneration::xdna2: return "xdna2";
        case NpuGeneration::newer: return "newer";
    }
    return "newer";
}

Json to_json(const Memory& memory) {
    Json json;
    json["total_bytes"] = memory.total_bytes;
    json["available_bytes"] = memory.available_bytes;
    json["usable_bytes"] = memory.usable_bytes();
    json["swap_bytes"] = memory.swap_bytes;
    json["cgroup_limit_bytes"] = or_null(memory.cgroup_limit_bytes);
    json["ttm_pages_limit"] = or_null(memory.ttm_pages_limit);
    json["ttm_page_pool_size"] = or_null(memory.ttm_page_pool_size);
    json["transparent_huge_pages"] = memory.transparent_huge_pages;
    json["swappiness"] = or_null(memory.swappiness);
    json["vfs_cache_pressure"] = or_null(memory.vfs_cache_pressure);
    json["modules"] = Json::array();
    for (const MemoryModule& module : memory.modules)
        json["modules"].push_back({{"bytes", module.bytes},
                                   {"type", module.type},
                                   {"mt_s", module.mt_s},
                                   {"data_bits", module.data_bits},
                                   {"locator", module.locator},
                                   {"bank", module.bank}});
    const MemoryBus bus = memory_bus(memory.modules);
    json["channels"] = memory.modules.empty() ? Json(nullptr) : Json(bus.n_channels);
    json["peak_gb_s"] = bus.peak_gb_s() > 0 ? Json(bus.peak_gb_s()) : Json(nullptr);
    return json;
}

Json to_json(const Gpu& gpu) {
    return {{"name", gpu.name},
            {"pci_address", gpu.pci_address},
            {"pci_id", pci_id(gpu.vendor_id, gpu.device_id)},
            {"driver", gpu.driver},
            {"integrated", gpu.integrated},
            {"render_node", gpu.render_node},
            {"accessible", gpu.accessible},
            {"vram_total_bytes", or_null(gpu.vram_total_bytes)},
            {"vram_used_bytes", or_null(gpu.vram_used_bytes)},
            {"gtt_total_bytes", or_null(gpu.gtt_total_bytes)},
            {"gtt_used_bytes", or_null(gpu.gtt_used_bytes)},
            {"performance_level", gpu.performance_level}};
}

Json to_json(const Npu& npu) {
    Json json{{"name", npu.board},
              {"generation", name_of(npu.generation)},
              {"pci_address", npu.pci_address},
              {"pci_id", pci_id(0x1022, npu.device_id)},
              {"revision", npu.revision},
              {"driver", npu.driver},
              {"node", npu.node},
              {"accessible", npu.node_accessible},
              {"firmware", npu.firmware}};
    json["driver_version"] = npu.answers ? Json(npu.answers->driver_version) : Json(nullptr);
    json["power_mode"] = npu.answers && npu.answers->power_mode
                             ? Json(std::string(name(*npu.answers->power_mode)))
                             : Json(nullptr);
    return json;
}

Json to_json(const VulkanFacts& vulkan) {
    Json json{{"loader", vulkan.loader_installed},
              {"asked", vulkan.asked},
              {"drivers", vulkan.drivers},
              {"problem", vulkan.problem},
              {"devices", Json::array()}};
    for (const VulkanDevice& device : vulkan.devices) {
        Json heaps = Json::array();
        for (const VulkanHeap& heap : device.heaps)
            heaps.push_back({{"bytes", heap.bytes},
                             {"device_local", heap.device_local},
                             {"budget_bytes", or_null(heap.budget_bytes)}});
        json["devices"].push_back({{"name", device.name},
                                   {"type", name_of(device.type)},
                                   {"pci_id", pci_id(device.vendor_id, device.device_id)},
                                   {"pci_address", device.pci_address},
                                   {"api_version", device.api_version},
                                   {"driver", device.driver_name},
                                   {"driver_info", device.driver_info},
                                   {"cooperative_matrix", device.cooperative_matrix},
                                   {"external_memory_host", device.external_memory_host},
                                   {"dma_buf", device.dma_buf},
                                   {"heaps", std::move(heaps)}});
    }
    return json;
}

}  // namespace

Json to_json(const Machine& machine) {
    Json json;
    const System& system = machine.system;
    json["system"] = {{"kernel", system.kernel.text},
                      {"os", system.os_name},
                      {"product", system.product},
                      {"power_profile", system.power_profile},
                      {"on_battery", or_null(system.on_battery)},
                      {"iommu", system.iommu}};
    json["system"]["mesa"] = system.mesa_package ? Json(system.mesa_package->text) : Json(nullptr);
    const Cpu& cpu = machine.cpu;
    json["cpu"] = {{"model", cpu.model},       {"cores", cpu.n_cores},
                   {"threads", cpu.n_logical}, {"quota", or_null(cpu.quota)},
                   {"isa", cpu.isa},           {"governor", cpu.governor}};
    json["memory"] = to_json(machine.memory);
    json["gpus"] = Json::array();
    for (const Gpu& gpu : machine.gpus) json["gpus"].push_back(to_json(gpu));
    json["npus"] = Json::array();
    for (const Npu& npu : machine.npus) json["npus"].push_back(to_json(npu));
    json["vulkan"] = to_json(machine.vulkan);
    const Disk& disk = machine.disk;
    json["disk"] = {{"path", disk.path},
                    {"device", disk.device},
                    {"file_system", disk.file_system},
                    {"rotational", or_null(disk.rotational)},
                    {"total_bytes", or_null(disk.total_bytes)},
                    {"available_bytes", or_null(disk.available_bytes)},
                    {"direct_io", or_null(disk.direct_io)}};
    json["user"] = {{"root", machine.user.root},
                    {"groups", machine.user.groups},
                    {"memlock_bytes", bytes_or_null(machine.user.memlock_bytes)}};
    json["measured"] = {{"host_gb_s", or_null(machine.measured.host_gb_s)},
                        {"vram_gb_s", or_null(machine.measured.vram_gb_s)},
                        {"gtt_gb_s", or_null(machine.measured.gtt_gb_s)},
                        {"disk_gb_s", or_null(machine.measured.disk_gb_s)}};
    return json;
}

Json to_json(const plan::HardwareProfile& profile) {
    Json json{{"name", profile.name}};
    json["pools"] = Json::array();
    for (const plan::Pool& pool : profile.pools)
        json["pools"].push_back({{"name", pool.name},
                                 {"capacity_bytes", pool.capacity_bytes},
                                 {"available_bytes", pool.available_bytes}});
    json["tiers"] = Json::array();
    for (const plan::TierProfile& tier : profile.tiers)
        json["tiers"].push_back({{"name", std::string(memory::name(tier.tier))},
                                 {"pool", tier.pool},
                                 {"capacity_bytes", tier.capacity_bytes},
                                 {"read_gb_s", tier.read_gb_s},
                                 {"measured", tier.measured}});
    json["devices"] = Json::array();
    for (const plan::DeviceProfile& device : profile.devices) {
        Json tiers = Json::array();
        for (const memory::Tier tier : device.tiers)
            tiers.push_back(std::string(memory::name(tier)));
        json["devices"].push_back({{"kind", name_of(device.kind)},
                                   {"name", device.name},
                                   {"integrated", device.integrated},
                                   {"software", device.software},
                                   {"int8_tops", device.int8_tops},
                                   {"tiers", std::move(tiers)}});
    }
    return json;
}

Json to_json(const std::vector<Check>& checks) {
    Json json = Json::array();
    for (const Check& check : checks) {
        Json row{{"name", check.name},
                 {"status", std::string(name(check.verdict))},
                 {"detail", check.detail}};
        row["command"] = check.command.empty() ? Json(nullptr) : Json(check.command);
        json.push_back(std::move(row));
    }
    return json;
}

}  // namespace unicorn::machine
