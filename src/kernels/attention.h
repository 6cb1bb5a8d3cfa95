#pragma once
// Attention of a few query vectors over a paged KV cache.
//
// Keys and values lie in pages of 32 tokens; a layer's pool is [pages, K, 32, E] f16 for K and the
// same for V. A page table maps position/32 to a page. Softmax is computed online, span by span of
// kSpanTokens keys (aligned to absolute positions), each span on its own, and spans are merged in
// ascending order. So the result of a query depends neither on the queries beside it nor on how
// spans are spread over threads.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"

namespace unicorn::kernels {

inline constexpr std::size_t kPageTokens = 32;
inline constexpr std::size_t kSpanTokens = 512;  // 16 pages
inline constexpr std::size_t kMaxQueries = 8;    // query vectors that share one pass over the keys

/// One KV head of one layer as a sequence sees it.
struct KvHead {
    const std::uint16_t* k = nullptr;  // f16: page 0 of the pool, at this head
    const std::uint16_t* v = nullptr;
    std::size_t page_stride = 0;          // elements from a page to the next: K * 32 * E
    const std::int32_t* pages = nullptr;  // page of each position/32; read only where needed
    std::size_t head_dim = 0;             // E, a multiple of 16, at most 256
};

/// Query vectors that share a KV head: heads of one group, or several rows of one sequence.
struct Queries {
    std::size_t count = 0;                     // 1 to kMaxQueries
    const float* q[kMaxQueries] = {};          // each [E] f32
    std::int32_t first_key[kMaxQueries] = {};  // positions first_key..last_key are attended to,
    std::int32_t last_key[kMaxQueries] = {};   // both included, last_key >= first_key >= 0
};

/// Softmax state of one query over some keys: sum of exp(s - max), and the weighted sum of V.
struct PartialRow {
    float max = 0;  // -inf when no key was seen
    float sum = 0;
    float* acc = nullptr;  // [E] f32
};

/// The keys of span `span` (positions [span*512, span*512 + 512)) that the queries attend to:
/// parts[i] is set for every query; one without keys there gets max = -inf, sum = 0, acc = 0.
/// scores are q.k * scale; f32 throughout. No key outside [first_key, last_key] of some query is
/// read: the cache may hold anything there. Within each query, keys are taken in ascending order.
/// Accuracy  relative error of exp at most 2e-7; the sum over E as in rms_norm's bound.
/// Scratch   `scratch`: at least attention_scratch_floats() floats, 64-byte aligned.
void attention_span(Isa isa, const KvHead& kv, const Queries& queries, float scale,
                    std::size_t span, std::span<PartialRow> parts, float* scratch);

std::size_t attention_scratch_floats();

/// Merges `from` into `into` (both over the same E), `into` being the earlier keys.
/// A part with max = -inf is the neutral element, exactly.
void merge_partial(Isa isa, PartialRow& into, const PartialRow& from, std::size_t head_dim);

/// out[e] = acc[e] / sum. Requires sum > 0.
void finish_partial(Isa isa, const PartialRow& part, std::span<float> out);

}  // namespace unicorn::kernels
