#include "machine/doctor.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "machine/testing.h"

namespace unicorn::machine {
namespace {

using testing::fixture_machine;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20, kGiB = std::uint64_t{1} << 30;

Check check(const std::vector<Check>& checks, const std::string& name) {
    const auto found =
        std::find_if(checks.begin(), checks.end(), [&](const Check& c) { return c.name == name; });
    if (found != checks.end()) return *found;
    ADD_FAILURE() << "no check " << name;
    return {};
}

Check check(const Machine& machine, const std::string& name, const DoctorOptions& options = {}) {
    return check(examine(machine, options), name);
}

std::string not_passed(const std::vector<Check>& checks) {
    std::string names;
    for (const Check& c : checks)
        if (c.verdict != Verdict::pass)
            names += c.name + (c.verdict == Verdict::warn ? "? " : "! ");
    return names;
}

TEST(Doctor, TheTargetMachinePasses) {
    const auto checks = examine(fixture_machine("ryzen-8945hs-96gb"));
    EXPECT_EQ(not_passed(checks), "");
    EXPECT_EQ(verdict(checks), Verdict::pass);
    EXPECT_THAT(check(checks, "channels").detail, HasSubstr("2 channels, 5600 MT/s, 89.6 GB/s"));
    EXPECT_THAT(check(checks, "gpu").detail, HasSubstr("16.0 GiB carved out"));
    EXPECT_THAT(check(checks, "npu").detail, HasSubstr("RyzenAI-npu1 (1022:1502, XDNA1)"));
    EXPECT_THAT(check(checks, "bandwidth").detail, HasSubstr("not measured"));
}

TEST(Doctor, AnOldSystemGetsACommandForEverythingThatIsInTheWay) {
    const auto checks = examine(fixture_machine("ryzen-8945hs-32gb"));
    EXPECT_EQ(not_passed(checks),
              "kernel! channels? vulkan! matrices? groups! npu! memlock! power? paging? ");
    EXPECT_EQ(verdict(checks), Verdict::fail);
    EXPECT_THAT(check(checks, "kernel").command, HasSubstr("trixie-backports linux-image-amd64"));
    EXPECT_THAT(check(checks, "channels").detail, HasSubstr("1 channel"));
    EXPECT_EQ(check(checks, "vulkan").command,
              "sudo apt update && sudo apt install libvulkan1 mesa-vulkan-drivers");
    EXPECT_THAT(check(checks, "matrices").detail, StartsWith("Mesa 22.3 is too old"));
    EXPECT_THAT(check(checks, "matrices").command, HasSubstr("-t bookworm-backports"));
    EXPECT_EQ(check(checks, "groups").command, "sudo usermod -aG render,video \"$USER\"");
    EXPECT_THAT(check(checks, "groups").detail, HasSubstr("/dev/dri/renderD129"));
    EXPECT_THAT(check(checks, "memlock").command,
                HasSubstr("* soft memlock unlimited\\n* hard memlock unlimited\\n"));
    EXPECT_THAT(check(checks, "memlock").command, HasSubstr("/etc/security/limits.d/"));
    EXPECT_EQ(check(checks, "power").command, "powerprofilesctl set performance");
    EXPECT_THAT(check(checks, "paging").command, HasSubstr("tune --apply"));
}

TEST(Doctor, TheOtherMachines) {
    EXPECT_EQ(not_passed(examine(fixture_machine("strix-halo-128gb"))), "");
    EXPECT_EQ(not_passed(examine(fixture_machine("desktop-7900xtx"))), "disk? ");
    EXPECT_EQ(not_passed(examine(fixture_machine("vm-4cpu"))), "");
}

TEST(Doctor, EveryFailureHasACommandAndEveryCheckIsOneLine) {
    for (const char* name : {"ryzen-8945hs-96gb", "ryzen-8945hs-32gb", "strix-halo-128gb",
                             "desktop-7900xtx", "vm-4cpu"}) {
        Machine m = fixture_machine(name);
        for (const bool broken : {false, true}) {
            if (broken) {
                m.user.groups.clear();
                for (Gpu& gpu : m.gpus) gpu.driver.clear();
                for (Npu& npu : m.npus) npu.driver.clear();
            }
            for (const Check& c :
                 examine(m, {.wanted_gtt_bytes = 1000 * kGiB, .model_bytes = 1000 * kGiB})) {
                EXPECT_FALSE(c.detail.empty());
                EXPECT_EQ(c.detail.find('\n'), std::string::npos);
                EXPECT_EQ(c.command.find('\n'), std::string::npos);
                EXPECT_TRUE(c.verdict != Verdict::fail || !c.command.empty()) << c.name;
            }
        }
    }
}

TEST(Doctor, AWantedGttSizeGivesTheExactModprobeLine) {
    EXPECT_EQ(ttm_options(48 * kGiB), "options ttm pages_limit=12582912 page_pool_size=12582912");
    EXPECT_EQ(ttm_options(1), "options ttm pages_limit=1 page_pool_size=1");
    const Machine m = fixture_machine("ryzen-8945hs-96gb");
    const Check more = check(m, "gtt", {.wanted_gtt_bytes = 48 * kGiB});
    EXPECT_EQ(more.verdict, Verdict::fail);
    EXPECT_EQ(more.command,
              "printf 'options ttm pages_limit=12582912 page_pool_size=12582912\\n' | sudo tee "
              "/etc/modprobe.d/unicorn-ttm.conf && sudo update-initramfs -u");
    EXPECT_EQ(check(m, "gtt", {.wanted_gtt_bytes = 40 * kGiB}).verdict, Verdict::pass);
    // Before Linux 6.5 amdgpu went by a parameter of its own.
    const Machine old = fixture_machine("ryzen-8945hs-32gb");
    ASSERT_EQ(old.system.kernel.minor, 1);
    EXPECT_THAT(check(old, "gtt", {.wanted_gtt_bytes = 24 * kGiB}).command,
                HasSubstr("page_pool_size=6291456\\noptions amdgpu gttsize=24576\\n'"));
    EXPECT_EQ(check(m, "gtt", {.wanted_gtt_bytes = 48 * kGiB}).command.find("gttsize"),
              std::string::npos);
    // More than there is: the most that leaves the system 4 GiB.
    const Check all = check(m, "gtt", {.wanted_gtt_bytes = 96 * kGiB});
    EXPECT_EQ(all.verdict, Verdict::fail);
    EXPECT_THAT(all.command, HasSubstr(ttm_options(m.memory.total_bytes - 4 * kGiB)));
    EXPECT_THAT(
        check(fixture_machine("strix-halo-128gb"), "gtt", {.wanted_gtt_bytes = 110 * kGiB}).command,
        HasSubstr("dracut"));
    EXPECT_EQ(check(fixture_machine("vm-4cpu"), "gtt", {.wanted_gtt_bytes = kGiB}).verdict,
              Verdict::warn);
}

TEST(Doctor, AModelLargerThanMemoryOrGttIsAWarning) {
    const Machine m = fixture_machine("ryzen-8945hs-96gb");
    EXPECT_EQ(check(m, "memory", {.model_bytes = 17 * kGiB}).verdict, Verdict::pass);
    EXPECT_EQ(check(m, "gtt", {.model_bytes = 17 * kGiB}).verdict, Verdict::pass);
    EXPECT_EQ(check(m, "gtt", {.model_bytes = 60 * kGiB}).verdict, Verdict::warn);
    EXPECT_EQ(check(m, "memory", {.model_bytes = 80 * kGiB}).verdict, Verdict::warn);
}

TEST(Doctor, TheNpusWaysToFail) {
    const Machine good = fixture_machine("ryzen-8945hs-96gb");
    Machine m = good;
    m.npus[0].driver.clear();
    EXPECT_EQ(check(m, "npu").command, "sudo modprobe amdxdna");
    EXPECT_EQ(check(m, "kernel").verdict, Verdict::pass);
    m.system.kernel = parse_version("6.12.9");
    EXPECT_THAT(check(m, "npu").detail, HasSubstr("no driver in Linux 6.12"));
    m = good;
    m.npus[0].node.clear();
    EXPECT_THAT(check(m, "npu").command, HasSubstr("dmesg"));
    m = good;
    m.npus[0].node_accessible = false;
    EXPECT_THAT(check(m, "npu").command, HasSubstr("usermod -aG render"));
    m = good;
    m.system.command_line = "quiet amd_iommu=off";
    EXPECT_THAT(check(m, "npu").detail, HasSubstr("IOMMU"));
    m = good;
    m.is_this_machine = true;  // where an answer was to be had
    EXPECT_THAT(check(m, "npu").detail, HasSubstr("does not answer"));
    m.npus[0].answers = NpuAnswers{.driver_version = "0.6"};
    EXPECT_THAT(check(m, "npu").detail, HasSubstr("driver interface 0.6"));
    m.npus[0].generation = NpuGeneration::newer;
    EXPECT_EQ(check(m, "npu").verdict, Verdict::warn);
}

TEST(Doctor, LockedMemoryMattersWhereThereIsAnNpu) {
    Machine m = fixture_machine("ryzen-8945hs-96gb");
    m.user.memlock_bytes = 64 * kMiB;
    EXPECT_EQ(check(m, "memlock").verdict, Verdict::fail);
    m.user.memlock_bytes = kGiB;
    EXPECT_EQ(check(m, "memlock").verdict, Verdict::warn);
    m.user.root = true;
    EXPECT_EQ(check(m, "memlock").verdict, Verdict::pass);
    m.user.root = false;
    m.npus.clear();
    EXPECT_EQ(check(m, "memlock").verdict, Verdict::pass);
}

TEST(Doctor, VulkanAsItsDriversAnswer) {
    Machine m = fixture_machine("ryzen-8945hs-96gb");
    m.vulkan.asked = true;
    m.vulkan.devices = {{.name = "llvmpipe (LLVM 19.1.7, 256 bits)",
                         .type = VulkanType::cpu,
                         .api_version = "1.4.305",
                         .driver_info = "Mesa 25.2.8"}};
    EXPECT_EQ(check(m, "vulkan").verdict, Verdict::fail);
    EXPECT_THAT(check(m, "vulkan").detail, HasSubstr("software only"));
    VulkanDevice radv{.name = "AMD Radeon 780M (RADV PHOENIX)",
                      .type = VulkanType::integrated,
                      .api_version = "1.4.305",
                      .driver_info = "Mesa 23.2.1"};
    m.vulkan.devices.push_back(radv);
    EXPECT_EQ(check(m, "vulkan").verdict, Verdict::pass);
    EXPECT_EQ(check(m, "matrices").verdict, Verdict::warn);  // the driver knows better than dpkg
    m.vulkan.devices[1].driver_info = "Mesa 25.2.8";
    EXPECT_THAT(check(m, "matrices").detail, HasSubstr("none on this GPU"));
    m.vulkan.devices[1].cooperative_matrix = true;
    EXPECT_THAT(check(m, "matrices").detail, HasSubstr("VK_KHR_cooperative_matrix"));
    m.vulkan.devices.clear();
    m.vulkan.problem = "no Vulkan driver works here";
    EXPECT_EQ(check(m, "vulkan").verdict, Verdict::fail);
    EXPECT_THAT(check(m, "vulkan").detail, HasSubstr("no Vulkan driver works here"));
    Machine vm = fixture_machine("vm-4cpu");
    vm.vulkan = {.asked = true,
                 .loader_installed = true,
                 .devices = {{.name = "llvmpipe", .type = VulkanType::cpu}}};
    EXPECT_EQ(check(vm, "vulkan").verdict, Verdict::warn);
}

TEST(Doctor, PowerDiskAndBandwidth) {
    const Machine good = fixture_machine("ryzen-8945hs-96gb");
    Machine m = good;
    m.system.on_battery = true;
    EXPECT_THAT(check(m, "power").detail, HasSubstr("battery"));
    m = good;
    m.cpu.scaling_driver = "acpi-cpufreq";  // where powersave is the lowest clock
    EXPECT_THAT(check(m, "power").detail, HasSubstr("governor powersave"));
    m = good;
    m.cpu.energy_preference = "power";
    EXPECT_EQ(check(m, "power").verdict, Verdict::warn);
    m = good;
    m.disk.direct_io = false;
    EXPECT_THAT(check(m, "disk").detail, HasSubstr("O_DIRECT"));
    // Bug: disks of virtual machines, and SSDs behind controllers, call themselves rotating.
    m = fixture_machine("desktop-7900xtx");
    EXPECT_EQ(check(m, "disk").verdict, Verdict::warn);
    m.measured.disk_gb_s = 2.1;
    EXPECT_EQ(check(m, "disk").verdict, Verdict::pass);
    m = good;
    m.measured.host_gb_s = 40;
    EXPECT_THAT(check(m, "bandwidth").detail, HasSubstr("less than half of the bus's 89.6"));
    m.measured.host_gb_s = 70;
    EXPECT_EQ(check(m, "bandwidth").detail,
              "memory 70.0 GB/s, disk not measured, by the GPU: vram not measured, gtt not "
              "measured, by the NPU: not measured");
}

TEST(Doctor, AGpuWithoutADriverFails) {
    Machine m = fixture_machine("ryzen-8945hs-96gb");
    m.gpus[0].driver.clear();
    EXPECT_EQ(check(m, "gpu").command, "sudo modprobe amdgpu");
    m.gpus.clear();
    EXPECT_EQ(check(m, "gpu").verdict, Verdict::pass);
}

}  // namespace
}  // namespace unicorn::machine
