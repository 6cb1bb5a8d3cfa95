#include "cli/machine.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "base/thread_pool.h"

namespace unicorn::cli {

MachineInfo machine_info() {
    MachineInfo info;
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; info.cpu.empty() && std::getline(cpuinfo, line);)
        if (line.starts_with("model name") && line.find(": ") != std::string::npos)
            info.cpu = line.substr(line.find(": ") + 2);
    if (info.cpu.empty()) info.cpu = "unknown";
    info.cpus = available_cpus();
    info.memory_bytes = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0l)) *
                        static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGE_SIZE), 0l));
    utsname names{};
    if (::uname(&names) == 0) info.os = fmt::format("{} {}", names.sysname, names.release);
#ifdef __clang__
    info.compiler = "clang " __clang_version__;
#else
    info.compiler = "gcc " __VERSION__;
#endif
    while (info.compiler.ends_with(' ')) info.compiler.pop_back();
    return info;
}

ModelInfo model_info(const formats::Gguf& file) {
    ModelInfo info;
    const auto name = file.get_string("general.name");
    info.name = name ? std::string(*name) : std::filesystem::path(file.path()).stem().string();
    for (const auto& part : file.files()) info.file_bytes += part.bytes().size();
    std::map<tensor::DType, std::uint64_t> bytes;
    for (const auto& tensor : file.tensors()) {
        std::uint64_t n = 1;
        for (const std::uint64_t dim : tensor.dims) n *= dim;
        info.parameters += n;
        bytes[tensor.type] += tensor.bytes.size();
    }
    std::vector<std::pair<std::uint64_t, tensor::DType>> order;
    for (const auto& [type, n] : bytes) order.emplace_back(n, type);
    std::sort(order.rbegin(), order.rend());
    for (const auto& [n, type] : order) {
        const double share = 100 * static_cast<double>(n) /
                             static_cast<double>(std::max<std::uint64_t>(file.tensor_bytes(), 1));
        if (share < 0.5) continue;
        info.types +=
            fmt::format("{}{} {:.0f} %", info.types.empty() ? "" : ", ", tensor::name(type), share);
    }
    return info;
}

}  // namespace unicorn::cli
