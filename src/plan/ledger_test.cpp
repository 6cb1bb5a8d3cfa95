#include "plan/ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>

namespace unicorn::plan {
namespace {

using memory::Tier;

HardwareProfile apu() {
    HardwareProfile p = cpu_only_profile(100, 80);
    p.pools.push_back({"carveout", 16, 16});
    p.tiers.push_back({Tier::gtt, "system", 50, 70, false});
    p.tiers.push_back({Tier::vram, "carveout", 20, 70, false});
    p.tiers.push_back({Tier::disk, "", 1000, 5, false});
    return p;
}

TEST(Ledger, TiersOfOnePoolShareItsBytes) {
    Ledger ledger(apu());
    EXPECT_EQ(ledger.room(Tier::host), 80u);
    EXPECT_EQ(ledger.room(Tier::gtt), 50u);
    EXPECT_EQ(ledger.room(Tier::vram), 16u);  // its pool is smaller than the tier
    EXPECT_EQ(ledger.room(Tier::npu), 0u);    // there is none
    EXPECT_TRUE(ledger.reserve(Tier::gtt, 45));
    EXPECT_EQ(ledger.room(Tier::host), 35u);
    EXPECT_FALSE(ledger.reserve(Tier::host, 36));
    EXPECT_TRUE(ledger.reserve(Tier::host, 35));
    EXPECT_EQ(ledger.room(Tier::gtt), 0u);  // five of its own left, and none of the pool
    EXPECT_EQ(ledger.room(Tier::vram), 16u);
    EXPECT_FALSE(ledger.reserve(Tier::npu, 1));
}

TEST(Ledger, ALimitHoldsOverAllPools) {
    Ledger ledger(apu(), 20);
    EXPECT_TRUE(ledger.reserve(Tier::vram, 12));
    EXPECT_EQ(ledger.room(Tier::host), 8u);
    EXPECT_FALSE(ledger.reserve(Tier::host, 9));
    EXPECT_TRUE(ledger.reserve(Tier::disk, 500));  // lies in its file already
    EXPECT_EQ(ledger.used(Tier::disk), 500u);
}

TEST(Ledger, NeverPromisesAByteTwice) {
    EXPECT_TRUE(rc::check("random requests", [](const std::vector<std::pair<int, int>>& requests) {
        const HardwareProfile machine = apu();
        const auto limit = *rc::gen::inRange<std::uint64_t>(0, 120);
        Ledger ledger(machine, limit);
        std::array<std::uint64_t, kTiers> granted{};
        for (const auto& [tier, bytes] : requests) {
            const auto which = static_cast<Tier>(static_cast<unsigned>(tier) % 4);
            const std::uint64_t wanted = static_cast<unsigned>(bytes) % 64;
            const std::uint64_t room = ledger.room(which);
            const bool got = ledger.reserve(which, wanted);
            RC_ASSERT(got == (wanted <= room));
            if (got) granted[static_cast<std::size_t>(which)] += wanted;
            RC_ASSERT(ledger.used(which) == granted[static_cast<std::size_t>(which)]);
        }
        const auto of = [&](Tier tier) { return granted[static_cast<std::size_t>(tier)]; };
        RC_ASSERT(of(Tier::npu) == 0u);
        RC_ASSERT(of(Tier::gtt) <= 50u);
        RC_ASSERT(of(Tier::gtt) + of(Tier::host) <= 80u);
        RC_ASSERT(of(Tier::vram) <= 16u);
        RC_ASSERT((limit == 0u || of(Tier::gtt) + of(Tier::host) + of(Tier::vram) <= limit));
    }));
}

}  // namespace
}  // namespace unicorn::plan
