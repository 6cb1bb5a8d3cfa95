#include "cli/plan_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "cli/table.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;
using plan::What;

constexpr std::size_t kBarWidth = 50;
constexpr What kWhats[] = {What::weight,  What::kv_cache, What::activations,
                           What::scratch, What::staging,  What::stream_ring};
constexpr char kBarLetters[] = "wkaxsr";  // in the order of kWhats

std::string size(std::uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); }

std::string contents(const plan::TierUse& use) {
    std::vector<std::string> parts;
    for (const What what : kWhats) {
        const std::uint64_t bytes = use.by_what[static_cast<std::size_t>(what)];
        if (bytes > 0) parts.push_back(fmt::format("{} {}", plan::name(what), size(bytes)));
    }
    return parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, ", "));
}

/// "[wwwwwwkk...      ]": a letter for each share that is used, a dot for what tiers of the same
/// pool, or a limit, leave no room for.
std::string bar(const plan::TierUse& use) {
    const auto cells = [&](std::uint64_t bytes) {
        return use.capacity_bytes == 0
                   ? std::size_t{0}
                   : static_cast<std::size_t>(std::lround(static_cast<double>(bytes) * kBarWidth /
                                                          static_cast<double>(use.capacity_bytes)));
    };
    std::string text;
    std::uint64_t so_far = 0;
    for (const What what : kWhats) {
        const std::uint64_t bytes = use.by_what[static_cast<std::size_t>(what)];
        so_far += bytes;
        // Whatever there is, is seen.
        const std::size_t end =
            std::max(cells(so_far), text.size() + (bytes > 0 ? std::size_t{1} : 0));
        text.resize(std::min(end, kBarWidth), kBarLetters[static_cast<std::size_t>(what)]);
    }
    const std::size_t free = std::min(cells(use.headroom_bytes), kBarWidth - text.size());
    text.resize(kBarWidth - free, '.');
    text.resize(kBarWidth, ' ');
    return fmt::format("[{}]", text);
}

std::string rate(const plan::TierUse& use) {
    if (use.read_gb_s == 0) return "unknown";
    return fmt::format("{}{:.4g} GB/s", use.measured ? "" : "~", use.read_gb_s);
}

std::string tok_s(double value) {
    return value < 10 ? fmt::format("{:.2f} tok/s", value) : fmt::format("{:.0f} tok/s", value);
}

}  // namespace

std::string plan_text(const PlanSubject& subject, const plan::Plan& plan, bool colour) {
    const plan::Workload& w = subject.workload;
    std::string out = fmt::format(
        "{} on {}\n{} of {} tokens, KV cache {}, policy {}{}{}\n\n", subject.model, subject.machine,
        w.sequences == 1 ? "1 sequence" : fmt::format("{} sequences", w.sequences), w.context,
        tensor::name(w.kv_type), plan::name(subject.options.policy),
        subject.options.strict ? ", strict" : "",
        subject.options.memory_limit_bytes > 0
            ? fmt::format(", at most {}", size(subject.options.memory_limit_bytes))
            : "");
    out += colour ? fmt::format("\033[1m{}\033[0m\n", plan.verdict) : plan.verdict + "\n";

    std::vector<std::vector<std::string>> tiers{
        {"tier", "used", "capacity", "headroom", "read at", "holds"}};
    for (const plan::TierUse& use : plan.tiers) {
        tiers.push_back({std::string(memory::name(use.tier)), size(use.used_bytes),
                         size(use.capacity_bytes), size(use.headroom_bytes), rate(use),
                         contents(use)});
    }
    using enum Align;
    out +=
        fmt::format("\n{}", aligned_table(tiers, {left, right, right, right, right, left}, colour));
    if (plan.fits) {
        out += "\n";
        for (const plan::TierUse& use : plan.tiers)
            out += fmt::format("{:<4} {}\n", memory::name(use.tier), bar(use));
        out +=
            "     w weights, k KV cache, a activations, x scratch, s staging, r stream ring,\n"
            "     . taken by other tiers of the same memory, or beyond the limit\n";
    }

    std::vector<std::vector<std::string>> parts{{"part", "size", "read a pass", "time"}};
    for (const auto& [role, bytes] : plan.weights_by_role) {
        const auto part = std::ranges::find(plan.bound.parts, role, &plan::BoundPart::name);
        const bool known = part != plan.bound.parts.end();
        parts.push_back(
            {role, size(bytes), known ? size(part->read_bytes) : "",
             known && part->seconds > 0 ? fmt::format("{:.2f} ms", part->seconds * 1e3) : ""});
    }
    parts.push_back({"weights", size(plan.weight_bytes), "", ""});
    const auto kv = std::ranges::find(plan.bound.parts, "KV cache", &plan::BoundPart::name);
    const bool kv_known = kv != plan.bound.parts.end();
    parts.push_back(
        {"KV cache", size(plan.kv_bytes), kv_known ? size(kv->read_bytes) : "",
         kv_known && kv->seconds > 0 ? fmt::format("{:.2f} ms", kv->seconds * 1e3) : ""});
    if (plan.kv_chunk_bytes > 0)
        parts.push_back({"KV cache, for chunks", size(plan.kv_chunk_bytes), "", ""});
    parts.push_back({"activations and others", size(plan.other_bytes), "", ""});
    out += fmt::format("\n{}\n", aligned_table(parts, {left, right, right, right}, colour));

    out += plan.max_context == 0 ? "largest context   none fits\n"
                                 : fmt::format("largest context   {} tokens{}\n", plan.max_context,
                                               plan.max_context == subject.model_context
                                                   ? ", all that the model allows"
                                                   : "");
    if (!plan.fits) return out;
    if (!plan.streaming.layers.empty()) {
        out += fmt::format(
            "streamed          {} layers, {} a pass from the disk, through {} buffers of "
            "{}\n",
            plan.streaming.layers.size(), size(plan.streaming.bytes), plan.streaming.buffers,
            size(plan.streaming.buffer_bytes));
    }
    out += fmt::format("read a token      {}\n", size(plan.read_bytes_per_token));
    if (plan.bound.tok_s == 0)
        return out + fmt::format("bound             {}\n", plan.bound.limited_by);
    // Of the tiers that decoding reads.
    const bool measured = std::ranges::all_of(plan.tiers, [](const plan::TierUse& use) {
        return use.measured || (use.by_what[static_cast<std::size_t>(What::weight)] == 0 &&
                                use.by_what[static_cast<std::size_t>(What::kv_cache)] == 0);
    });
    return out + fmt::format("bound             {} at most, by {}{}\n", tok_s(plan.bound.tok_s),
                             plan.bound.limited_by,
                             measured ? "" : " (~: estimated, not measured)");
}

std::string plan_json(const PlanSubject& subject, const plan::Plan& plan) {
    Json out;
    out["model"] = subject.model;
    out["hardware"] = subject.machine;
    out["policy"] = plan::name(subject.options.policy);
    out["context"] = subject.workload.context;
    out["sequences"] = subject.workload.sequences;
    out["kv_type"] = tensor::name(subject.workload.kv_type);
    out["fits"] = plan.fits;
    out["verdict"] = plan.verdict;
    out["weights"]["total_bytes"] = plan.weight_bytes;
    out["weights"]["by_role"] = Json::object();
    for (const auto& [role, bytes] : plan.weights_by_role) out["weights"]["by_role"][role] = bytes;
    out["kv"]["total_bytes"] = plan.kv_bytes;
    out["kv"]["chunk_bytes"] = plan.kv_chunk_bytes;
    out["kv"]["max_context"] = plan.max_context;
    out["other_bytes"] = plan.other_bytes;
    out["needed_bytes"] = plan.needed_bytes;
    out["allowed_bytes"] = plan.allowed_bytes;
    out["overflow_bytes"] = plan.overflow_bytes;
    out["tiers"] = Json::array();
    for (const plan::TierUse& use : plan.tiers) {
        Json tier;
        tier["name"] = memory::name(use.tier);
        tier["capacity_bytes"] = use.capacity_bytes;
        tier["used_bytes"] = use.used_bytes;
        tier["headroom_bytes"] = use.headroom_bytes;
        tier["read_gb_s"] = use.read_gb_s;
        tier["measured"] = use.measured;
        tier["holds"] = Json::object();
        for (const What what : kWhats) {
            const std::uint64_t bytes = use.by_what[static_cast<std::size_t>(what)];
            if (bytes > 0) tier["holds"][std::string(plan::name(what))] = bytes;
        }
        out["tiers"].push_back(std::move(tier));
    }
    out["read_bytes_per_token"] = plan.read_bytes_per_token;
    out["bound"]["tok_s"] = plan.bound.tok_s;
    out["bound"]["limited_by"] = plan.bound.limited_by;
    out["bound"]["parts"] = Json::array();
    for (const plan::BoundPart& part : plan.bound.parts) {
        out["bound"]["parts"].push_back(
            {{"name", part.name}, {"read_bytes", part.read_bytes}, {"seconds", part.seconds}});
    }
    out["streaming"]["layers"] = plan.streaming.layers.size();
    out["streaming"]["bytes_per_pass"] = plan.streaming.bytes;
    out["streaming"]["from"] = !plan.streaming.layers.empty() ? Json("disk") : Json();
    out["streaming"]["buffers"] = plan.streaming.buffers;
    out["streaming"]["buffer_bytes"] = plan.streaming.buffer_bytes;
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string plan_line(const plan::Plan& plan) {
    std::vector<std::string> tiers;
    for (const plan::TierUse& use : plan.tiers) {
        if (use.used_bytes == 0) continue;
        tiers.push_back(fmt::format("{} {} of {} ({})", memory::name(use.tier),
                                    size(use.used_bytes), size(use.used_bytes + use.headroom_bytes),
                                    contents(use)));
    }
    return fmt::format("{}; {}", plan.verdict, fmt::join(tiers, "; "));
}

}  // namespace unicorn::cli
