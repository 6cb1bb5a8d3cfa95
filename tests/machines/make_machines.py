#!/usr/bin/env python3
"""Writes the machines of this folder: trees of small files that stand for a machine's root.

    tests/machines/make_machines.py     rewrites every tree beside this file

What each was built after is in README.md. The trees are committed; run this after a change here.
"""

import pathlib
import shutil

HERE = pathlib.Path(__file__).parent
GIB = 1 << 30
MIB = 1 << 20

ZEN4 = ("fpu sse4_2 avx f16c fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16 "
        "avx512vbmi avx512_vbmi2 avx512_vnni")
ZEN5 = ZEN4 + " avx_vnni"
OS = {
    "debian 12": ("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
    "debian 13": ("debian", "13", "Debian GNU/Linux 13 (trixie)"),
    "ubuntu 24.04": ("ubuntu", "24.04", "Ubuntu 24.04.3 LTS"),
    "fedora 43": ("fedora", "43", "Fedora Linux 43 (Workstation Edition)"),
}


class Machine:
    def __init__(self, name):
        self.root = HERE / name
        if self.root.exists():
            shutil.rmtree(self.root)
        self.devices = 0

    def put(self, path, text):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def system(self, kernel, os, vendor, product, mesa=None, cmdline="quiet", profile=None,
               iommu=True):
        ident, version, pretty = OS[os]
        self.put("/proc/sys/kernel/osrelease", kernel)
        self.put("/proc/sys/kernel/random/boot_id", "6f7b1c9e-2d1a-4f0e-9f35-0c6a5a3f2b11")
        self.put("/proc/cmdline", f"BOOT_IMAGE=/boot/vmlinuz-{kernel} root=/dev/nvme0n1p2 ro {cmdline}")
        self.put("/etc/os-release", f'PRETTY_NAME="{pretty}"\nID={ident}\nVERSION_ID="{version}"')
        self.put("/sys/class/dmi/id/sys_vendor", vendor)
        self.put("/sys/class/dmi/id/product_name", product)
        if mesa:
            self.put("/var/lib/dpkg/status",
                     "Package: mesa-vulkan-drivers\nStatus: install ok installed\n"
                     f"Architecture: amd64\nVersion: {mesa}\n")
        if profile:
            self.put("/sys/firmware/acpi/platform_profile", profile)
            self.put("/sys/firmware/acpi/platform_profile_choices", "low-power balanced performance")
        if iommu:
            self.put("/sys/class/iommu/ivhd0/amd-iommu/version", "1.0")

    def cpu(self, model, cores, threads, flags, governor=None, driver="amd-pstate-epp",
            preference="balance_performance"):
        blocks = []
        for i in range(threads):
            blocks.append(f"processor\t: {i}\nvendor_id\t: AuthenticAMD\nmodel name\t: {model}\n"
                          f"physical id\t: 0\ncore id\t\t: {i % cores}\ncpu cores\t: {cores}\n"
                          f"flags\t\t: {flags}\n")
        self.put("/proc/cpuinfo", "\n".join(blocks))
        if not governor:
            return
        for i in range(2):  # two policies stand for all
            policy = f"/sys/devices/system/cpu/cpufreq/policy{i}"
            for folder in (policy, f"/sys/devices/system/cpu/cpu{i}/cpufreq"):
                self.put(f"{folder}/scaling_governor", governor)
                self.put(f"{folder}/scaling_driver", driver)
                if driver.endswith("epp"):
                    self.put(f"{folder}/energy_performance_preference", preference)
            self.put(f"{policy}/scaling_available_governors", "performance powersave")
            if driver.endswith("epp"):
                self.put(f"{policy}/energy_performance_available_preferences",
                         "default performance balance_performance balance_power power")

    def memory(self, total_kb, available_kb, swap_kb=0, huge="always [madvise] never",
               swappiness=60, ttm_pages=None):
        self.put("/proc/meminfo",
                 f"MemTotal:       {total_kb} kB\nMemFree:        {available_kb // 2} kB\n"
                 f"MemAvailable:   {available_kb} kB\nSwapTotal:      {swap_kb} kB\n"
                 f"SwapFree:       {swap_kb} kB")
        self.put("/sys/kernel/mm/transparent_hugepage/enabled", huge)
        self.put("/proc/sys/vm/swappiness", swappiness)
        self.put("/proc/sys/vm/vfs_cache_pressure", 100)
        if ttm_pages:
            self.put("/sys/module/ttm/parameters/pages_limit", ttm_pages)
            self.put("/sys/module/ttm/parameters/page_pool_size", ttm_pages)

    def modules(self, modules):
        """[(bytes, bits, type, speed, locator, bank)]; bytes 0: an empty slot."""
        lines = ["I:1234567", "E:MEMORY_ARRAY_LOCATION=System Board Or Motherboard",
                 f"E:MEMORY_ARRAY_NUM_DEVICES={len(modules)}"]
        for i, (size, bits, kind, speed, locator, bank) in enumerate(modules):
            lines += [f"E:MEMORY_DEVICE_{i}_LOCATOR={locator}",
                      f"E:MEMORY_DEVICE_{i}_BANK_LOCATOR={bank}"]
            if not size:
                lines.append(f"E:MEMORY_DEVICE_{i}_PRESENT=0")
                continue
            lines += [f"E:MEMORY_DEVICE_{i}_TOTAL_WIDTH={bits}",
                      f"E:MEMORY_DEVICE_{i}_DATA_WIDTH={bits}",
                      f"E:MEMORY_DEVICE_{i}_SIZE={size}", f"E:MEMORY_DEVICE_{i}_TYPE={kind}",
                      f"E:MEMORY_DEVICE_{i}_SPEED_MTS={speed}",
                      f"E:MEMORY_DEVICE_{i}_CONFIGURED_SPEED_MTS={speed}"]
        self.put("/run/udev/data/+dmi:id", "\n".join(lines))

    def pci(self, address, kind, vendor, device, revision="0x00", driver=None):
        folder = f"/sys/bus/pci/devices/{address}"
        self.put(f"{folder}/class", kind)
        self.put(f"{folder}/vendor", f"0x{vendor}")
        self.put(f"{folder}/device", f"0x{device}")
        self.put(f"{folder}/revision", revision)
        bound = f"DRIVER={driver}\n" if driver else ""
        self.put(f"{folder}/uevent",
                 f"{bound}PCI_ID={vendor.upper()}:{device.upper()}\nPCI_SLOT_NAME={address}")
        return folder

    def amdgpu(self, address, device, vram, vram_used, gtt, gtt_used, card, apu, link=None):
        folder = self.pci(address, "0x030000", "1002", device, "0xc8", "amdgpu")
        self.put(f"{folder}/mem_info_vram_total", vram)
        self.put(f"{folder}/mem_info_vram_used", vram_used)
        self.put(f"{folder}/mem_info_gtt_total", gtt)
        self.put(f"{folder}/mem_info_gtt_used", gtt_used)
        self.put(f"{folder}/power_dpm_force_performance_level", "auto")
        self.put(f"{folder}/drm/card{card}/dev", f"226:{card}")
        self.put(f"{folder}/drm/renderD{128 + card}/dev", f"226:{128 + card}")
        self.put(f"/dev/dri/renderD{128 + card}", "stands for a device node")
        if apu:
            self.put(f"{folder}/hwmon/hwmon4/name", "amdgpu")
            self.put(f"{folder}/hwmon/hwmon4/in1_label", "vddnb")
        if link:
            self.put(f"{folder}/max_link_speed", link[0])
            self.put(f"{folder}/max_link_width", link[1])

    def npu(self, address, device, revision, driver=None, board=None, firmware=None):
        folder = self.pci(address, "0x118000", "1022", device, revision, driver)
        if not driver:
            return
        self.put(f"{folder}/accel/accel0/dev", "261:0")
        self.put(f"{folder}/vbnv", board)
        self.put(f"{folder}/device_type", 0)
        self.put(f"{folder}/fw_version", firmware)
        self.put("/dev/accel/accel0", "stands for a device node")

    def user(self, groups, memlock, uid=1000):
        self.put("/etc/group", "root:x:0:\nvideo:x:44:\nrender:x:105:\nuser:x:1000:")
        ids = {"video": 44, "render": 105}
        numbers = " ".join(str(ids[g]) for g in groups)
        self.put("/proc/self/status",
                 f"Name:\tunicorn\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
                 f"Gid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t{numbers} {uid} ")
        self.put("/proc/self/limits",
                 "Limit                     Soft Limit           Hard Limit           Units     \n"
                 f"Max locked memory         {memlock:<20} {memlock:<20} bytes     ")

    def disk(self, name, part, rotational, gb, file_system="ext4"):
        folder = self.root / f"sys/devices/pci/block/{name}"
        relative = f"/sys/devices/pci/block/{name}"
        self.put(f"{relative}/queue/rotational", rotational)
        self.put(f"{relative}/size", gb * 10**9 // 512)
        self.put(f"{relative}/{part}/partition", 2)
        self.put(f"{relative}/{part}/size", (gb - 1) * 10**9 // 512)
        links = self.root / "sys/class/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / name).symlink_to(f"../../devices/pci/block/{name}")
        (links / part).symlink_to(f"../../devices/pci/block/{name}/{part}")
        assert folder.is_dir()
        self.put("/proc/self/mountinfo",
                 f"22 1 259:2 / / rw,relatime shared:1 - {file_system} /dev/{part} rw\n"
                 "23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw")

    def vulkan(self, drivers):
        self.put("/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "stands for the loader")
        for name in drivers:
            self.put(f"/usr/share/vulkan/icd.d/{name}_icd.x86_64.json", "{}")


def ddr5(size, speed, filled):
    """Two channels with one slot each; `filled` of them."""
    return [(size if i < filled else 0, 64, "DDR5", speed, "DIMM 0", f"P0 CHANNEL {c}")
            for i, c in enumerate("AB")]


def ryzen_8945hs_96gb():
    m = Machine("ryzen-8945hs-96gb")
    m.system("6.17.0-29-generic", "ubuntu 24.04", "Micro Computer (HK) Tech Limited",
             "Venus Series", mesa="25.2.8-0ubuntu0.24.04.1", profile="balanced")
    m.cpu("AMD Ryzen 9 8945HS w/ Radeon 780M Graphics", 8, 16, ZEN4, "powersave")
    m.memory(80140580, 76021760, swap_kb=2097148, ttm_pages=10485760)
    m.modules(ddr5(48 * GIB, 5600, 2))
    m.amdgpu("0000:c6:00.0", "1900", 16 * GIB, 220 * MIB, 40 * GIB, 150 * MIB, 1, True)
    m.npu("0000:c7:00.1", "1502", "0x00", "amdxdna", "RyzenAI-npu1", "1.5.2.380")
    m.user(["video", "render"], "unlimited")
    m.disk("nvme0n1", "nvme0n1p2", 0, 2000)
    m.vulkan(["radeon", "lvp"])


def ryzen_8945hs_32gb():
    m = Machine("ryzen-8945hs-32gb")
    m.system("6.1.0-37-amd64", "debian 12", "AZW", "SER8", mesa="22.3.6-1+deb12u1",
             profile="low-power")
    m.cpu("AMD Ryzen 9 8945HS w/ Radeon 780M Graphics", 8, 16, ZEN4, "powersave",
          driver="acpi-cpufreq")
    m.memory(32208772, 30149632, swap_kb=999420, huge="always madvise [never]")
    m.modules(ddr5(32 * GIB, 5600, 1))
    m.amdgpu("0000:c6:00.0", "1900", 512 * MIB, 96 * MIB, 15726 * MIB, 40 * MIB, 1, True)
    m.npu("0000:c7:00.1", "1502", "0x00")
    m.user([], 8388608)
    m.disk("nvme0n1", "nvme0n1p2", 0, 500)


def strix_halo_128gb():
    m = Machine("strix-halo-128gb")
    m.system("7.1.0", "fedora 43", "ASUSTeK COMPUTER INC.", "ROG Flow Z13 GZ302EA_GZ302EA",
             cmdline="iommu.passthrough=0 ttm.pages_limit=25165824 ttm.page_pool_size=25165824",
             profile="performance")
    m.cpu("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 16, 32, ZEN5, "powersave")
    m.memory(128425472, 121634816, ttm_pages=25165824)
    m.modules([(16 * GIB, 32, "LPDDR5", 8000, "DIMM 0", f"P0 CHANNEL {c}") for c in "ABCDEFGH"])
    m.amdgpu("0000:c3:00.0", "1586", 4294967296, 400 * MIB, 103079215104, 90 * MIB, 1, True)
    m.npu("0000:c4:00.1", "17f0", "0x11", "amdxdna", "RyzenAI-npu5", "1.1.2.64")
    m.user(["video", "render"], "unlimited")
    m.disk("nvme0n1", "nvme0n1p3", 0, 2000, "btrfs")
    m.vulkan(["radeon"])


def desktop_7900xtx():
    m = Machine("desktop-7900xtx")
    m.system("6.12.48-amd64", "debian 13", "ASRock", "X670E PG Lightning", mesa="25.0.7-2")
    m.cpu("AMD Ryzen 9 7950X 16-Core Processor", 16, 32, ZEN4, "performance",
          preference="performance")
    m.memory(31997432, 28712960, swap_kb=8388604)
    modules = []
    for channel in "AB":
        modules.append((0, 64, "", 0, "DIMM 0", f"P0 CHANNEL {channel}"))
        modules.append((16 * GIB, 64, "DDR5", 6000, "DIMM 1", f"P0 CHANNEL {channel}"))
    m.modules(modules)
    m.amdgpu("0000:03:00.0", "744c", 24560 * MIB, 1200 * MIB, 15623 * MIB, 60 * MIB, 1, False,
             ("16.0 GT/s PCIe", 16))
    m.amdgpu("0000:16:00.0", "164e", 512 * MIB, 16 * MIB, 15623 * MIB, 14 * MIB, 2, True)
    m.user(["video", "render"], 8388608)
    m.disk("sda", "sda2", 1, 4000)
    m.vulkan(["radeon", "lvp"])


def vm_4cpu():
    m = Machine("vm-4cpu")
    m.system("6.8.0-60-generic", "ubuntu 24.04", "QEMU", "Standard PC (Q35 + ICH9, 2009)",
             iommu=False)
    m.cpu("Intel(R) Xeon(R) Processor", 4, 4, "fpu sse4_2 avx f16c fma avx2")
    m.memory(16373096, 15100928)
    m.pci("0000:00:01.0", "0x030000", "1234", "1111", driver="bochs-drm")
    m.put("/proc/self/cgroup", "0::/user.slice/job")
    m.put("/sys/fs/cgroup/user.slice/memory.max", 8 * GIB)
    m.put("/sys/fs/cgroup/user.slice/memory.current", 3 * GIB)
    m.put("/sys/fs/cgroup/user.slice/memory.stat",
          f"anon {GIB}\nfile {2 * GIB}\ninactive_file {GIB}\nactive_file {512 * MIB}")
    m.put("/sys/fs/cgroup/user.slice/job/memory.max", "max")
    m.put("/sys/fs/cgroup/user.slice/job/memory.high", "max")
    m.user([], 8388608)
    m.disk("vda", "vda1", 1, 40)


if __name__ == "__main__":
    for make in (ryzen_8945hs_96gb, ryzen_8945hs_32gb, strix_halo_128gb, desktop_7900xtx, vm_4cpu):
        make()
