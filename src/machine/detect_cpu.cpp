#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "base/cpu_quota.h"
#include "machine/parts.h"

namespace unicorn::machine {
namespace {

// What kernels have forms for, or may have; by the names of /proc/cpuinfo, slowest first.
constexpr std::string_view kIsa[] = {
    "avx",      "fma",      "f16c",        "avx2",        "avx_vnni",   "avx512f",  "avx512bw",
    "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx512vbmi", "amx_int8", "amx_bf16"};

}  // namespace

Cpu detect_cpu(const Root& root, const std::string& root_path) {
    Cpu cpu;
    std::set<std::pair<std::string, std::string>> cores;
    std::string package;
    const std::string text = root.text("/proc/cpuinfo");
    for (std::string_view line : lines(text)) {
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        const std::string_view key = trim(line.substr(0, colon));
        const std::string_view value = trim(line.substr(colon + 1));
        if (key == "processor") {
            ++cpu.n_logical;
        } else if (key == "model name" && cpu.model.empty()) {
            cpu.model = value;
        } else if (key == "physical id") {
            package = value;
        } else if (key == "core id") {
            cores.emplace(package, value);
        } else if (key == "flags" && cpu.isa.empty()) {
            const auto flags = words(value);
            for (std::string_view isa : kIsa)
                if (std::find(flags.begin(), flags.end(), isa) != flags.end())
                    cpu.isa.emplace_back(isa);
        }
    }
    cpu.n_cores = cores.empty() ? cpu.n_logical : cores.size();
    if (cpu.model.empty()) cpu.model = "unknown CPU";
    cpu.quota = cpu_quota(root_path);
    const std::string frequency = "/sys/devices/system/cpu/cpu0/cpufreq/";
    cpu.governor = root.text(frequency + "scaling_governor");
    cpu.scaling_driver = root.text(frequency + "scaling_driver");
    cpu.energy_preference = root.text(frequency + "energy_performance_preference");
    return cpu;
}

}  // namespace unicorn::machine
