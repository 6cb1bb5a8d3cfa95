#pragma once
// One account of a machine's physical memory: what is promised is gone, whichever tier it was
// promised in.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory/allocator.h"
#include "plan/hardware_profile.h"

namespace unicorn::plan {

inline constexpr std::size_t kTiers = 5;  // of memory::Tier

/// A promise is bounded three times: by its tier's capacity, by what is available of the pool that
/// the tier draws on, and by one limit over all memory. The disk is bounded by nothing: weights
/// that stay there lie in their file already.
class Ledger {
public:
    /// `limit_bytes` 0: no limit but the machine's.
    explicit Ledger(const HardwareProfile& profile, std::uint64_t limit_bytes = 0);

    /// Bytes that reserve() would still grant; 0 for a tier that the machine does not have.
    std::uint64_t room(memory::Tier tier) const;
    /// Takes `bytes` of a tier. False, and nothing taken, when there is less room.
    bool reserve(memory::Tier tier, std::uint64_t bytes);
    std::uint64_t used(memory::Tier tier) const { return entry(tier).used; }

private:
    struct Entry {
        std::uint64_t left = 0;  // of the tier's own capacity
        std::uint64_t used = 0;
        std::size_t pool = 0;  // index into pools_
    };
    const Entry& entry(memory::Tier tier) const { return tiers_[static_cast<std::size_t>(tier)]; }

    std::array<Entry, kTiers> tiers_{};
    std::vector<std::uint64_t> pools_;  // bytes left, in the order of the profile
    std::uint64_t limit_left_;
};

}  // namespace unicorn::plan
