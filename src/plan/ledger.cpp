#include "plan/ledger.h"

#include <algorithm>
#include <limits>

namespace unicorn::plan {

using memory::Tier;

Ledger::Ledger(const HardwareProfile& profile, std::uint64_t limit_bytes)
    : limit_left_(limit_bytes == 0 ? std::numeric_limits<std::uint64_t>::max() : limit_bytes) {
    for (const Pool& pool : profile.pools) pools_.push_back(pool.available_bytes);
    pools_.push_back(0);  // of the tiers that the machine does not have
    for (Entry& tier : tiers_) tier.pool = profile.pools.size();
    for (const TierProfile& tier : profile.tiers) {
        if (tier.tier == Tier::disk) continue;
        Entry& own = tiers_[static_cast<std::size_t>(tier.tier)];
        own.left = tier.capacity_bytes;
        own.pool = static_cast<std::size_t>(profile.pool(tier.pool) - profile.pools.data());
    }
}

std::uint64_t Ledger::room(Tier tier) const {
    return std::min({entry(tier).left, pools_[entry(tier).pool], limit_left_});
}

bool Ledger::reserve(Tier tier, std::uint64_t bytes) {
    Entry& own = tiers_[static_cast<std::size_t>(tier)];
    if (tier != Tier::disk) {
        if (bytes > room(tier)) return false;
        own.left -= bytes;
        pools_[own.pool] -= bytes;
        limit_left_ -= bytes;
    }
    own.used += bytes;
    return true;
}

}  // namespace unicorn::plan
