#include "plan/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/progress.h"

namespace unicorn::plan {
namespace {

using memory::Tier;

constexpr std::uint64_t kSmallBytes = 100'000'000;  // design section 3, policy hma
constexpr std::size_t kFastFfnLayers = 10;          // design section 3, policy roles
constexpr const char* kAttentionActivations = "attention activations";
// Buffers past the second take from pinning, and each layer less that is pinned is read again for
// every token: they get about an eighth of the room.
constexpr std::size_t kPinnedPerBuffer = 7;
// Of two buffers: one is filled while the other is copied to the device. At 10 GB/s, 64 MiB take 7
// ms, beside which starting a copy is nothing.
constexpr std::uint64_t kStagingBytes = std::uint64_t{64} << 20;

// What is placed by the same list of tiers.
enum class Class { attention, fast, bulk };
constexpr std::size_t kClasses = 3;

struct Chains {
    std::array<std::vector<Tier>, kClasses> by_class;  // in the order they are filled
    std::vector<Tier> buffers;  // one of these: what the CPU writes and the device reads

    const std::vector<Tier>& of(Class group) const {
        return by_class[static_cast<std::size_t>(group)];
    }
};

struct Item {
    Placement placement;
    Class group = Class::bulk;
    bool streamable = false;       // a matrix of a layer
    std::uint64_t file_bytes = 0;  // of a weight
};

/// How many of the layers stay in memory, and how many buffers the others pass through.
struct Shape {
    std::size_t n_layers = 0;
    std::size_t n_pinned = 0;
    std::size_t n_buffers = 0;

    bool streams() const { return n_pinned < n_layers; }
    std::vector<std::size_t> streamed() const {
        std::vector<std::size_t> layers;
        const std::size_t n = n_layers - n_pinned;
        for (std::size_t k = 0; k < n; ++k) layers.push_back(k * n_layers / n);
        return layers;
    }
};

/// The best first.
std::vector<Shape> shapes_of(std::size_t n_layers, const PlanOptions& options, bool can_stream) {
    std::vector<Shape> shapes;
    if (options.max_pinned_layers >= n_layers || !can_stream)
        shapes.push_back({n_layers, n_layers, 0});
    if (!can_stream) return shapes;
    if (options.stream == StreamPolicy::lru) {
        for (std::size_t n = std::min(n_layers, options.read_ahead + 1); n >= 1; --n)
            shapes.push_back({n_layers, 0, n});
        return shapes;
    }
    for (std::size_t n = std::min(n_layers - 1, options.max_pinned_layers) + 1; n-- > 0;) {
        const std::size_t most = std::min(n_layers - n, options.read_ahead + 1);
        const std::size_t least = std::min<std::size_t>(2, most);
        shapes.push_back({n_layers, n, std::clamp(n / kPinnedPerBuffer, least, most)});
    }
    return shapes;
}

const DeviceProfile* find_device(const HardwareProfile& machine, DeviceKind kind) {
    const auto found = std::ranges::find_if(machine.devices, [&](const DeviceProfile& device) {
        return device.kind == kind && !device.software;
    });
    return found == machine.devices.end() ? nullptr : &*found;
}

/// How fast a tier is read; as the host where that is not known. 0: that is not known, either.
double bandwidth(const HardwareProfile& machine, Tier tier) {
    const TierProfile* own = machine.tier(tier);
    if (own != nullptr && own->read_gb_s > 0) return own->read_gb_s;
    return tier == Tier::disk ? 0 : machine.tier(Tier::host)->read_gb_s;
}

/// Which tiers each class may use, first choice first.
Result<Chains> tier_chains(const HardwareProfile& machine, const PlanOptions& options) {
    const DeviceProfile* gpu = options.cpu_only ? nullptr : find_device(machine, DeviceKind::gpu);
    const DeviceProfile* npu = options.cpu_only ? nullptr : find_device(machine, DeviceKind::npu);
    const DeviceProfile* cpu = find_device(machine, DeviceKind::cpu);
    const auto has = [&](const DeviceProfile* device, Tier tier) {
        return device != nullptr && std::ranges::count(device->tiers, tier) > 0;
    };
    const bool host = gpu == nullptr || !options.strict || has(gpu, Tier::host);
    const auto chain = [&](std::initializer_list<Tier> wanted) {
        std::vector<Tier> tiers;
        for (const Tier tier : wanted) {
            if (tier == Tier::host ? host : machine.tier(tier) != nullptr) tiers.push_back(tier);
        }
        return tiers;
    };
    Chains chains;
    const auto set = [&](Class group, std::vector<Tier> tiers) {
        chains.by_class[static_cast<std::size_t>(group)] = std::move(tiers);
    };
    if (options.policy == Policy::automatic) {
        std::vector<Tier> all;
        if (gpu != nullptr) all = gpu->tiers;
        if (gpu == nullptr && !options.cpu_only) all = cpu->tiers;
        if (host) all.push_back(Tier::host);
        std::erase(all, Tier::disk);
        std::vector<Tier> once;
        for (const Tier tier : all)
            if (std::ranges::count(once, tier) == 0) once.push_back(tier);
        std::ranges::stable_sort(once, std::greater(),
                                 [&](Tier tier) { return bandwidth(machine, tier); });
        chains.by_class.fill(once);
        if (options.state_tier) set(Class::fast, {*options.state_tier});
    } else {
        const bool possible = has(gpu, Tier::vram) && has(gpu, Tier::gtt) &&
                              (options.policy == Policy::hma || has(npu, Tier::npu));
        if (!possible) {
            return fail(ErrorCode::unsupported,
                        "policy {} needs {}, and {} has none to use (auto works)",
                        name(options.policy),
                        options.policy == Policy::hma ? "a GPU with vram and gtt"
                                                      : "an NPU and a GPU with vram and gtt",
                        options.cpu_only ? "the device cpu" : machine.name);
        }
        set(Class::attention, chain({Tier::npu, Tier::gtt, Tier::host}));
        set(Class::fast, chain({Tier::vram, Tier::gtt, Tier::host}));
        set(Class::bulk, chain({Tier::gtt, Tier::host}));
    }
    chains.buffers = gpu == nullptr        ? chain({Tier::host})
                     : has(gpu, Tier::gtt) ? chain({Tier::gtt, Tier::host})
                                           : chain({Tier::host, Tier::vram});
    return chains;
}

Class class_of(const Placement& p, const PlanOptions& options) {
    const Policy policy = options.policy;
    const bool matrix = p.what == What::weight && p.role != Role::norm;
    if (policy == Policy::automatic)
        return options.state_tier && p.what != What::weight ? Class::fast : Class::bulk;
    if (policy == Policy::hma) return matrix || p.bytes >= kSmallBytes ? Class::bulk : Class::fast;
    const bool ffn = p.role == Role::gate || p.role == Role::up || p.role == Role::down;
    if (p.what == What::activations)
        return p.name == kAttentionActivations ? Class::attention : Class::fast;
    if (p.what == What::kv_cache) return Class::bulk;
    if (matrix && p.layer != kNoLayer && !ffn) return Class::attention;
    if (matrix && ffn) return p.layer < kFastFfnLayers ? Class::fast : Class::bulk;
    return Class::fast;
}

std::vector<Item> list_items(const ModelSpec& model, const Workload& workload,
                             const PlanOptions& options) {
    std::vector<Item> items;
    const auto add = [&](std::string name, What what, std::size_t layer, std::uint64_t bytes,
                         std::uint64_t read_bytes) -> Item& {
        Item& item = items.emplace_back();
        item.placement.name = std::move(name);
        item.placement.what = what;
        item.placement.layer = layer;
        item.placement.bytes = bytes;
        item.placement.read_bytes = read_bytes;
        return item;
    };
    const ActivationBytes activations = activation_bytes(model, workload);
    add(kAttentionActivations, What::activations, kNoLayer, activations.attention, 0);
    add("activations", What::activations, kNoLayer, activations.others, 0);
    if (workload.scratch_bytes)
        add("scratch", What::scratch, kNoLayer, workload.scratch_bytes(workload), 0);
    const bool tied = model.tied();
    for (const TensorSpec& tensor : model.tensors) {
        // Of an embedding that is not the head, a pass looks up a row for each sequence.
        const std::uint64_t read =
            !tied && tensor.role == Role::embedding
                ? std::min(tensor.bytes, tensor.bytes / std::max<std::size_t>(1, tensor.rows) *
                                             workload.sequences)
                : tensor.bytes;
        Item& item = add(tensor.name, What::weight, tensor.layer, tensor.bytes, read);
        item.placement.role = tensor.role;
        item.streamable = tensor.layer != kNoLayer && tensor.role != Role::norm;
        item.file_bytes = tensor.file_bytes();
    }
    for (std::size_t layer = 0; layer < model.n_layers; ++layer) {
        const KvBytes kv = kv_bytes(model, workload, layer);
        add(fmt::format("kv.{}", layer), What::kv_cache, layer, kv.held, kv.in_window);
    }
    for (Item& item : items) item.group = class_of(item.placement, options);
    return items;
}

/// The orders in which a policy tries to place items, as indices.
std::vector<std::vector<std::size_t>> orders_of(const std::vector<Item>& items,
                                                const PlanOptions& options) {
    std::vector<std::size_t> order(items.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto sorted_by = [&](auto key) {
        std::vector<std::size_t> result = order;
        std::ranges::stable_sort(result, std::less(),
                                 [&](std::size_t i) { return key(items[i].placement); });
        return result;
    };
    if (options.policy != Policy::automatic) {
        return {sorted_by([](const Placement& p) {
            const bool early =
                p.what != What::weight || p.role == Role::norm || p.layer == kNoLayer;
            return std::pair(!early, early ? 0 : p.layer);
        })};
    }
    const auto later = [&](const Placement& p) {
        return options.state_tier && p.what == What::weight;
    };
    return {sorted_by([&](const Placement& p) { return std::pair(later(p), ~p.read_bytes); }),
            sorted_by([&](const Placement& p) { return std::pair(later(p), p.layer); }),
            sorted_by([&](const Placement& p) { return std::pair(later(p), p.bytes); })};
}

/// One try: tiers by item; nothing when it does not fit. `buffer_bytes` are taken of `buffer_tier`
/// before anything else.
///
/// A class fills its tiers in order and never turns back to one that was too full for an item. So
/// with more room anywhere, no item comes to lie later in its list: a bigger machine never gets a
/// worse plan. (Turning back wastes less, but what then fits can displace what mattered more.)
std::optional<std::vector<Tier>> try_order(const std::vector<Item>& items,
                                           const std::vector<std::size_t>& order,
                                           const std::vector<std::size_t>& streamed,
                                           Tier buffer_tier, std::uint64_t buffer_bytes,
                                           const Chains& chains, Ledger ledger) {
    if (buffer_bytes > 0 && !ledger.reserve(buffer_tier, buffer_bytes)) return std::nullopt;
    std::array<std::size_t, kClasses> at{};
    std::vector<Tier> tiers(items.size() + 1, Tier::disk);
    tiers.back() = buffer_tier;
    for (const std::size_t index : order) {
        const Item& item = items[index];
        if (item.streamable && std::ranges::binary_search(streamed, item.placement.layer)) continue;
        const auto& chain = chains.of(item.group);
        std::size_t& i = at[static_cast<std::size_t>(item.group)];
        while (i < chain.size() && !ledger.reserve(chain[i], item.placement.bytes)) ++i;
        if (i == chain.size()) return std::nullopt;
        tiers[index] = chain[i];
    }
    return tiers;
}

class Planner {
public:
    Planner(const ModelSpec& model, const Workload& workload, const HardwareProfile& machine,
            const PlanOptions& options, Chains chains)
        : model_(model),
          workload_(workload),
          machine_(machine),
          options_(options),
          chains_(std::move(chains)),
          gpu_(options.cpu_only ? nullptr : find_device(machine, DeviceKind::gpu)),
          items_(list_items(model, workload, options)),
          orders_(orders_of(items_, options)),
          ledger_(machine, limit(options)),
          shapes_(shapes_of(
              model.n_layers, options,
              options.may_stream && !options.strict && machine.tier(Tier::disk) != nullptr)) {
        ledger_.reserve(Tier::host, std::min(options.reserve_bytes, ledger_.room(Tier::host)));
        std::vector<std::uint64_t> layers(model.n_layers);
        for (const Item& item : items_) {
            if (item.streamable) layers[item.placement.layer] += item.placement.bytes;
            if (item.placement.what == What::scratch) scratch_bytes_ = item.placement.bytes;
        }
        for (const std::uint64_t bytes : layers) buffer_bytes_ = std::max(buffer_bytes_, bytes);
        if (gpu_ == nullptr) return;
        std::uint64_t largest = 0;
        for (const TensorSpec& tensor : model.tensors) largest = std::max(largest, tensor.bytes);
        upload_bytes_ = 2 * std::min(kStagingBytes, largest);
    }

    /// Whether it fits at all.
    bool feasible(bool streaming) const {
        return std::ranges::any_of(shapes_, [&](const Shape& shape) {
            return (streaming || !shape.streams()) && best(shape).has_value();
        });
    }
    /// The best of the orders that fit.
    std::optional<std::vector<Tier>> best(const Shape& shape) const;
    Plan plan() const;

private:
    /// Of the limit, what is left for a plan; 0: no limit.
    static std::uint64_t limit(const PlanOptions& o) {
        if (o.memory_limit_bytes == 0) return 0;
        return o.memory_limit_bytes - std::min(o.memory_limit_bytes - 1, o.process_bytes);
    }
    /// All that is in memory.
    std::uint64_t bytes_with(const Shape& shape) const {
        std::uint64_t bytes = ring_bytes(shape) + staging_bytes(shape);
        const std::vector<std::size_t> streamed = shape.streamed();
        for (const Item& item : items_) {
            const bool stays =
                !item.streamable || !std::ranges::binary_search(streamed, item.placement.layer);
            bytes += stays ? item.placement.bytes : 0;
        }
        return bytes;
    }
    std::uint64_t ring_bytes(const Shape& shape) const { return shape.n_buffers * buffer_bytes_; }
    /// Buffers for reads and copies. Those for loading are gone before the scratch and the ring
    /// come, and count as far as they are larger.
    std::uint64_t staging_bytes(const Shape& shape) const {
        const std::uint64_t streaming = shape.streams() ? workload_.stream_staging_bytes : 0;
        const std::uint64_t later = scratch_bytes_ + ring_bytes(shape) + streaming;
        return upload_bytes_ + streaming +
               (workload_.load_staging_bytes - std::min(workload_.load_staging_bytes, later));
    }
    /// Seconds that memory takes for one pass, by tier.
    std::array<double, kTiers> memory_seconds(const std::vector<Tier>& tiers) const;
    double seconds_in(Tier tier, std::uint64_t bytes) const;
    void fill_in(Plan& plan, const std::vector<Tier>& tiers, const Shape& shape) const;
    void bind(Plan& plan, const std::vector<Tier>& tiers) const;
    std::size_t largest_context(std::size_t low, std::size_t high, bool streaming) const;
    std::string not_fitting(const Plan& plan) const;

    const ModelSpec& model_;
    const Workload& workload_;
    const HardwareProfile& machine_;
    const PlanOptions& options_;
    Chains chains_;
    const DeviceProfile* gpu_;  // that runs the model; nullptr: the CPU does
    std::vector<Item> items_;
    std::vector<std::vector<std::size_t>> orders_;
    Ledger ledger_;
    std::vector<Shape> shapes_;
    std::uint64_t buffer_bytes_ = 0;  // of the ring: the largest layer
    std::uint64_t scratch_bytes_ = 0;
    std::uint64_t upload_bytes_ = 0;  // of buffers for copies to a device
};

double Planner::seconds_in(Tier tier, std::uint64_t bytes) const {
    // What is streamed is read from the ring by the device, too: no faster than any tier it has.
    double gb_s = bandwidth(machine_, tier);
    if (tier == Tier::disk) {
        gb_s = 0;
        for (const Tier other : chains_.of(Class::bulk)) {
            const double own = bandwidth(machine_, other);
            gb_s = gb_s == 0 ? own : std::min(gb_s, own);
        }
    }
    return gb_s == 0 ? 0 : static_cast<double>(bytes) / (gb_s * 1e9);
}

std::array<double, kTiers> Planner::memory_seconds(const std::vector<Tier>& tiers) const {
    std::array<double, kTiers> seconds{};
    for (std::size_t i = 0; i < items_.size(); ++i)
        seconds[static_cast<std::size_t>(tiers[i])] +=
            seconds_in(tiers[i], items_[i].placement.read_bytes);
    return seconds;
}

std::optional<std::vector<Tier>> Planner::best(const Shape& shape) const {
    std::optional<std::vector<Tier>> found;
    double found_seconds = 0;
    const std::uint64_t bytes = staging_bytes(shape) + ring_bytes(shape);
    const std::vector<std::size_t> streamed = shape.streamed();
    for (const Tier buffer_tier : chains_.buffers) {
        for (const auto& order : orders_) {
            auto tiers = try_order(items_, order, streamed, buffer_tier, bytes, chains_, ledger_);
            if (!tiers) continue;
            double seconds = 0;
            for (const double part : memory_seconds(*tiers)) seconds += part;
            if (found && seconds >= found_seconds) continue;
            found = std::move(tiers);
            found_seconds = seconds;
        }
    }
    return found;
}

std::string_view role_group(Role role) {
    switch (role) {
        case Role::embedding:
        case Role::head: return "embedding/head";
        case Role::q:
        case Role::k:
        case Role::v: return "q+k+v";
        case Role::o: return "o";
        case Role::gate:
        case Role::up: return "gate+up";
        case Role::down: return "down";
        case Role::norm: return "norms";
    }
    return "unknown";
}
constexpr std::string_view kRoleGroups[] = {"embedding/head", "q+k+v", "o",
                                            "gate+up",        "down",  "norms"};

void Planner::bind(Plan& plan, const std::vector<Tier>& tiers) const {
    const auto by_tier = memory_seconds(tiers);
    double seconds = 0;
    for (const double part : by_tier) seconds += part;
    for (const std::string_view group : kRoleGroups)
        plan.bound.parts.push_back({std::string(group), 0, 0});
    plan.bound.parts.push_back({"KV cache", 0, 0});
    std::uint64_t read_bytes = 0;
    double multiply_adds = 0;
    for (std::size_t i = 0; i < items_.size(); ++i) {
        const Placement& p = items_[i].placement;
        if (p.read_bytes == 0) continue;
        const std::string_view group =
            p.what == What::weight ? role_group(p.role) : std::string_view("KV cache");
        auto part = std::ranges::find(plan.bound.parts, group, &BoundPart::name);
        part->read_bytes += p.read_bytes;
        part->seconds += seconds_in(tiers[i], p.read_bytes);
        read_bytes += p.read_bytes;
    }
    for (const TensorSpec& tensor : model_.tensors) {
        if (tensor.role != Role::norm)
            multiply_adds += static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    }
    plan.read_bytes_per_token = read_bytes / workload_.sequences;
    if (seconds == 0) {
        plan.bound.limited_by = "unknown: no bandwidth was measured";
        return;
    }
    const auto slowest = std::ranges::max_element(by_tier) - by_tier.begin();
    // What is streamed passes through the ring: its tier's time counts as the ring's.
    const Tier slowest_tier =
        static_cast<Tier>(slowest) == Tier::disk ? tiers.back() : static_cast<Tier>(slowest);
    plan.bound.limited_by = fmt::format("{} bandwidth", memory::name(slowest_tier));
    // Reading ahead and computing overlap with reading memory: the slowest of the three counts.
    const DeviceProfile* device = gpu_ != nullptr ? gpu_ : find_device(machine_, DeviceKind::cpu);
    if (device->int8_tops > 0) {
        const double compute = 2 * multiply_adds * static_cast<double>(workload_.sequences) /
                               (device->int8_tops * 1e12);
        if (compute > seconds) plan.bound.limited_by = "int8 arithmetic";
        seconds = std::max(seconds, compute);
    }
    if (plan.streaming.bytes > 0) {
        const double disk_gb_s = bandwidth(machine_, Tier::disk);
        if (disk_gb_s == 0) {
            plan.bound.limited_by = "unknown: the disk was not measured";
            return;
        }
        const double disk = static_cast<double>(plan.streaming.bytes) / (disk_gb_s * 1e9);
        if (disk > seconds) plan.bound.limited_by = "disk bandwidth";
        seconds = std::max(seconds, disk);
    }
    plan.bound.tok_s = static_cast<double>(workload_.sequences) / seconds;
}

void Planner::fill_in(Plan& plan, const std::vector<Tier>& tiers, const Shape& shape) const {
    plan.fits = true;
    Ledger ledger = ledger_;
    const auto put = [&](Placement placement, Tier tier) {
        placement.tier = tier;
        ledger.reserve(tier, placement.bytes);
        for (TierUse& use : plan.tiers) {
            if (use.tier != tier) continue;
            use.used_bytes += placement.bytes;
            use.by_what[static_cast<std::size_t>(placement.what)] += placement.bytes;
        }
        // On a machine whose GPU runs the model, only the CPU reads what lies in host.
        const bool visible = gpu_ == nullptr || std::ranges::count(gpu_->tiers, tier) > 0;
        if (tier == Tier::host && !visible && placement.read_bytes > 0)
            plan.overflow_bytes += placement.bytes;
        plan.placements.push_back(std::move(placement));
    };
    const auto put_buffers = [&](const char* name, What what, std::uint64_t bytes) {
        Placement buffers;
        buffers.name = name;
        buffers.what = what;
        buffers.bytes = bytes;
        put(std::move(buffers), tiers.back());
    };
    for (std::size_t i = 0; i < items_.size(); ++i) {
        if (tiers[i] == Tier::disk) plan.streaming.bytes += items_[i].file_bytes;
        put(items_[i].placement, tiers[i]);
    }
    if (shape.streams()) {
        plan.streaming.layers = shape.streamed();
        plan.streaming.buffers = shape.n_buffers;
        plan.streaming.buffer_bytes = buffer_bytes_;
        put_buffers("stream ring", What::stream_ring, ring_bytes(shape));
    }
    if (const std::uint64_t bytes = staging_bytes(shape); bytes > 0)
        put_buffers("staging", What::staging, bytes);
    for (TierUse& use : plan.tiers) use.headroom_bytes = ledger.room(use.tier);
}

/// By halving; `low` fits (0: nothing does yet), `high` does not.
std::size_t Planner::largest_context(std::size_t low, std::size_t high, bool streaming) const {
    while (high - low > 1) {
        Workload other = workload_;
        other.context = low + (high - low) / 2;
        const bool fits = Planner(model_, other, machine_, options_, chains_).feasible(streaming);
        (fits ? low : high) = other.context;
    }
    return low;
}

std::string Planner::not_fitting(const Plan& plan) const {
    const auto size = [](std::uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); };
    const bool limited = options_.memory_limit_bytes > 0;
    const std::uint64_t besides = options_.reserve_bytes + (limited ? options_.process_bytes : 0);
    std::uint64_t allowed = plan.allowed_bytes + besides;
    if (limited) allowed = std::min(allowed, options_.memory_limit_bytes);
    std::string text = fmt::format("does not fit: needs {}, {} allowed",
                                   size(plan.needed_bytes + besides), size(allowed));
    std::vector<std::string> ways;
    if (plan.max_context > 0) ways.push_back(fmt::format("--ctx {}", plan.max_context));
    if (tensor::info(workload_.kv_type).block_size == 1 && model_.head_dim % 32 == 0) {
        Workload other = workload_;
        other.kv_type = tensor::DType::q8_0;
        if (Planner(model_, other, machine_, options_, chains_).feasible(true))
            ways.push_back("--kv-type q8_0");
    }
    if (limited) {
        const Shape& least = *std::ranges::min_element(
            shapes_, {}, [&](const Shape& shape) { return bytes_with(shape); });
        PlanOptions other = options_;
        const std::uint64_t mb = (besides + bytes_with(least)) / 1'000'000 + 1;
        other.memory_limit_bytes = mb * 1'000'000;
        if (Planner(model_, workload_, machine_, other, chains_).feasible(true)) {
            ways.push_back(fmt::format("--memory-limit {}MB{}", mb,
                                       least.streams() ? " (layers streamed)" : ""));
        }
    }
    for (std::size_t i = 0; i < ways.size(); ++i)
        text += (i == 0 ? "; fits with " : " or ") + ways[i];
    if (ways.empty()) text += fmt::format("; the weights alone are {}", size(plan.weight_bytes));
    return text;
}

Plan Planner::plan() const {
    Plan plan;
    plan.weight_bytes = model_.weight_bytes();
    for (const std::string_view group : kRoleGroups) {
        std::uint64_t bytes = 0;
        for (const TensorSpec& tensor : model_.tensors)
            if (role_group(tensor.role) == group) bytes += tensor.bytes;
        plan.weights_by_role.emplace_back(group, bytes);
    }
    for (const Item& item : items_) {
        const Placement& p = item.placement;
        plan.needed_bytes += p.bytes;
        if (p.what == What::kv_cache) {
            plan.kv_bytes += p.read_bytes;
            plan.kv_chunk_bytes += p.bytes - p.read_bytes;
        } else if (p.what != What::weight) {
            plan.other_bytes += p.bytes;
        }
    }
    Ledger ledger = ledger_;
    const Shape whole{model_.n_layers, model_.n_layers, 0};
    plan.needed_bytes += staging_bytes(whole);
    plan.other_bytes += staging_bytes(whole);
    std::vector<std::vector<Tier>> chains(chains_.by_class.begin(), chains_.by_class.end());
    chains.push_back(chains_.buffers);
    for (const auto& chain : chains) {
        for (const Tier tier : chain) {
            if (std::ranges::count(plan.tiers, tier, &TierUse::tier) > 0) continue;
            TierUse use;
            use.tier = tier;
            const TierProfile& profile = *machine_.tier(tier);
            use.capacity_bytes =
                std::min(profile.capacity_bytes, machine_.pool(profile.pool)->available_bytes);
            use.read_gb_s = profile.read_gb_s;
            use.measured = profile.measured;
            use.headroom_bytes = ledger_.room(tier);
            plan.tiers.push_back(use);
            const std::uint64_t room = ledger.room(tier);
            ledger.reserve(tier, room);
            plan.allowed_bytes += room;
        }
    }
    std::ranges::stable_sort(plan.tiers, std::greater(),
                             [&](const TierUse& use) { return bandwidth(machine_, use.tier); });

    std::optional<std::vector<Tier>> tiers;
    const Shape* shape = shapes_.data();
    for (; shape != shapes_.data() + shapes_.size(); ++shape) {
        tiers = best(*shape);
        if (tiers) break;
    }
    if (!tiers) {
        // Below the one asked for: what fills tiers one after the other can fail there and find
        // room again with more, which is no advice.
        plan.max_context = largest_context(0, workload_.context, true);
        plan.verdict = not_fitting(plan);
        return plan;
    }
    fill_in(plan, *tiers, *shape);
    bind(plan, *tiers);
    // Where it streams, a longer context may push more layers out, down to none.
    plan.max_context = largest_context(workload_.context, model_.max_context + 1, shape->streams());
    plan.verdict = "fits";
    if (const std::size_t n = plan.streaming.layers.size(); n > 0) {
        plan.verdict += fmt::format(" with {} {} streamed", n, n == 1 ? "layer" : "layers");
        if (plan.bound.tok_s > 0) {
            plan.verdict += plan.bound.tok_s < 10
                                ? fmt::format(": about {:.1f} tok/s", plan.bound.tok_s)
                                : fmt::format(": about {:.0f} tok/s", plan.bound.tok_s);
        }
    } else if (plan.overflow_bytes > 0) {
        plan.verdict += fmt::format(" with {} overflowing to host",
                                    human_bytes(static_cast<double>(plan.overflow_bytes)));
    }
    return plan;
}

}  // namespace

std::string_view name(Policy policy) {
    switch (policy) {
        case Policy::automatic: return "auto";
        case Policy::hma: return "hma";
        case Policy::roles: return "roles";
    }
    return "unknown";
}

Result<Policy> find_policy(std::string_view text) {
    for (const Policy policy : {Policy::automatic, Policy::hma, Policy::roles})
        if (name(policy) == text) return policy;
    return fail(ErrorCode::invalid_argument, "no policy is called '{}'; there are auto, hma, roles",
                text);
}

std::string_view name(StreamPolicy policy) { return policy == StreamPolicy::pin ? "pin" : "lru"; }

Result<StreamPolicy> find_stream_policy(std::string_view text) {
    for (const StreamPolicy policy : {StreamPolicy::pin, StreamPolicy::lru})
        if (name(policy) == text) return policy;
    return fail(ErrorCode::invalid_argument,
                "no policy of streaming is called '{}'; there are pin, lru", text);
}

std::string_view name(What what) {
    switch (what) {
        case What::weight: return "weights";
        case What::kv_cache: return "KV cache";
        case What::activations: return "activations";
        case What::scratch: return "scratch";
        case What::staging: return "staging";
        case What::stream_ring: return "stream ring";
    }
    return "unknown";
}

Result<Plan> make_plan(const ModelSpec& model, const Workload& workload,
                       const HardwareProfile& machine, const PlanOptions& options) {
    if (auto status = validate(machine); !status) return forward(status);
    if (workload.context == 0 || workload.sequences == 0 || workload.chunk_tokens == 0) {
        return fail(ErrorCode::invalid_argument,
                    "a context, sequences and chunks are of at least 1");
    }
    if (workload.context > model.max_context) {
        return fail(ErrorCode::invalid_argument,
                    "a context of {} tokens is more than the model's {}", workload.context,
                    model.max_context);
    }
    auto chains = tier_chains(machine, options);
    if (!chains) return forward(chains);
    return Planner(model, workload, machine, options, std::move(*chains)).plan();
}

}  // namespace unicorn::plan
