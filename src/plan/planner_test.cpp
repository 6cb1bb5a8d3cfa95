#include "plan/planner.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>

namespace unicorn::plan {
namespace {

using memory::Tier;
using tensor::DType;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr Tier kMemory[] = {Tier::vram, Tier::gtt, Tier::npu, Tier::host};
constexpr Policy kPolicies[] = {Policy::automatic, Policy::hma, Policy::roles};

ModelSpec make_model(std::size_t n_layers, std::size_t dim, std::size_t ffn_dim,
                     std::size_t n_vocab, DType type) {
    ModelSpec m;
    m.name = "random";
    m.n_layers = n_layers;
    m.dim = dim;
    m.ffn_dim = ffn_dim;
    m.n_heads = 4;
    m.n_kv_heads = 2;
    m.head_dim = 64;
    m.n_vocab = n_vocab;
    m.max_context = 8192;
    m.window = 256;
    const auto add = [&](std::string name, DType dtype, std::size_t rows, std::size_t cols) {
        m.tensors.push_back(describe_tensor(std::move(name), dtype, rows, cols));
    };
    add("token_embd.weight", DType::q8_0, n_vocab, dim);
    for (std::size_t i = 0; i < n_layers; ++i) {
        const auto name = [&](const char* part) {
            return fmt::format("blk.{}.{}.weight", i, part);
        };
        add(name("attn_norm"), DType::f32, 1, dim);
        add(name("attn_q"), type, 256, dim);
        add(name("attn_k"), type, 128, dim);
        add(name("attn_v"), type, 128, dim);
        add(name("attn_output"), type, dim, 256);
        add(name("ffn_gate"), type, ffn_dim, dim);
        add(name("ffn_up"), type, ffn_dim, dim);
        add(name("ffn_down"), type, dim, ffn_dim);
    }
    add("output_norm.weight", DType::f32, 1, dim);
    return m;
}

/// An APU: `system` and `carveout` bytes available.
HardwareProfile make_apu(std::uint64_t system, std::uint64_t carveout, std::uint64_t gtt,
                         std::uint64_t npu) {
    HardwareProfile p = cpu_only_profile(system, system);
    p.name = "apu";
    p.tiers[0].read_gb_s = 60;
    p.pools.push_back({"carveout", carveout, carveout});
    p.tiers.push_back({Tier::vram, "carveout", carveout, 75, false});
    p.tiers.push_back({Tier::gtt, "system", gtt, 70, false});
    p.tiers.push_back({Tier::npu, "system", npu, 20, false});
    p.tiers.push_back({Tier::disk, "", std::uint64_t{1} << 40, 5, false});
    p.devices.push_back({DeviceKind::gpu, "iGPU", true, false, 0, 0, {Tier::vram, Tier::gtt}});
    p.devices.push_back({DeviceKind::npu, "NPU", false, false, 0, 0, {Tier::npu}});
    return p;
}

std::uint64_t used(const Plan& plan, Tier tier) {
    std::uint64_t bytes = 0;
    for (const Placement& p : plan.placements) bytes += p.tier == tier ? p.bytes : 0;
    return bytes;
}

const Placement& placement(const Plan& plan, const std::string& name) {
    const auto found = std::ranges::find(plan.placements, name, &Placement::name);
    if (found == plan.placements.end()) throw std::out_of_range(name);
    return *found;
}

Plan plan_of(const ModelSpec& model, const HardwareProfile& machine, PlanOptions options = {},
             Workload workload = {}) {
    auto plan = make_plan(model, workload, machine, options);
    if (!plan) throw std::runtime_error(plan.error().message);
    return std::move(*plan);
}

// ---- properties -------------------------------------------------------------------------------

struct Case {
    ModelSpec model;
    HardwareProfile machine;
    Workload workload;
    PlanOptions options;
};

/// Sizes around that of the model, so that most machines are too small for something.
Case random_case(bool any_policy = true) {
    Case c;
    const auto pick = [](std::size_t low, std::size_t high) {
        return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::size_t>(low, high + 1));
    };
    const DType types[] = {DType::q4_0, DType::q8_0, DType::f16};
    c.model = make_model(pick(1, 14), 256 * pick(1, 4), 256 * pick(1, 8), 32 * pick(1, 400),
                         types[pick(0, 2)]);
    c.workload.context = pick(1, 8192);
    c.workload.sequences = pick(1, 4);
    c.workload.chunk_tokens = pick(1, 512);
    const std::size_t scratch_a_token = pick(0, 100);
    c.workload.scratch_bytes = [=](const Workload& w) { return w.context * scratch_a_token; };
    c.workload.load_staging_bytes = pick(0, 1) * pick(1, 1'000'000);
    c.workload.stream_staging_bytes = pick(0, 1) * pick(1, 300'000);
    const std::uint64_t whole =
        plan_of(c.model, make_apu(1ull << 40, 0, 0, 0), {}, c.workload).needed_bytes;
    const auto part = [&] { return whole * pick(0, 120) / 100; };
    c.machine = make_apu(part(), part(), part(), part());
    if (pick(0, 3) == 0)
        std::erase_if(c.machine.tiers,
                      [](const TierProfile& tier) { return tier.tier == Tier::disk; });
    for (TierProfile& tier : c.machine.tiers)
        if (tier.tier != Tier::disk) tier.read_gb_s = static_cast<double>(pick(10, 300));
    if (any_policy) c.options.policy = kPolicies[pick(0, 2)];
    c.options.cpu_only = c.options.policy == Policy::automatic && pick(0, 3) == 0;
    c.options.strict = pick(0, 3) == 0;
    c.options.memory_limit_bytes = pick(0, 2) == 0 ? part() : 0;
    c.options.process_bytes = pick(0, 1) * pick(1, 100'000);
    c.options.reserve_bytes = pick(0, 1) * pick(1, 100'000);
    if (pick(0, 3) == 0) c.options.stream = StreamPolicy::lru;
    return c;
}

/// What RapidCheck shows of a case that fails.
std::string describe(const HardwareProfile& machine, const PlanOptions& options, const Plan& plan) {
    std::string text =
        fmt::format("policy {}, cpu_only {}, strict {}, limit {}: {}\n", name(options.policy),
                    options.cpu_only, options.strict, options.memory_limit_bytes, plan.verdict);
    for (const Pool& pool : machine.pools)
        text += fmt::format("pool {} {}\n", pool.name, pool.available_bytes);
    for (const TierProfile& tier : machine.tiers)
        text += fmt::format("{} {} at {} GB/s\n", memory::name(tier.tier), tier.capacity_bytes,
                            tier.read_gb_s);
    for (const Placement& p : plan.placements)
        text += fmt::format("  {} {} in {}\n", p.name, p.bytes, memory::name(p.tier));
    return text;
}

TEST(PlannerProperties, EverythingIsPlacedOnceAndNothingOverflows) {
    std::map<std::string, int> seen;
    EXPECT_TRUE(rc::check("random machines", [&] {
        const Case c = random_case();
        const Plan plan = plan_of(c.model, c.machine, c.options, c.workload);
        RC_LOG(describe(c.machine, c.options, plan));
        if (!plan.fits) {
            ++seen["not"];
            RC_ASSERT(plan.placements.empty());
            RC_ASSERT(plan.verdict.starts_with("does not fit: needs "));
            RC_ASSERT(plan.max_context < c.workload.context);
            return;
        }
        ++seen[!plan.streaming.layers.empty() ? "streamed"
               : plan.overflow_bytes > 0      ? "over"
                                              : "fits"];

        // Every tensor once, and a cache for each layer.
        std::multiset<std::string> names;
        for (const Placement& p : plan.placements) names.insert(p.name);
        for (const TensorSpec& t : c.model.tensors) {
            RC_ASSERT(names.count(t.name) == 1u);
            RC_ASSERT(placement(plan, t.name).bytes == t.bytes);
        }
        for (std::size_t i = 0; i < c.model.n_layers; ++i)
            RC_ASSERT(names.count(fmt::format("kv.{}", i)) == 1u);
        RC_ASSERT(names.count("activations") == 1u);
        RC_ASSERT(names.size() == std::set<std::string>(names.begin(), names.end()).size());

        // No tier over its capacity, no pool over its size, no limit passed.
        std::map<std::string, std::uint64_t> pools;
        std::uint64_t all = 0;
        for (const Tier tier : kMemory) {
            const std::uint64_t bytes = used(plan, tier);
            RC_ASSERT(bytes <= c.machine.tier(tier)->capacity_bytes);
            pools[c.machine.tier(tier)->pool] += bytes;
            all += bytes;
        }
        for (const auto& [pool, bytes] : pools)
            RC_ASSERT(bytes <= c.machine.pool(pool)->available_bytes);
        RC_ASSERT((c.options.memory_limit_bytes == 0 ||
                   all + c.options.process_bytes <= c.options.memory_limit_bytes));
        const std::uint64_t host = c.machine.tier(Tier::host)->capacity_bytes;
        RC_ASSERT((used(plan, Tier::host) == 0 ||
                   used(plan, Tier::host) + c.options.reserve_bytes <= host));

        // What is shown is what is placed.
        for (const TierUse& use : plan.tiers) {
            RC_ASSERT(use.used_bytes == used(plan, use.tier));
            RC_ASSERT(use.used_bytes + use.headroom_bytes <= use.capacity_bytes);
            std::uint64_t parts = 0;
            for (const std::uint64_t bytes : use.by_what) parts += bytes;
            RC_ASSERT(parts == use.used_bytes);
        }
        RC_ASSERT(plan.max_context >= c.workload.context);

        // Only matrices of streamed layers are, all of them, through buffers that hold any layer.
        std::map<std::size_t, std::uint64_t> streamed;
        for (const Placement& p : plan.placements) {
            const bool matrix =
                p.what == What::weight && p.role != Role::norm && p.layer != kNoLayer;
            const bool wanted = matrix && std::ranges::count(plan.streaming.layers, p.layer) == 1;
            RC_ASSERT((p.tier == Tier::disk) == wanted);
            if (wanted) streamed[p.layer] += p.bytes;
        }
        RC_ASSERT(streamed.size() == plan.streaming.layers.size());
        for (const auto& [layer, bytes] : streamed) RC_ASSERT(bytes <= plan.streaming.buffer_bytes);
        RC_ASSERT(plan.streaming.buffers <= plan.streaming.layers.size());
        RC_ASSERT((!plan.streaming.layers.empty()) == (used(plan, Tier::disk) > 0));
        RC_ASSERT(used(plan, Tier::disk) == plan.streaming.bytes);
        RC_ASSERT((plan.streaming.layers.empty() || placement(plan, "stream ring").bytes > 0));

        // Strict never spills: not to the CPU's memory, where a GPU runs the model, not to disk.
        if (c.options.strict) {
            RC_ASSERT(plan.streaming.layers.empty());
            RC_ASSERT(plan.overflow_bytes == 0u);
            RC_ASSERT((c.options.cpu_only || used(plan, Tier::host) == 0u));
        }
    }));
    // The generator reaches every kind of plan.
    for (const char* kind : {"not", "streamed", "over", "fits"}) EXPECT_GT(seen[kind], 0) << kind;
}

TEST(PlannerProperties, ABiggerMachineNeverGetsAWorsePlan) {
    int compared = 0;
    EXPECT_TRUE(rc::check("growing machines", [&] {
        const Case c = random_case();
        HardwareProfile bigger = c.machine;
        PlanOptions options = c.options;
        const auto more = [](std::uint64_t bytes) {
            return bytes + *rc::gen::resize(rc::kNominalSize,
                                            rc::gen::inRange<std::uint64_t>(0, 4'000'000)) *
                               *rc::gen::element<std::uint64_t>(0, 1, 3);
        };
        for (Pool& pool : bigger.pools) {
            pool.available_bytes = more(pool.available_bytes);
            pool.capacity_bytes = pool.available_bytes;
        }
        const double faster = *rc::gen::element(1.0, 1.5);
        for (TierProfile& tier : bigger.tiers) {
            tier.capacity_bytes = more(tier.capacity_bytes);
            tier.read_gb_s *= faster;
        }
        if (options.memory_limit_bytes > 0)
            options.memory_limit_bytes = more(options.memory_limit_bytes);
        const Plan small = plan_of(c.model, c.machine, c.options, c.workload);
        const Plan large = plan_of(c.model, bigger, options, c.workload);
        if (!small.fits) return;
        RC_LOG(describe(c.machine, c.options, small) + describe(bigger, options, large));
        ++compared;
        RC_ASSERT(large.fits);
        RC_ASSERT(large.streaming.layers.size() <= small.streaming.layers.size());
        // The forms of placement that a policy prescribes may be slow ones; `auto` looks for speed.
        if (c.options.policy == Policy::automatic &&
            large.streaming.layers.size() == small.streaming.layers.size())
            RC_ASSERT(large.bound.tok_s >= small.bound.tok_s * (1 - 1e-9));
    }));
    EXPECT_GT(compared, 10);
}

// ---- policies ---------------------------------------------------------------------------------

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

TEST(Planner, AutoFillsTheFastestTierFirst) {
    const ModelSpec model = make_model(12, 512, 1024, 10'000, DType::q4_0);
    HardwareProfile machine = make_apu(kGiB, kGiB, kGiB, kGiB);
    Plan plan = plan_of(model, machine);
    EXPECT_EQ(plan.verdict, "fits");
    for (const Placement& p : plan.placements)
        EXPECT_EQ(p.tier, p.what == What::staging ? Tier::gtt : Tier::vram) << p.name;
    EXPECT_EQ(plan.tiers.front().tier, Tier::vram);
    EXPECT_EQ(plan.bound.limited_by, "vram bandwidth");

    // Were gtt faster, gtt would.
    machine.tiers[2].read_gb_s = 80;
    plan = plan_of(model, machine);
    EXPECT_EQ(placement(plan, "token_embd.weight").tier, Tier::gtt);
}

TEST(Planner, WhatChangesStaysInItsTierAndWeightsOverflow) {
    const ModelSpec model = make_model(8, 512, 2048, 5'000, DType::q8_0);
    PlanOptions options;
    options.strict = true;
    options.state_tier = Tier::vram;
    const std::uint64_t all = plan_of(model, make_apu(0, kGiB, kGiB, 0), options).needed_bytes;
    const HardwareProfile machine = make_apu(all, all * 3 / 4, all, 0);
    const Plan plan = plan_of(model, machine, options);
    ASSERT_TRUE(plan.fits) << plan.verdict;
    std::set<Tier> weights;
    for (const Placement& p : plan.placements) {
        if (p.what == What::staging) continue;
        if (p.what == What::weight) {
            weights.insert(p.tier);
        } else {
            EXPECT_EQ(p.tier, Tier::vram) << p.name;
        }
    }
    EXPECT_EQ(weights, (std::set{Tier::vram, Tier::gtt}));
    // Not where there is no room for it.
    EXPECT_FALSE(plan_of(model, make_apu(kGiB, 1 << 20, kGiB, 0), options).fits);
}

TEST(Planner, HmaPutsMatricesIntoGttAndSmallThingsIntoVram) {
    const ModelSpec model = make_model(12, 512, 1024, 10'000, DType::q4_0);
    const Plan plan = plan_of(model, make_apu(kGiB, kGiB, kGiB, 0), {.policy = Policy::hma});
    for (const Placement& p : plan.placements) {
        const bool matrix = p.what == What::weight && p.role != Role::norm;
        const bool bulk = matrix || p.what == What::staging;
        EXPECT_EQ(p.tier, bulk ? Tier::gtt : Tier::vram) << p.name;
    }
}

TEST(Planner, RolesFollowTheDesign) {
    const ModelSpec model = make_model(14, 512, 1024, 10'000, DType::q4_0);
    const ActivationBytes activations = activation_bytes(model, {});
    // The NPU has room for attention's activations and the attention of four layers.
    const std::uint64_t attention = (256 + 128 + 128 + 256) * 512 / 32 * 18;
    const Plan plan =
        plan_of(model, make_apu(kGiB, kGiB, kGiB, activations.attention + 4 * attention + 1000),
                {.policy = Policy::roles});
    EXPECT_EQ(placement(plan, "attention activations").tier, Tier::npu);
    EXPECT_EQ(placement(plan, "token_embd.weight").tier, Tier::vram);
    EXPECT_EQ(placement(plan, "output_norm.weight").tier, Tier::vram);
    EXPECT_EQ(placement(plan, "blk.13.attn_norm.weight").tier, Tier::vram);
    for (std::size_t i = 0; i < 14; ++i) {
        const auto tier = [&](const char* part) {
            return placement(plan, fmt::format("blk.{}.{}.weight", i, part)).tier;
        };
        for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_output"})
            EXPECT_EQ(tier(part), i < 4 ? Tier::npu : Tier::gtt) << i << part;
        for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"})
            EXPECT_EQ(tier(part), i < 10 ? Tier::vram : Tier::gtt) << i << part;
    }
}

TEST(Planner, APolicyThatNamesMissingMemoryIsRefused) {
    const ModelSpec model = make_model(2, 512, 1024, 1000, DType::q4_0);
    const HardwareProfile cpu = cpu_only_profile(kGiB, kGiB);
    for (const Policy policy : {Policy::hma, Policy::roles}) {
        EXPECT_EQ(make_plan(model, {}, cpu, {.policy = policy}).error().code,
                  ErrorCode::unsupported);
        const auto plan = make_plan(model, {}, make_apu(kGiB, kGiB, kGiB, kGiB),
                                    {.policy = policy, .cpu_only = true});
        ASSERT_FALSE(plan);
        EXPECT_THAT(plan.error().message, HasSubstr("the device cpu has none"));
    }
}

TEST(Planner, ASoftwareGpuIsNotUsed) {
    HardwareProfile machine = make_apu(kGiB, kGiB, kGiB, kGiB);
    machine.devices[1].software = true;
    const Plan plan = plan_of(make_model(2, 512, 1024, 1000, DType::q4_0), machine);
    for (const Placement& p : plan.placements) EXPECT_EQ(p.tier, Tier::host) << p.name;
}

// ---- limits -----------------------------------------------------------------------------------

TEST(Planner, WhatDoesNotFitSaysWhatWould) {
    const ModelSpec model = make_model(12, 512, 1024, 10'000, DType::q4_0);
    const HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    Workload workload;
    workload.context = 8192;
    const std::uint64_t needed = plan_of(model, machine, {}, workload).needed_bytes;
    PlanOptions options;
    options.memory_limit_bytes = needed - 1;
    const Plan plan = plan_of(model, machine, options, workload);
    EXPECT_FALSE(plan.fits);
    EXPECT_EQ(plan.allowed_bytes, needed - 1);
    EXPECT_LT(plan.max_context, 8192u);
    EXPECT_GT(plan.max_context, 7000u);
    EXPECT_THAT(plan.verdict, HasSubstr(fmt::format("--ctx {}", plan.max_context)));
    EXPECT_THAT(plan.verdict, HasSubstr("--kv-type q8_0"));
    EXPECT_THAT(plan.verdict, HasSubstr("--memory-limit "));

    // It tells the truth, and not less than there is.
    workload.context = plan.max_context;
    EXPECT_TRUE(plan_of(model, machine, options, workload).fits);
    workload.context = plan.max_context + 32;
    EXPECT_FALSE(plan_of(model, machine, options, workload).fits);
    options.memory_limit_bytes = needed;
    workload.context = 8192;
    EXPECT_TRUE(plan_of(model, machine, options, workload).fits);

    // What the process takes besides is part of the limit, and of the limit that would do.
    options.memory_limit_bytes = needed;
    options.process_bytes = 50'000'000;
    const Plan besides = plan_of(model, machine, options, workload);
    ASSERT_FALSE(besides.fits);
    EXPECT_THAT(besides.verdict, HasSubstr(fmt::format("--memory-limit {}MB",
                                                       (needed + 50'000'000) / 1'000'000 + 1)));
    options.process_bytes = 0;

    options.memory_limit_bytes = 1'000'000;
    EXPECT_THAT(plan_of(model, cpu_only_profile(1'000'000, 1'000'000), options, workload).verdict,
                HasSubstr("the weights alone are"));
}

TEST(Planner, LayersThatDoNotFitAreStreamedAndTheDiskBounds) {
    const ModelSpec model = make_model(12, 1024, 4096, 10'000, DType::q8_0);
    HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    machine.tiers[0].read_gb_s = 60;
    machine.tiers.push_back({Tier::disk, "", kGiB, 2, false});
    const Plan whole = plan_of(model, machine);
    PlanOptions options;
    options.memory_limit_bytes = whole.needed_bytes * 2 / 3;
    const Plan plan = plan_of(model, machine, options);
    ASSERT_TRUE(plan.fits) << plan.verdict;
    const std::size_t n = plan.streaming.layers.size();
    EXPECT_GT(n, 0u);
    EXPECT_LT(n, 12u);
    EXPECT_EQ(plan.streaming.buffers, 2u);
    const std::uint64_t layer = plan.streaming.bytes / n;
    EXPECT_EQ(plan.streaming.buffer_bytes, layer);
    EXPECT_EQ(plan.bound.limited_by, "disk bandwidth");
    EXPECT_NEAR(plan.bound.tok_s, 2e9 / static_cast<double>(plan.streaming.bytes), 1e-6);
    EXPECT_THAT(plan.verdict, StartsWith(fmt::format("fits with {} layers streamed", n)));

    // No layer is streamed that could stay: one more does not fit.
    EXPECT_GT(plan.tiers[0].used_bytes + layer, options.memory_limit_bytes);
    options.process_bytes = layer;
    EXPECT_EQ(plan_of(model, machine, options).streaming.layers.size(), n + 1);
    options.process_bytes = 0;

    options.may_stream = false;
    EXPECT_FALSE(plan_of(model, machine, options).fits);
    options.may_stream = true;
    options.strict = true;
    EXPECT_FALSE(plan_of(model, machine, options).fits);
}

TEST(Planner, TheStreamLeavesPinnedLayersBetweenAndLruKeepsNone) {
    const ModelSpec model = make_model(12, 1024, 4096, 10'000, DType::q8_0);
    HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    machine.tiers.push_back({Tier::disk, "", kGiB, 2, false});
    PlanOptions options;
    options.max_pinned_layers = 6;
    const Plan half = plan_of(model, machine, options);
    EXPECT_EQ(half.streaming.layers, (std::vector<std::size_t>{0, 2, 4, 6, 8, 10}));
    EXPECT_EQ(half.streaming.buffers, 2u);

    // Buffers are what an LRU cache would have: as many as there is room for, and no layer stays.
    const std::uint64_t layer = half.streaming.buffer_bytes;
    options = {};
    options.stream = StreamPolicy::lru;
    EXPECT_TRUE(plan_of(model, machine, options).streaming.layers.empty());
    options.memory_limit_bytes = plan_of(model, machine).needed_bytes - 5 * layer;
    const Plan lru = plan_of(model, machine, options);
    EXPECT_EQ(lru.streaming.layers.size(), 12u);
    EXPECT_EQ(lru.streaming.buffers, 7u);
    options.read_ahead = 3;
    EXPECT_EQ(plan_of(model, machine, options).streaming.buffers, 4u);
    for (const StreamPolicy policy : {StreamPolicy::pin, StreamPolicy::lru})
        EXPECT_EQ(*find_stream_policy(name(policy)), policy);
    EXPECT_EQ(find_stream_policy("fifo").error().code, ErrorCode::invalid_argument);
}

TEST(Planner, BuffersForLoadingCountAsFarAsNothingTakesTheirPlaceLater) {
    const ModelSpec model = make_model(12, 512, 1024, 10'000, DType::q4_0);
    const HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    Workload workload;
    const std::uint64_t bare = plan_of(model, machine, {}, workload).needed_bytes;
    workload.load_staging_bytes = 5000;
    EXPECT_EQ(plan_of(model, machine, {}, workload).needed_bytes, bare + 5000);
    workload.scratch_bytes = [](const Workload&) { return 3000; };
    EXPECT_EQ(plan_of(model, machine, {}, workload).needed_bytes, bare + 5000);
    workload.scratch_bytes = [](const Workload&) { return 7000; };
    EXPECT_EQ(plan_of(model, machine, {}, workload).needed_bytes, bare + 7000);
}

TEST(Planner, TheBoundIsBytesOverBandwidth) {
    const ModelSpec model = make_model(12, 512, 1024, 10'000, DType::q4_0);
    HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    machine.tiers[0].read_gb_s = 50;
    Workload workload;
    const Plan one = plan_of(model, machine, {}, workload);
    EXPECT_EQ(one.read_bytes_per_token, one.weight_bytes + one.kv_bytes);
    EXPECT_NEAR(one.bound.tok_s, 50e9 / static_cast<double>(one.read_bytes_per_token), 1e-6);
    double seconds = 0;
    for (const BoundPart& part : one.bound.parts) seconds += part.seconds;
    EXPECT_NEAR(one.bound.tok_s, 1 / seconds, 1e-6);

    // Four sequences share the weights.
    workload.sequences = 4;
    const Plan four = plan_of(model, machine, {}, workload);
    EXPECT_EQ(four.kv_bytes, 4 * one.kv_bytes);
    EXPECT_EQ(four.read_bytes_per_token, one.weight_bytes / 4 + one.kv_bytes);
    EXPECT_NEAR(four.bound.tok_s, 50e9 / static_cast<double>(four.read_bytes_per_token), 1e-3);

    machine.tiers[0].read_gb_s = 0;
    const Plan unknown = plan_of(model, machine);
    EXPECT_TRUE(unknown.fits);
    EXPECT_EQ(unknown.bound.tok_s, 0);
    EXPECT_THAT(unknown.bound.limited_by, HasSubstr("no bandwidth was measured"));

    machine.tiers[0].read_gb_s = 50;
    machine.devices[0].int8_tops = 1e-6;
    EXPECT_EQ(plan_of(model, machine).bound.limited_by, "int8 arithmetic");
}

TEST(Planner, AnUntiedEmbeddingIsLookedUpNotRead) {
    ModelSpec model = make_model(2, 512, 1024, 10'000, DType::q4_0);
    const HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    const std::uint64_t tied = plan_of(model, machine).read_bytes_per_token;
    model.tensors.push_back(describe_tensor("output.weight", DType::q8_0, 10'000, 512));
    EXPECT_EQ(plan_of(model, machine).read_bytes_per_token, tied + 512 / 32 * 34);
}

TEST(Planner, RequestsThatMakeNoSenseAreErrors) {
    const ModelSpec model = make_model(2, 512, 1024, 1000, DType::q4_0);
    const HardwareProfile machine = cpu_only_profile(kGiB, kGiB);
    Workload workload;
    workload.context = 8193;
    EXPECT_THAT(make_plan(model, workload, machine, {}).error().message,
                HasSubstr("more than the model's 8192"));
    workload.context = 0;
    EXPECT_EQ(make_plan(model, workload, machine, {}).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(find_policy("lru").error().code, ErrorCode::invalid_argument);
    for (const Policy policy : kPolicies) EXPECT_EQ(*find_policy(name(policy)), policy);
}

}  // namespace
}  // namespace unicorn::plan
