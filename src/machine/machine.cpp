#include "machine/machine.h"

#include <algorithm>

#include "machine/parts.h"

namespace unicorn::machine {
namespace {

/// What Vulkan knows better: the GPU's name, and whether it is integrated where the ids do not say.
void name_gpus(const VulkanFacts& vulkan, std::vector<Gpu>& gpus) {
    for (Gpu& gpu : gpus) {
        for (const VulkanDevice& device : vulkan.devices) {
            const bool same = device.pci_address.empty() ? device.vendor_id == gpu.vendor_id &&
                                                               device.device_id == gpu.device_id
                                                         : device.pci_address == gpu.pci_address;
            if (!same) continue;
            gpu.name = device.name;
            gpu.accessible = true;
            gpu.integrated = device.type == VulkanType::integrated;
            // Drivers that say nothing in sysfs (NVIDIA's) tell their memory here.
            for (const VulkanHeap& heap : device.heaps) {
                if (!heap.device_local || gpu.driver == "amdgpu" || gpu.integrated) continue;
                if (gpu.vram_total_bytes && *gpu.vram_total_bytes >= heap.bytes) continue;
                gpu.vram_total_bytes = heap.bytes;
                gpu.vram_used_bytes =
                    heap.bytes - std::min(heap.budget_bytes.value_or(heap.bytes), heap.bytes);
            }
        }
    }
}

}  // namespace

const Gpu* Machine::primary_gpu() const {
    const Gpu* best = nullptr;
    const auto rank = [](const Gpu& gpu) {
        return std::pair(!gpu.integrated, gpu.vram_total_bytes.value_or(0));
    };
    for (const Gpu& gpu : gpus)
        if (!gpu.driver.empty() && (best == nullptr || rank(gpu) > rank(*best))) best = &gpu;
    return best;
}

const Npu* Machine::ready_npu() const {
    for (const Npu& npu : npus)
        if (npu.driver == "amdxdna" && npu.node_accessible &&
            npu.generation != NpuGeneration::newer)
            return &npu;
    return nullptr;
}

Result<Machine> detect(const DetectOptions& options) {
    std::error_code error;
    if (!options.sysfs_root.empty() && !std::filesystem::is_directory(options.sysfs_root, error))
        return fail(ErrorCode::not_found, "{}: there is no such folder", options.sysfs_root);
    std::string root_path = options.sysfs_root;
    while (root_path.ends_with('/')) root_path.pop_back();  // "/" is this machine
    const Root root(root_path);

    Machine machine;
    machine.is_this_machine = root.is_this_machine();
    auto memory = detect_memory(root);
    if (!memory) return forward(memory);
    machine.memory = std::move(*memory);
    machine.system = detect_system(root);
    machine.cpu = detect_cpu(root, root_path);
    machine.user = detect_user(root);
    machine.gpus = detect_gpus(root, machine.user);
    machine.npus = detect_npus(root, machine.user);
    machine.disk = detect_disk(root, options.path);
    machine.vulkan = installed_vulkan(root);
    if (machine.is_this_machine && options.vulkan) {
        auto drivers = std::move(machine.vulkan.drivers);
        machine.vulkan = probe_vulkan();
        machine.vulkan.drivers = std::move(drivers);
        name_gpus(machine.vulkan, machine.gpus);
    }

    AmdxdnaDriver amdxdna;
    NpuDriver* driver = options.npu_driver;
    if (driver == nullptr && machine.is_this_machine) driver = &amdxdna;
    for (Npu& npu : machine.npus) {
        if (driver == nullptr || npu.driver != "amdxdna" || !npu.node_accessible) continue;
        auto answers = driver->query(root.at(npu.node).string());
        if (!answers) continue;  // what sysfs told stands
        if (!answers->firmware.empty()) npu.firmware = answers->firmware;
        npu.answers = std::move(*answers);
    }
    return machine;
}

}  // namespace unicorn::machine
