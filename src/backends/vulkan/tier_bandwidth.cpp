#include "backends/vulkan/tier_bandwidth.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <utility>

#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/stopwatch.h"
#include "backends/vulkan/tier_bandwidth.params.h"
#include "backends/vulkan/tier_copy.comp.h"
#include "backends/vulkan/tier_fill.comp.h"
#include "backends/vulkan/tier_read.comp.h"
#include "backends/vulkan/vulkan_buffer.h"
#include "backends/vulkan/vulkan_error.h"
#include "base/check.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::uint32_t kInvocations = 256;  // of a workgroup
constexpr std::uint32_t kMaxGroups = 4096;   // a million invocations fill any GPU of today

struct Shaders {
    Pipeline fill, read, copy;
};

Result<Shaders> make_shaders(VulkanDevice& device) {
    const std::uint32_t constants[] = {kInvocations};
    PipelineSource source = {.name = "tier_fill",
                             .spirv = shaders::kTierFill,
                             .push_constant_bytes = sizeof(TierParams),
                             .constants = constants};
    auto fill = Pipeline::create(device, source);
    if (!fill) return forward(fill);
    source.name = "tier_read";
    source.spirv = shaders::kTierRead;
    auto read = Pipeline::create(device, source);
    if (!read) return forward(read);
    source.name = "tier_copy";
    source.spirv = shaders::kTierCopy;
    auto copy = Pipeline::create(device, source);
    if (!copy) return forward(copy);
    return Shaders{.fill = std::move(*fill), .read = std::move(*read), .copy = std::move(*copy)};
}

/// Bytes a second of what `record` does to `bytes` bytes, each repeat's, the slowest first.
Result<std::vector<double>> time_repeats(VulkanDevice& device, std::size_t bytes,
                                         std::size_t repeats,
                                         const std::function<void(VkCommandBuffer)>& record) {
    auto stopwatch = Stopwatch::create(device);
    if (!stopwatch) return forward(stopwatch);
    auto commands = Commands::create(device);
    if (!commands) return forward(commands);
    if (auto s = commands->begin(); !s) return forward(s);
    stopwatch->start(commands->handle());
    record(commands->handle());
    stopwatch->stop(commands->handle());
    if (auto s = commands->end(); !s) return forward(s);

    std::vector<double> rates;
    for (std::size_t i = 0; i <= repeats; ++i) {
        const auto start = std::chrono::steady_clock::now();
        auto ticket = device.submit(commands->handle());
        if (!ticket) return forward(ticket);
        if (auto s = device.wait(*ticket); !s) return forward(s);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        double seconds = elapsed.count();
        if (stopwatch->has_clock()) {
            auto by_gpu = stopwatch->seconds();
            if (!by_gpu) return forward(by_gpu);
            if (*by_gpu > 0) seconds = *by_gpu;  // a clock too coarse for a small probe says 0
        }
        if (i > 0) rates.push_back(static_cast<double>(bytes) / seconds);  // 0: the GPU wakes up
    }
    std::sort(rates.begin(), rates.end());
    return rates;
}

Result<TierBandwidth> measure(VulkanDevice& device, const Shaders& shaders, const TierMemory& tier,
                              const TierProbe& probe) {
    const Capabilities& c = device.capabilities();
    const std::uint64_t most =
        std::min({c.max_allocation_bytes, c.max_buffer_bytes, tier.heap_bytes / 4,
                  std::uint64_t{1} << 33});  // words are numbered in 32 bits
    const std::size_t bytes = std::clamp<std::uint64_t>(probe.bytes, 64, most) / 64 * 64;
    auto buffer = VulkanBuffer::create(device, bytes, tier, false);
    if (!buffer) return forward(buffer);

    TierParams params = {};
    params.vectors = buffer->device_address();
    params.n_vectors = static_cast<std::uint32_t>(bytes / 16);
    const std::uint32_t groups =
        std::min(kMaxGroups, (params.n_vectors + kInvocations - 1) / kInvocations);
    params.n_invocations = groups * kInvocations;
    auto sums = VulkanBuffer::create(device, groups * sizeof(std::uint32_t), tier);
    if (!sums) return forward(sums);
    params.sums = sums->device_address();

    auto filled = device.run([&](VkCommandBuffer commands) {
        shaders.fill.dispatch(commands, params, {groups, 1, 1});
    });
    if (!filled) return forward(filled);

    auto rates = time_repeats(device, bytes, probe.repeats, [&](VkCommandBuffer commands) {
        shaders.read.dispatch(commands, params, {groups, 1, 1});
    });
    if (!rates) return forward(rates);

    std::vector<std::uint32_t> parts(groups);
    if (auto s = sums->download(0, std::as_writable_bytes(std::span(parts))); !s) return forward(s);
    const std::uint32_t sum = std::accumulate(parts.begin(), parts.end(), std::uint32_t{0});
    const std::uint64_t n_words = bytes / 4;
    const auto expected = static_cast<std::uint32_t>((n_words / 2) * (n_words - 1));
    if (sum != expected) {
        return fail(ErrorCode::io, "{}: reading {} bytes of {} gave the sum {}, not {}",
                    device.name(), bytes, memory::name(tier.tier), sum, expected);
    }
    const std::size_t copied_bytes = params.n_vectors / 2 * std::size_t{2} * 16;
    std::vector<double> copies = {0};
    if (probe.copies) {
        auto copied =
            time_repeats(device, copied_bytes, probe.repeats, [&](VkCommandBuffer commands) {
                shaders.copy.dispatch(commands, params, {groups, 1, 1});
            });
        if (!copied) return forward(copied);
        copies = std::move(*copied);
    }
    return TierBandwidth{.tier = tier.tier,
                         .heap_index = tier.heap_index,
                         .bytes = bytes,
                         .bytes_per_s = (*rates)[rates->size() / 2],
                         .min_bytes_per_s = rates->front(),
                         .max_bytes_per_s = rates->back(),
                         .copy_bytes_per_s = copies[copies.size() / 2],
                         .gpu_clock = device.capabilities().timestamp_bits != 0};
}

}  // namespace

Result<std::vector<TierBandwidth>> measure_tiers(VulkanDevice& device, const TierProbe& probe) {
    UNICORN_CHECK(probe.repeats >= 1);
    auto shaders = make_shaders(device);
    if (!shaders) return forward(shaders);
    const std::vector<TierMemory>& tiers = device.capabilities().tiers;
    std::vector<TierBandwidth> out;
    for (std::size_t i = 0; i < tiers.size(); ++i) {
        if (probe.only && tiers[i].tier != *probe.only) continue;
        const auto same =
            std::find_if(tiers.begin(), tiers.begin() + static_cast<std::ptrdiff_t>(i),
                         [&](const auto& t) { return t.type_index == tiers[i].type_index; });
        if (!probe.only && same != tiers.begin() + static_cast<std::ptrdiff_t>(i)) {
            out.push_back(out[static_cast<std::size_t>(same - tiers.begin())]);
            out.back().tier = tiers[i].tier;
            continue;
        }
        auto measured = measure(device, *shaders, tiers[i], probe);
        if (!measured) return forward(measured);
        out.push_back(*measured);
    }
    return out;
}

}  // namespace unicorn::backends::vulkan
