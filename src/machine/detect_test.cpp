// What is found in the machines of tests/machines, and in odd ones.

#include <gmock/gmock.h>

#include "machine/testing.h"

namespace unicorn::machine {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::fixture_machine;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20, kGiB = std::uint64_t{1} << 30;

TEST(Detect, TheTargetMachine) {
    const Machine m = fixture_machine("ryzen-8945hs-96gb");
    EXPECT_FALSE(m.is_this_machine);
    EXPECT_EQ(m.cpu.model, "AMD Ryzen 9 8945HS w/ Radeon 780M Graphics");
    EXPECT_EQ(m.cpu.n_cores, 8u);
    EXPECT_EQ(m.cpu.n_logical, 16u);
    EXPECT_THAT(m.cpu.isa, Contains("avx512_vnni"));
    EXPECT_THAT(m.cpu.isa, Contains("avx512vbmi"));
    EXPECT_EQ(m.cpu.quota, std::nullopt);
    EXPECT_EQ(m.memory.total_bytes, std::uint64_t{80140580} << 10);
    EXPECT_EQ(m.memory.usable_bytes(), std::uint64_t{76021760} << 10);
    ASSERT_EQ(m.memory.modules.size(), 2u);
    EXPECT_EQ(memory_bus(m.memory.modules).n_channels, 2u);
    EXPECT_DOUBLE_EQ(memory_bus(m.memory.modules).peak_gb_s(), 89.6);
    EXPECT_EQ(m.memory.transparent_huge_pages, "madvise");
    EXPECT_EQ(m.memory.swappiness, 60u);
    EXPECT_EQ(m.memory.ttm_pages_limit, 10485760u);
    ASSERT_EQ(m.gpus.size(), 1u);
    const Gpu& gpu = m.gpus[0];
    EXPECT_EQ(gpu.name, "AMD Radeon 780M");
    EXPECT_EQ(gpu.pci_address, "0000:c6:00.0");
    EXPECT_EQ(gpu.driver, "amdgpu");
    EXPECT_TRUE(gpu.integrated);
    EXPECT_EQ(gpu.render_node, "/dev/dri/renderD129");
    EXPECT_TRUE(gpu.accessible);
    EXPECT_EQ(gpu.vram_total_bytes, 16 * kGiB);
    EXPECT_EQ(gpu.vram_used_bytes, 220 * kMiB);
    EXPECT_EQ(gpu.gtt_total_bytes, 40 * kGiB);
    EXPECT_EQ(gpu.gtt_used_bytes, 150 * kMiB);
    EXPECT_EQ(gpu.performance_level, "auto");
    EXPECT_EQ(m.primary_gpu(), &gpu);
    ASSERT_EQ(m.npus.size(), 1u);
    EXPECT_EQ(m.npus[0].generation, NpuGeneration::xdna1);
    EXPECT_EQ(m.npus[0].board, "RyzenAI-npu1");
    EXPECT_EQ(m.npus[0].firmware, "1.5.2.380");
    EXPECT_EQ(m.npus[0].node, "/dev/accel/accel0");
    EXPECT_EQ(m.ready_npu(), m.npus.data());
    EXPECT_EQ(m.disk.device, "nvme0n1p2");
    EXPECT_EQ(m.disk.file_system, "ext4");
    EXPECT_EQ(m.disk.rotational, false);
    EXPECT_EQ(m.user.memlock_bytes, kUnlimited);
    EXPECT_THAT(m.user.groups, ElementsAre("render", "user", "video"));
    EXPECT_EQ(m.system.kernel.major, 6u);
    EXPECT_EQ(m.system.kernel.minor, 17u);
    ASSERT_TRUE(m.system.mesa_package.has_value());
    EXPECT_EQ(m.system.mesa_package->major, 25u);
    EXPECT_EQ(m.system.power_profile, "balanced");
    EXPECT_TRUE(m.system.iommu);
    EXPECT_TRUE(m.vulkan.loader_installed);
    EXPECT_FALSE(m.vulkan.asked);
}

TEST(Detect, ASmallCarveOutOnAnOldSystem) {
    const Machine m = fixture_machine("ryzen-8945hs-32gb");
    ASSERT_EQ(m.gpus.size(), 1u);
    EXPECT_EQ(m.gpus[0].vram_total_bytes, 512 * kMiB);
    EXPECT_FALSE(m.gpus[0].accessible);  // not in the group render
    ASSERT_EQ(m.npus.size(), 1u);
    EXPECT_EQ(m.npus[0].driver, "");
    EXPECT_EQ(m.npus[0].node, "");
    EXPECT_EQ(m.ready_npu(), nullptr);
    EXPECT_EQ(memory_bus(m.memory.modules).n_channels, 1u);
    EXPECT_EQ(m.user.memlock_bytes, 8 * kMiB);
    EXPECT_FALSE(m.vulkan.loader_installed);
    EXPECT_EQ(m.memory.ttm_pages_limit, std::nullopt);
}

TEST(Detect, StrixHalo) {
    const Machine m = fixture_machine("strix-halo-128gb");
    ASSERT_EQ(m.gpus.size(), 1u);
    EXPECT_EQ(m.gpus[0].name, "AMD Radeon 8060S");
    EXPECT_TRUE(m.gpus[0].integrated);
    EXPECT_EQ(m.gpus[0].gtt_total_bytes, 96 * kGiB);
    EXPECT_EQ(m.memory.ttm_pages_limit, 25165824u);
    EXPECT_EQ(memory_bus(m.memory.modules).n_channels, 8u);
    EXPECT_EQ(memory_bus(m.memory.modules).bits, 256u);
    EXPECT_DOUBLE_EQ(memory_bus(m.memory.modules).peak_gb_s(), 256);
    ASSERT_EQ(m.npus.size(), 1u);
    EXPECT_EQ(m.npus[0].generation, NpuGeneration::xdna2);
    EXPECT_EQ(m.npus[0].revision, 0x11u);
    EXPECT_EQ(m.disk.file_system, "btrfs");
    EXPECT_EQ(m.system.mesa_package, std::nullopt);  // not a system with dpkg
}

TEST(Detect, ADesktopsDiscreteGpuComesBeforeTheOneInItsCpu) {
    const Machine m = fixture_machine("desktop-7900xtx");
    ASSERT_EQ(m.gpus.size(), 2u);
    EXPECT_FALSE(m.gpus[0].integrated);
    EXPECT_EQ(m.gpus[0].name, "AMD GPU 1002:744c");
    EXPECT_NEAR(m.gpus[0].link_gb_s, 31.5, 0.05);
    EXPECT_TRUE(m.gpus[1].integrated);
    EXPECT_EQ(m.gpus[1].link_gb_s, 0);
    EXPECT_EQ(m.primary_gpu(), m.gpus.data());
    EXPECT_TRUE(m.npus.empty());
    EXPECT_EQ(m.disk.rotational, true);
    EXPECT_EQ(m.memory.modules.size(), 2u);
}

TEST(Detect, AVirtualMachineWithNothingButAControlGroup) {
    const Machine m = fixture_machine("vm-4cpu");
    EXPECT_TRUE(m.gpus.empty());  // its console is no GPU
    EXPECT_TRUE(m.npus.empty());
    EXPECT_EQ(m.primary_gpu(), nullptr);
    EXPECT_EQ(m.cpu.n_cores, 4u);
    EXPECT_TRUE(m.memory.modules.empty());
    EXPECT_EQ(m.memory.cgroup_limit_bytes, 8 * kGiB);
    // 8 less the 3 in use, of which 1.5 are page cache.
    EXPECT_EQ(m.memory.cgroup_available_bytes, 8 * kGiB - 1536 * kMiB);
    EXPECT_EQ(m.memory.usable_bytes(), 8 * kGiB - 1536 * kMiB);
    EXPECT_FALSE(m.system.iommu);
}

TEST(Detect, TheNpusDriverIsAskedWhereThereIsOneToAsk) {
    testing::FakeNpuDriver driver;
    const Machine m = fixture_machine("ryzen-8945hs-96gb", &driver);
    ASSERT_TRUE(m.npus[0].answers.has_value());
    EXPECT_EQ(m.npus[0].answers->driver_version, "0.6");
    EXPECT_EQ(m.npus[0].firmware, "1.5.5.391");
    driver.silent = true;
    const Machine silent = fixture_machine("ryzen-8945hs-96gb", &driver);
    EXPECT_FALSE(silent.npus[0].answers.has_value());
    EXPECT_EQ(silent.npus[0].firmware, "1.5.2.380");
    // No driver is bound, so nobody is asked.
    EXPECT_FALSE(fixture_machine("ryzen-8945hs-32gb", &driver).npus[0].answers.has_value());
}

using OddMachine = testing::FakeRoot;

TEST_F(OddMachine, NoRootOrNoMemoryIsAnErrorOfOneLine) {
    auto none = detect({.sysfs_root = root() + "/none"});
    ASSERT_FALSE(none.has_value());
    EXPECT_EQ(none.error().code, ErrorCode::not_found);
    EXPECT_THAT(none.error().message, HasSubstr("/none: there is no such folder"));
    auto empty = detect({.sysfs_root = root()});
    ASSERT_FALSE(empty.has_value());
    EXPECT_EQ(empty.error().code, ErrorCode::invalid_file);
    EXPECT_THAT(empty.error().message, HasSubstr("/proc/meminfo: does not tell MemTotal"));
    put("/proc/meminfo", "MemTotal: 18446744073709551615 kB\n");
    EXPECT_FALSE(detect({.sysfs_root = root()}).has_value());
}

TEST_F(OddMachine, MemoryAloneMakesAMachine) {
    put("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\n");
    auto m = detect({.sysfs_root = root() + "/"});
    ASSERT_TRUE(m.has_value());
    EXPECT_EQ(m->memory.total_bytes, 1000u << 10);
    EXPECT_EQ(m->memory.available_bytes, 400u << 10);  // kernels before 3.14
    EXPECT_EQ(m->cpu.model, "unknown CPU");
    EXPECT_TRUE(m->gpus.empty());
    EXPECT_EQ(m->disk.device, "");
}

TEST_F(OddMachine, EveryFileFullOfNonsenseIsRead) {
    copy("ryzen-8945hs-96gb");
    const std::string nonsense[] = {"",
                                    "\xFF\xFE\0\x01",
                                    "-1",
                                    "99999999999999999999999",
                                    "::::\n===\n[[]]\nE:MEMORY_DEVICE_=\n",
                                    "0x",
                                    "a b c d - e"};
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_))
        if (entry.is_regular_file()) files.push_back(entry.path().string().substr(root().size()));
    ASSERT_GT(files.size(), 40u);
    for (const std::string& file : files) {
        const std::string before = get(file);
        for (const std::string& text : nonsense) {
            put(file, text);
            const auto m = detect({.sysfs_root = root(), .path = "/model.gguf"});
            EXPECT_TRUE(m.has_value() || file == "/proc/meminfo") << file << ": " << text;
        }
        put(file, before);
    }
}

TEST_F(OddMachine, EveryControlGroupOnTheWayUpCountsInBothVersions) {
    put("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 16000000 kB\n");
    put("/proc/self/cgroup", "4:memory:/job/part\n0::/../outside\n");
    put("/sys/fs/cgroup/memory/job/part/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4294967296\n");
    put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2147483648\n");
    put("/sys/fs/cgroup/memory/job/memory.stat",
        "cache 5\ntotal_inactive_file 1073741824\ntotal_active_file 0\n");
    auto m = detect({.sysfs_root = root()});
    ASSERT_TRUE(m.has_value());
    EXPECT_EQ(m->memory.cgroup_limit_bytes, 4 * kGiB);
    EXPECT_EQ(m->memory.cgroup_available_bytes, 3 * kGiB);
    // The mount itself, where a container sees its own group.
    put("/sys/fs/cgroup/memory.max", "2147483648\n");
    put("/sys/fs/cgroup/memory.current", "3147483648\n");
    m = detect({.sysfs_root = root()});
    ASSERT_TRUE(m.has_value());
    EXPECT_EQ(m->memory.cgroup_limit_bytes, 2 * kGiB);
    EXPECT_EQ(m->memory.cgroup_available_bytes, 0u);
}

TEST_F(OddMachine, ANewApuIsKnownByItsSensor) {
    copy("ryzen-8945hs-96gb");
    put("/sys/bus/pci/devices/0000:c6:00.0/device", "0x9999");
    auto m = detect({.sysfs_root = root()});
    ASSERT_TRUE(m.has_value());
    EXPECT_TRUE(m->gpus[0].integrated);
    EXPECT_EQ(m->gpus[0].name, "AMD GPU 1002:9999");
    put("/sys/bus/pci/devices/0000:c6:00.0/hwmon/hwmon4/in1_label", "vddgfx");
    m = detect({.sysfs_root = root()});
    ASSERT_TRUE(m.has_value());
    EXPECT_FALSE(m->gpus[0].integrated);
}

TEST(Detect, ThisMachineHasMemoryACpuAndADisk) {
    auto m = detect({.path = ::testing::TempDir(), .vulkan = false});
    ASSERT_TRUE(m.has_value()) << m.error().message;
    EXPECT_TRUE(m->is_this_machine);
    EXPECT_GT(m->memory.total_bytes, kMiB);
    EXPECT_LE(m->memory.usable_bytes(), m->memory.total_bytes);
    EXPECT_GE(m->cpu.n_logical, 1u);
    EXPECT_GT(m->system.kernel.major, 2u);
    EXPECT_TRUE(m->disk.total_bytes.has_value());
}

}  // namespace
}  // namespace unicorn::machine
