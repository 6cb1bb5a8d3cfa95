#include "cli/bench_load.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "base/progress.h"
#include "base/raw_read.h"
#include "base/read_queue.h"
#include "base/thread_pool.h"
#include "cli/bench_report.h"
#include "cli/machine.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "memory/host_allocator.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kRawBytes = std::size_t{1} << 20;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The most of the files' bytes that stayed in the page cache when they were dropped.
double drop_all(const formats::Gguf& file) {
    double share = 0;
    for (const MappedFile& part : file.files()) share = std::max(share, drop_from_page_cache(part));
    return share;
}

Status read_into_cache(const formats::Gguf& file) {
    std::vector<std::byte> buffer(kRawBytes);
    for (const MappedFile& part : file.files()) {
        for (std::size_t at = 0; at < part.bytes().size(); at += buffer.size()) {
            const auto to =
                std::span(buffer).first(std::min(buffer.size(), part.bytes().size() - at));
            if (auto s = read_through_cache(part, at, to); !s) return s;
        }
    }
    return {};
}

/// Seconds that the system takes to hand out `bytes` of memory to all threads, in huge pages where
/// it has them.
Result<double> take_fresh_memory(std::size_t bytes, std::size_t threads) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    void* const map =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return fail(ErrorCode::out_of_memory, "no {} left",
                    human_bytes(static_cast<double>(bytes)));
    ::madvise(map, bytes, MADV_HUGEPAGE);
    const std::span memory(static_cast<std::byte*>(map), bytes);
    const auto start = std::chrono::steady_clock::now();
    ThreadPool pool(threads);
    pool.run([&](Team& team) {
        const Range part = team.split(bytes, kHugePage);
        for (std::size_t at = part.begin; at < part.end; at += 4096)
            static_cast<volatile std::byte&>(memory[at]) = std::byte{1};
    });
    const double seconds = seconds_since(start);
    ::munmap(map, bytes);
    return seconds;
}

/// One opening of the engine: how long until it could compute, and what the loader says.
struct Opening {
    std::vector<double> ready_s, load_s;
    engine::LoadReport last;
};

Status open_once(const std::string& path, const engine::EngineOptions& options, Opening& opening) {
    const auto start = std::chrono::steady_clock::now();
    auto engine = engine::Engine::open(path, options, InterruptScope::requested);
    if (!engine) return forward(engine);
    opening.ready_s.push_back(seconds_since(start));
    opening.last = (*engine)->load_report();
    opening.load_s.push_back(opening.last.seconds);
    return {};
}

}  // namespace

Result<std::string> bench_load(const std::string& path, const engine::EngineOptions& wanted,
                               std::size_t repetitions, bool json) {
    const InterruptScope interrupt;
    auto file = formats::Gguf::open(path);
    if (!file) return forward(file);
    engine::EngineOptions options = wanted;
    set_load_way(options);
    const std::size_t n_threads = options.threads == 0 ? available_cpus() : options.threads;
    Opening cold, warm;
    std::vector<double> raw, fresh_s;
    std::size_t fresh_bytes = 0;
    // Before each measurement, and timed apart: a virtual machine that gave its free memory back to
    // its host waits for that, however a model is loaded.
    const auto take_memory = [&]() -> Status {
        if (fresh_bytes == 0) return {};
        auto fresh = take_fresh_memory(fresh_bytes, n_threads);
        if (!fresh) return forward(fresh);
        fresh_s.push_back(*fresh);
        return {};
    };
    {
        // Once unmeasured: how much memory a load takes.
        Opening first;
        if (auto s = open_once(path, options, first); !s) return forward(s);
        fresh_bytes = first.last.peak_bytes - first.last.mapped_bytes;
    }
    double still_cached = 0;
    Progress progress("bench", 3 * repetitions, ProgressUnit::items);
    for (std::size_t i = 0; i < repetitions; ++i) {
        // Raw reads on both sides of the cold load, and the faster of the two counts: the disk of a
        // virtual machine is cached by its host, so what is read first would lose.
        still_cached = std::max(still_cached, drop_all(*file));
        if (auto s = take_memory(); !s) return forward(s);  // the same pause as before a load
        auto raw_before = raw_read_gb_s(file->files(), n_threads, InterruptScope::requested);
        if (!raw_before) return forward(raw_before);
        progress.update(3 * i + 1);
        still_cached = std::max(still_cached, drop_all(*file));
        if (auto s = take_memory(); !s) return forward(s);
        if (auto s = open_once(path, options, cold); !s) return forward(s);
        still_cached = std::max(still_cached, drop_all(*file));
        if (auto s = take_memory(); !s) return forward(s);
        auto raw_after = raw_read_gb_s(file->files(), n_threads, InterruptScope::requested);
        if (!raw_after) return forward(raw_after);
        raw.push_back(std::max(*raw_before, *raw_after));
        progress.update(3 * i + 2);
        if (auto s = read_into_cache(*file); !s) return forward(s);
        if (auto s = take_memory(); !s) return forward(s);
        if (auto s = open_once(path, options, warm); !s) return forward(s);
        progress.update(3 * i + 3);
    }
    const double raw_gb_s = median(raw);
    // Where layers are streamed, only the others are loaded.
    const engine::ReadStats& reads = cold.last.reads;
    const auto model_bytes =
        static_cast<double>(reads.direct_bytes + reads.cached_bytes + cold.last.mapped_bytes);
    const double cold_gb_s = model_bytes / median(cold.load_s) / 1e9;
    const double warm_gb_s = model_bytes / median(warm.load_s) / 1e9;
    const engine::ReadStats& packed = warm.last.reads;
    const double pack_gb_s =
        packed.pack_cpu_s > 0 ? static_cast<double>(packed.packed_bytes) / packed.pack_cpu_s / 1e9
                              : 0;
    const double peak = static_cast<double>(cold.last.peak_bytes) / model_bytes;
    const char* way = cold.last.mapped_bytes > 0 && cold.last.reads.packed_bytes == 0 ? "mapped"
                      : cold.last.reads.direct_bytes == 0                             ? "page cache"
                      : cold.last.reads.uring ? "io_uring, O_DIRECT"
                                              : "threads, O_DIRECT";
    if (json) {
        Json out;
        out["model"] = model_info(*file).name;
        out["tensor_bytes"] = file->tensor_bytes();
        out["loaded_bytes"] = static_cast<std::uint64_t>(model_bytes);
        out["raw_gb_s"] = raw_gb_s;
        out["cold"] = {{"seconds", median(cold.load_s)},
                       {"gb_s", cold_gb_s},
                       {"of_raw", cold_gb_s / raw_gb_s},
                       {"ready_seconds", median(cold.ready_s)},
                       {"way", way},
                       {"still_cached", still_cached}};
        out["warm"] = {{"seconds", median(warm.load_s)},
                       {"gb_s", warm_gb_s},
                       {"ready_seconds", median(warm.ready_s)}};
        if (!fresh_s.empty()) {
            out["fresh_memory"] = {{"bytes", fresh_bytes}, {"seconds", median(fresh_s)}};
        }
        out["mapped_bytes"] = cold.last.mapped_bytes;
        out["repack_gb_s_per_core"] = pack_gb_s;
        out["peak_bytes"] = cold.last.peak_bytes;
        out["peak_of_model"] = peak;
        return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    std::string text = fmt::format(
        "{}, {} loaded; median of {}\n"
        "raw reads    {:.2f} GB/s (O_DIRECT, {} at a time)\n"
        "cold load    {:.2f} s, {:.2f} GB/s, {:.0f} % of raw, by {}; ready to compute after {:.2f} "
        "s\n"
        "warm load    {:.3f} s, {:.2f} GB/s; ready to compute after {:.3f} s\n",
        model_info(*file).name, human_bytes(model_bytes), repetitions, raw_gb_s, kRawReads,
        median(cold.load_s), cold_gb_s, 100 * cold_gb_s / raw_gb_s, way, median(cold.ready_s),
        median(warm.load_s), warm_gb_s, median(warm.ready_s));
    if (!fresh_s.empty()) {
        text +=
            fmt::format("fresh memory {:.2f} s for {}, taken before each load and not part of it\n",
                        median(fresh_s), human_bytes(static_cast<double>(fresh_bytes)));
    }
    if (pack_gb_s > 0) text += fmt::format("repacking    {:.2f} GB/s a core\n", pack_gb_s);
    if (cold.last.mapped_bytes > 0)
        text += fmt::format("mapped       {} are used as they lie in the file\n",
                            human_bytes(static_cast<double>(cold.last.mapped_bytes)));
    text += fmt::format("peak memory  {} for weights and buffers, {:.3f} of what was loaded\n",
                        human_bytes(static_cast<double>(cold.last.peak_bytes)), peak);
    if (still_cached > 0.01)
        text += fmt::format(
            "the page cache would not let go of {:.0f} % of the file: cold is not cold here\n",
            100 * still_cached);
    return text;
}

}  // namespace unicorn::cli
