#pragma once
// Who holds what: a pure function of a model's header, a workload and a machine. It touches no
// device and no weight, so every placement is a unit test.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "plan/hardware_profile.h"
#include "plan/ledger.h"
#include "plan/workload.h"

namespace unicorn::plan {

/// automatic  what reads most bytes a token goes into the fastest tier with room; where layers do
///            not all fit, the order that gives the highest bound
/// hma        activations, norms, and caches under 100 MB of a layer to vram; matrices and anything
///            larger to gtt; overflow to host
/// roles      attention weights of the first layers and attention's activations to npu; embedding,
///            norms, head and the FFN of the first 10 layers to vram; the rest to gtt; overflow to
///            host
enum class Policy { automatic, hma, roles };
std::string_view name(Policy policy);  // "auto", "hma", "roles"
/// Errors: invalid_argument, naming the policies.
Result<Policy> find_policy(std::string_view name);

/// Which layers stay in memory when not all can.
///
/// pin  as many as fit; only the others are read for each pass
/// lru  none: all pass through the ring, of read_ahead + 1 buffers at most. A pass reads the layers
/// in
///      a cycle, where a cache that throws out what was used least recently finds nothing as soon
///      as one layer does not fit, so this reads what such a cache would read. For comparison.
enum class StreamPolicy { pin, lru };
std::string_view name(StreamPolicy policy);  // "pin", "lru"
/// Errors: invalid_argument, naming the policies.
Result<StreamPolicy> find_stream_policy(std::string_view name);

/// Layers read ahead of the one in use, at most: what a disk wants (design section 3).
inline constexpr std::size_t kDiskReadAhead = 8;
inline constexpr std::size_t kAllLayers = std::numeric_limits<std::size_t>::max();

struct PlanOptions {
    Policy policy = Policy::automatic;
    bool cpu_only = false;  // host is the only tier
    bool strict = false;    // nothing overflows to host, nothing is streamed
    /// With policy automatic: the one tier of all that is no weight, which is placed first.
    std::optional<memory::Tier> state_tier = {};
    bool may_stream = true;  // weights that do not fit may be read from the disk
    StreamPolicy stream = StreamPolicy::pin;
    std::size_t read_ahead = kDiskReadAhead;     // layers
    std::size_t max_pinned_layers = kAllLayers;  // fewer than there are: streams in any case
    std::uint64_t memory_limit_bytes = 0;  // of the whole process, all tiers; 0: what there is
    std::uint64_t reserve_bytes = 0;       // of host, kept for what the plan does not list
    std::uint64_t process_bytes = 0;       // of the limit: what the process takes besides the plan
};

enum class What { weight, kv_cache, activations, scratch, staging, stream_ring };
inline constexpr std::size_t kWhats = 6;
std::string_view name(What what);  // "weights", "KV cache", ...

/// One thing that takes memory, and where it is.
struct Placement {
    std::string name;
    What what = What::weight;
    Role role = Role::norm;  // of a weight
    std::size_t layer = kNoLayer;
    std::uint64_t bytes = 0;
    std::uint64_t read_bytes = 0;            // for each pass
    memory::Tier tier = memory::Tier::host;  // disk: streamed through the ring
};

struct TierUse {
    memory::Tier tier = memory::Tier::host;
    std::uint64_t capacity_bytes = 0;  // the tier's own, or what is available of its pool if less
    std::uint64_t used_bytes = 0;
    std::uint64_t headroom_bytes = 0;  // what could still be placed here
    double read_gb_s = 0;
    bool measured = false;
    std::array<std::uint64_t, kWhats> by_what{};
};

/// A share of the time that one pass takes.
struct BoundPart {
    std::string name;  // "gate+up", "KV cache"
    std::uint64_t read_bytes = 0;
    double seconds = 0;
};

/// The most tokens a second that the machine's memory allows; all sequences together.
struct Bound {
    double tok_s = 0;        // 0: a bandwidth is not known
    std::string limited_by;  // "gtt bandwidth", "disk bandwidth", "int8 arithmetic"
    std::vector<BoundPart> parts;
};

/// Streamed layers are spread evenly: while a pinned one computes, the next streamed one is read.
struct Streaming {
    std::vector<std::size_t> layers;  // ascending
    std::uint64_t bytes = 0;          // read from the disk for each pass
    std::size_t buffers = 0;          // of the ring, a layer each
    std::uint64_t buffer_bytes = 0;
};

struct Plan {
    bool fits = false;
    std::string verdict;  // "fits", "fits with 18 layers streamed: about 0.6 tok/s", "does not ..."
    std::vector<Placement> placements;  // empty when it does not fit
    std::vector<TierUse> tiers;         // those that the plan may use, fastest first
    std::uint64_t weight_bytes = 0;
    std::vector<std::pair<std::string, std::uint64_t>> weights_by_role;  // "q+k+v", bytes
    std::uint64_t kv_bytes = 0;        // keys and values that a full context holds
    std::uint64_t kv_chunk_bytes = 0;  // more, for chunks of a prompt that pass through windows
    std::uint64_t other_bytes = 0;     // activations, scratch, staging
    std::uint64_t overflow_bytes = 0;  // in host, although the policy would have it elsewhere
    std::size_t max_context = 0;       // that fits, streaming only if this plan streams; 0: none
    std::uint64_t read_bytes_per_token = 0;
    Bound bound;
    Streaming streaming;
    std::uint64_t needed_bytes = 0;   // without streaming
    std::uint64_t allowed_bytes = 0;  // by the tiers, their pools and the limit
};

/// Errors: unsupported, for a policy that names memory which the machine does not have.
Result<Plan> make_plan(const ModelSpec& model, const Workload& workload,
                       const HardwareProfile& machine, const PlanOptions& options);

}  // namespace unicorn::plan
