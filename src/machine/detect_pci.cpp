// GPUs and NPUs, found among the PCI devices.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "machine/parts.h"

namespace unicorn::machine {
namespace {

constexpr std::uint32_t kAmd = 0x1022, kAti = 0x1002, kIntel = 0x8086, kNvidia = 0x10DE;
const std::string kDevices = "/sys/bus/pci/devices";

struct KnownGpu {
    std::uint32_t device_id;
    const char* name;
};

// AMD's integrated GPUs, by the names that people know them by (pci.ids, libdrm's amdgpu.ids).
constexpr KnownGpu kApus[] = {
    {0x13C0, "AMD Radeon 610M"},     {0x1435, "AMD Radeon Graphics"}, {0x1506, "AMD Radeon 610M"},
    {0x150E, "AMD Radeon 890M"},     {0x1586, "AMD Radeon 8060S"},    {0x15BF, "AMD Radeon 780M"},
    {0x15C8, "AMD Radeon 740M"},     {0x15D8, "AMD Radeon Vega"},     {0x15DD, "AMD Radeon Vega"},
    {0x15E7, "AMD Radeon Vega"},     {0x1636, "AMD Radeon Vega"},     {0x1638, "AMD Radeon Vega"},
    {0x163F, "AMD Radeon Graphics"}, {0x164C, "AMD Radeon Vega"},     {0x164D, "AMD Radeon 680M"},
    {0x164E, "AMD Radeon 610M"},     {0x164F, "AMD Radeon 780M"},     {0x1681, "AMD Radeon 680M"},
    {0x1900, "AMD Radeon 780M"},     {0x1901, "AMD Radeon 780M"},     {0x1114, "AMD Radeon 860M"},
};

const KnownGpu* known_apu(std::uint32_t vendor, std::uint32_t device) {
    if (vendor != kAti) return nullptr;
    const auto found = std::find_if(std::begin(kApus), std::end(kApus),
                                    [=](const KnownGpu& gpu) { return gpu.device_id == device; });
    return found == std::end(kApus) ? nullptr : found;
}

/// amdgpu's sensors name the north bridge's voltage on APUs only.
bool has_apu_sensor(const Root& root, const std::string& device) {
    for (const std::string& name : root.names(device + "/hwmon"))
        if (root.text(device + "/hwmon/" + name + "/in1_label") == "vddnb") return true;
    return false;
}

bool is_integrated(const Root& root, const std::string& device, const Gpu& gpu) {
    if (known_apu(gpu.vendor_id, gpu.device_id) != nullptr) return true;
    if (gpu.driver == "amdgpu") return has_apu_sensor(root, device);
    return gpu.vendor_id == kIntel && gpu.pci_address.ends_with(":00:02.0");
}

std::string gpu_name(const Gpu& gpu) {
    if (const KnownGpu* known = known_apu(gpu.vendor_id, gpu.device_id)) return known->name;
    const char* vendor = gpu.vendor_id == kAti      ? "AMD "
                         : gpu.vendor_id == kNvidia ? "NVIDIA "
                         : gpu.vendor_id == kIntel  ? "Intel "
                                                    : "";
    return fmt::format("{}GPU {:04x}:{:04x}", vendor, gpu.vendor_id, gpu.device_id);
}

std::uint32_t id_of(const Root& root, const std::string& path) {
    return static_cast<std::uint32_t>(root.number(path).value_or(0));
}

/// Whether this process may open a device node. Below another root the nodes are plain files, whose
/// permissions say nothing: there the groups decide, as udev's rules have them.
bool may_use(const Root& root, const User& user, const std::string& node) {
    if (root.is_this_machine()) return root.is_accessible(node);
    return root.exists(node) && (user.root || std::find(user.groups.begin(), user.groups.end(),
                                                        "render") != user.groups.end());
}

/// What a discrete GPU's link carries at best: "16.0 GT/s PCIe" and 16 lanes are 31.5 GB/s.
double link_gb_s(const Root& root, const std::string& device) {
    const std::string speed = root.text(device + "/max_link_speed");
    const auto parts = words(speed);
    const auto lanes = root.number(device + "/max_link_width");
    double gt_s = 0;
    if (parts.empty() || !lanes || *lanes > 32) return 0;
    const std::string_view text = parts[0];
    if (std::from_chars(text.data(), text.data() + text.size(), gt_s).ec != std::errc()) return 0;
    if (!(gt_s > 0 && gt_s < 1000)) return 0;
    const double share = gt_s < 8 ? 8.0 / 10 : 128.0 / 130;  // of the line code
    return gt_s * static_cast<double>(*lanes) * share / 8;
}

}  // namespace

std::vector<Gpu> detect_gpus(const Root& root, const User& user) {
    std::vector<Gpu> gpus;
    for (const std::string& address : root.names(kDevices)) {
        const std::string device = kDevices + "/" + address;
        constexpr std::uint64_t kDisplay = 0x03;  // VGA, 3D and other display controllers
        if (root.number(device + "/class").value_or(0) >> 16 != kDisplay) continue;
        Gpu gpu;
        gpu.pci_address = address;
        gpu.vendor_id = id_of(root, device + "/vendor");
        gpu.device_id = id_of(root, device + "/device");
        // The framebuffer of a server's or a virtual machine's console computes nothing.
        if (gpu.vendor_id != kAti && gpu.vendor_id != kIntel && gpu.vendor_id != kNvidia) continue;
        gpu.driver = value_of(root.text(device + "/uevent"), "DRIVER");
        for (const std::string& node : root.names(device + "/drm")) {
            if (node.starts_with("card") && gpu.card_node.empty())
                gpu.card_node = "/dev/dri/" + node;
            if (node.starts_with("renderD") && gpu.render_node.empty())
                gpu.render_node = "/dev/dri/" + node;
        }
        gpu.accessible = !gpu.render_node.empty() && may_use(root, user, gpu.render_node);
        gpu.integrated = is_integrated(root, device, gpu);
        gpu.name = gpu_name(gpu);
        if (!gpu.integrated) gpu.link_gb_s = link_gb_s(root, device);
        gpu.vram_total_bytes = root.number(device + "/mem_info_vram_total");
        gpu.vram_used_bytes = root.number(device + "/mem_info_vram_used");
        gpu.gtt_total_bytes = root.number(device + "/mem_info_gtt_total");
        gpu.gtt_used_bytes = root.number(device + "/mem_info_gtt_used");
        gpu.performance_level = root.text(device + "/power_dpm_force_performance_level");
        gpus.push_back(std::move(gpu));
    }
    return gpus;
}

std::vector<Npu> detect_npus(const Root& root, const User& user) {
    std::vector<Npu> npus;
    for (const std::string& address : root.names(kDevices)) {
        const std::string device = kDevices + "/" + address;
        if (id_of(root, device + "/vendor") != kAmd) continue;
        Npu npu;
        npu.pci_address = address;
        npu.device_id = id_of(root, device + "/device");
        switch (npu.device_id) {
            case 0x1502: npu.generation = NpuGeneration::xdna1; break;
            case 0x17F0: npu.generation = NpuGeneration::xdna2; break;
            case 0x17F1:
            case 0x17F2:
            case 0x17F3:
            case 0x1B0A:
            case 0x1B0B:
            case 0x1B0C: npu.generation = NpuGeneration::newer; break;
            default: continue;
        }
        npu.revision = id_of(root, device + "/revision");
        npu.driver = value_of(root.text(device + "/uevent"), "DRIVER");
        for (const std::string& node : root.names(device + "/accel"))
            if (node.starts_with("accel") && npu.node.empty()) npu.node = "/dev/accel/" + node;
        npu.node_accessible = !npu.node.empty() && may_use(root, user, npu.node);
        npu.board = root.text(device + "/vbnv");
        npu.firmware = root.text(device + "/fw_version");
        npus.push_back(std::move(npu));
    }
    return npus;
}

}  // namespace unicorn::machine
