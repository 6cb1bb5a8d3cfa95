#include "machine/measure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "base/file_descriptor.h"
#include "base/raw_read.h"
#include "base/thread_pool.h"
#include "machine/json.h"
#include "machine/profile.h"
#include "memory/bandwidth.h"

namespace unicorn::machine {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr std::size_t kSampleBytes = std::size_t{256} << 20;
constexpr std::size_t kSmallestSample = std::size_t{32} << 20;
constexpr std::size_t kMadeBytes = std::size_t{128} << 20;
constexpr double kLongestS = 3;

struct FreeBlock {
    void operator()(std::byte* p) const noexcept { std::free(p); }
};
using Block = std::unique_ptr<std::byte[], FreeBlock>;

Block make_block() { return Block(static_cast<std::byte*>(std::aligned_alloc(4096, kBlock))); }

/// A file without a name in `folder`, filled with what no file system compresses.
Result<FileDescriptor> make_sample(const std::string& folder) {
    struct statvfs space {};
    if (::statvfs(folder.c_str(), &space) == 0 &&
        std::uint64_t{space.f_bavail} * space.f_frsize < 4 * kMadeBytes)
        return fail(ErrorCode::out_of_memory, "{}: no room for a file of 128 MiB to measure with",
                    folder);
    FileDescriptor file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
    if (!file && (errno == EINVAL || errno == EOPNOTSUPP))
        return fail(ErrorCode::unsupported, "{}: its file system cannot read past the page cache",
                    folder);
    if (!file) return fail(ErrorCode::io, "{}: cannot open: {}", folder, std::strerror(errno));
    const Block block = make_block();
    if (block == nullptr) return fail(ErrorCode::out_of_memory, "no memory for a block of 1 MiB");
    std::uint64_t state = 0x9E3779B97F4A7C15;
    for (std::size_t done = 0; done < kMadeBytes; done += kBlock) {
        for (std::size_t i = 0; i < kBlock; i += sizeof state) {  // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            std::memcpy(block.get() + i, &state, sizeof state);
        }
        if (::pwrite(file.get(), block.get(), kBlock, static_cast<off_t>(done)) !=
            static_cast<ssize_t>(kBlock))
            return fail(ErrorCode::io, "{}: cannot write a file to measure with: {}", folder,
                        std::strerror(errno));
    }
    ::fsync(file.get());
    return file;
}

std::string cache_path(const std::string& folder, const Machine& machine) {
    // FNV-1a: names differ for different machines; the key in the file is what counts.
    std::uint64_t hash = 0xCBF29CE484222325;
    for (const char c : cache_key(machine))
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
    return fmt::format("{}/machine-{:016x}.json", folder, hash);
}

std::optional<double> rate(const nlohmann::json& value) {
    if (!value.is_number()) return {};
    const auto number = value.get<double>();
    if (!std::isfinite(number) || number <= 0 || number > 1e5) return {};
    return number;
}

/// The file's object when it is whole and this machine's; else an empty one.
nlohmann::json read_cache(const std::string& folder, const Machine& machine) {
    auto text = read_file(cache_path(folder, machine), 1 << 20);
    if (!text) return nlohmann::json::object();
    auto json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object() || json.value("key", nlohmann::json()) != cache_key(machine) ||
        !json.value("disks", nlohmann::json()).is_object())
        return nlohmann::json::object();
    return json;
}

}  // namespace

Result<double> measure_host_gb_s(std::uint64_t usable_bytes) {
    // Below that, caches would be measured; from 4 GiB on, ReadBandwidth chooses by the cache.
    constexpr int kPasses = 12;  // the best counts: others use the memory, too
    constexpr std::uint64_t kSmallest = std::uint64_t{256} << 20, kAny = std::uint64_t{1} << 30;
    const std::uint64_t share = usable_bytes / 4;
    if (share < kSmallest)
        return fail(ErrorCode::out_of_memory, "too little memory is available to measure it");
    try {
        ThreadPool pool(available_cpus());
        return memory::ReadBandwidth(pool, share >= kAny ? 0 : share).measure_gb_per_s(kPasses);
    } catch (const std::bad_alloc&) {
        return fail(ErrorCode::out_of_memory, "no memory to measure with");
    } catch (const std::system_error& error) {
        return fail(ErrorCode::out_of_memory, "cannot start threads: {}", error.what());
    }
}

Result<double> measure_disk_gb_s(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0)
        return fail(ErrorCode::io, "{}: {}", path, std::strerror(errno));
    const bool is_file = S_ISREG(info.st_mode);
    const bool enough = is_file && static_cast<std::uint64_t>(info.st_size) >= kSmallestSample;
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    const std::string folder = !is_file ? path : parent.empty() ? "." : parent.string();
    std::string name = path;
    FileDescriptor sample;
    if (!enough) {
        auto made = make_sample(folder);
        if (!made) return forward(made);
        sample = std::move(*made);
        name = fmt::format("/proc/self/fd/{}", sample.get());
    }
    auto file = MappedFile::open(name);
    if (!file) return forward(file);
    try {
        return raw_read_gb_s({&*file, 1}, available_cpus(), {}, kSampleBytes, kLongestS);
    } catch (const std::system_error& error) {
        return fail(ErrorCode::out_of_memory, "cannot start threads: {}", error.what());
    }
}

std::string cache_key(const Machine& machine) {
    std::string key =
        fmt::format("{}|{}|{} threads|{} bytes|{}", machine.system.product, machine.cpu.model,
                    machine.cpu.n_logical, machine.memory.total_bytes, machine.system.kernel.text);
    for (const Gpu& gpu : machine.gpus)
        key += fmt::format("|{:04x}:{:04x} {}", gpu.vendor_id, gpu.device_id,
                           gpu.vram_total_bytes.value_or(0));
    return key;
}

std::optional<Measured> load_measured(const std::string& folder, const Machine& machine) {
    if (folder.empty()) return {};
    const nlohmann::json json = read_cache(folder, machine);
    Measured measured;
    const auto kept = [&](const char* key) { return rate(json.value(key, nlohmann::json())); };
    measured.host_gb_s = kept("host_gb_s");
    measured.vram_gb_s = kept("vram_gb_s");
    measured.gtt_gb_s = kept("gtt_gb_s");
    if (json.contains("disks") && !machine.disk.device.empty()) {
        measured.disk_device = machine.disk.device;
        measured.disk_gb_s = rate(json["disks"].value(machine.disk.device, nlohmann::json()));
    }
    const Measured& m = measured;
    if (!m.host_gb_s && !m.vram_gb_s && !m.gtt_gb_s && !m.disk_gb_s) return {};
    return measured;
}

Status store_measured(const std::string& folder, const Machine& machine) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return fail(ErrorCode::io, "{}: cannot create: {}", folder, error.message());
    nlohmann::json json = read_cache(folder, machine);  // other disks' numbers stay
    json["key"] = cache_key(machine);
    const Measured& m = machine.measured;
    if (m.host_gb_s) json["host_gb_s"] = *m.host_gb_s;
    if (m.vram_gb_s) json["vram_gb_s"] = *m.vram_gb_s;
    if (m.gtt_gb_s) json["gtt_gb_s"] = *m.gtt_gb_s;
    if (!json.contains("disks")) json["disks"] = nlohmann::json::object();
    if (machine.measured.disk_gb_s && !machine.measured.disk_device.empty())
        json["disks"][machine.measured.disk_device] = *machine.measured.disk_gb_s;
    json["profile"] = to_json(to_profile(machine));
    const std::string path = cache_path(folder, machine);
    auto file = FileWriter::create(path);
    if (!file) return forward(file);
    const auto replace = nlohmann::json::error_handler_t::replace;
    if (auto status = file->write(json.dump(2, ' ', false, replace) + "\n"); !status)
        return forward(status);
    return file->commit();
}

}  // namespace unicorn::machine
