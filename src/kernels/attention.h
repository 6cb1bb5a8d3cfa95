#pragma once
// Attention of a few query vectors over a paged KV cache.
//
// Keys and values lie in pages of 32 tokens (kv_page.h); a layer's pool is [pages, K] such pages
// for K and the same for V. A page table maps position/32 to a page. Softmax is computed online,
// span by span of kSpanTokens keys (aligned to absolute positions), each span on its own, and spans
// are merged in ascending order. So the result of a query depends neither on the queries beside it
// nor on how spans are spread over threads.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "kernels/kv_page.h"
#include "tensor/dtype.h"

namespace unicorn::kernels {

// 8 pages: few enough that the window of a local layer (512 or 1,024 tokens) is work for several
// threads when one token is decoded.
inline constexpr std::size_t kSpanTokens = 256;
inline constexpr std::size_t kMaxQueries = 8;  // query vectors that share one pass over the keys

/// One KV head of one layer as a sequence sees it.
struct KvHead {
    tensor::DType type = tensor::DType::f16;  // of keys and values
    const std::byte* k = nullptr;             // page 0 of the pool, at this head
    const std::byte* v = nullptr;
    std::size_t page_stride = 0;          // bytes from a page to the next: K * kv_page_bytes()
    const std::int32_t* pages = nullptr;  // page of each position/32; read only where needed
    std::size_t head_dim = 0;             // E; can_cache(type, E)
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

/// The keys of span `span` (positions span*256 to span*256 + 255) that the queries attend to:
///   s_t = q . k_t * scale;  max = max_t s_t;  sum = sum_t exp(s_t - max);
///   acc[e] = sum_t exp(s_t - max) * v_t[e],
/// over the keys t of the span within [first_key, last_key]. parts[i] is set for every query, its
/// acc is the caller's [E]; a query without keys here gets max = -inf, sum = 0, acc = 0.
/// Shapes    parts: queries.count or more; q and acc any alignment.
/// Reads     keys that some query of the block sees, and the entries of `pages` for them; anything
///           may lie elsewhere in the cache and -1 in the other entries.
/// Identity  parts[i] has the same bits whichever queries stand beside query i, in any order, as
///           long as V is finite at the keys that these see. A NaN in q or K makes NaN of the
///           queries that use it, one in V of any query of the block.
/// Accuracy  s_t within (E/8 + 8) * 2^-24 * scale * sum_e |q k| of exact; exp within a relative
///           2e-7 + 2^-24 * |s_t - max|, and 0 where s_t - max < -87; sum and acc in f32, in
///           ascending order of keys: within n * 2^-24 * sum_t p |v| for n keys. The scalar form
///           rounds s_t and the results only. K and V are meant as they are stored; kv_page.h says
///           how far that is from what was to be stored.
/// Scratch   attention_scratch_floats() floats, 64-byte aligned (checked in debug builds); what is
///           in them does not matter before or after.
/// Cost      reads K and V once for all queries, 4 * E bytes a key in f16; page p + 1 is prefetched
/// while
///           page p is used. One query or two are bound by memory, eight by multiply-adds.
void attention_span(Isa isa, const KvHead& kv, const Queries& queries, float scale,
                    std::size_t span, std::span<PartialRow> parts, float* scratch);

std::size_t attention_scratch_floats();

/// Merges `from` into `into` (both over the same E), `into` being the earlier keys.
/// A part with max = -inf is the neutral element, exactly. from.acc is not into.acc.
/// Accuracy  within 4 * 2^-24 of the sum of the two terms' magnitudes.
void merge_partial(Isa isa, PartialRow& into, const PartialRow& from, std::size_t head_dim);

/// out[e] = acc[e] / sum, rounded once. `out` may be `acc`. Requires sum > 0, or NaN to pass it on.
void finish_partial(Isa isa, const PartialRow& part, std::span<float> out);

}  // namespace unicorn::kernels
