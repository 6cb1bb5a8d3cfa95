#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/simd.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

constexpr float kNoKeys = -std::numeric_limits<float>::infinity();
// The maximum starts here and not at -inf: scores that are all NaN must not look like no keys.
constexpr float kLowestMax = std::numeric_limits<float>::lowest();

/// Queries whose keys in one span together are the unbroken range [first, end); positions count
/// from the start of the span.
struct Block {
    std::size_t count = 0;
    std::array<const float*, kMaxQueries> q = {};
    std::array<std::size_t, kMaxQueries> query_first = {};  // query i sees [query_first, query_end)
    std::array<std::size_t, kMaxQueries> query_end = {};
    std::array<PartialRow*, kMaxQueries> part = {};
    std::size_t first = 0;
    std::size_t end = 0;
};

/// The keys of one page that a block reads.
struct PageKeys {
    const std::byte* data = nullptr;  // the page (kv_page.h)
    std::size_t first = 0;            // tokens first..last of the page, both included
    std::size_t last = 0;
    const std::byte* next = nullptr;  // the page that is read after this one, to prefetch
    const float* scales = nullptr;  // [32, E/32], of tokens first..last, where the type has scales
};

const std::byte* page_data(const std::byte* pool, const KvHead& kv, std::int32_t page) {
    return pool + static_cast<std::size_t>(page) * kv.page_stride;
}

/// Of page `page` of the span; `after` is what is read after the block's last page.
PageKeys page_keys(const std::byte* pool, const KvHead& kv, const std::int32_t* pages,
                   std::size_t page, const Block& block, const std::byte* after) {
    const std::size_t start = page * kPageTokens;
    const bool is_last = start + kPageTokens >= block.end;
    return {page_data(pool, kv, pages[page]), std::max(block.first, start) - start,
            std::min(block.end, start + kPageTokens) - 1 - start,
            is_last ? after : page_data(pool, kv, pages[page + 1])};
}

// ---- What a page holds, as the forms below read it
//
// A type has value(), one element of a page, for the scalar form. For the others a Cursor is a
// place in a page and load_8 and load_16 read what lies `offset` elements behind it; cursor and
// offset are such that a vector does not cross a group of 32.

template <typename T>
struct Plain {
    using Cursor = const T*;
    static constexpr std::size_t kBytes = sizeof(T);  // of an element
    static constexpr bool kScaled = false;
    static Cursor at(const PageKeys& keys, std::size_t element) {
        return reinterpret_cast<const T*>(keys.data) + element;
    }
};

struct F32 : Plain<float> {
    static float value(const std::byte* page, std::size_t, std::size_t element) {
        return reinterpret_cast<const float*>(page)[element];
    }
    UNICORN_TARGET_AVX2 static __m256 load_8(Cursor cursor, std::size_t offset) {
        return _mm256_loadu_ps(cursor + offset);
    }
    UNICORN_TARGET_AVX512 static __m512 load_16(Cursor cursor, std::size_t offset) {
        return _mm512_loadu_ps(cursor + offset);
    }
};

struct F16 : Plain<std::uint16_t> {
    static float value(const std::byte* page, std::size_t, std::size_t element) {
        return tensor::f16_to_f32(reinterpret_cast<const std::uint16_t*>(page)[element]);
    }
    UNICORN_TARGET_AVX2 static __m256 load_8(Cursor cursor, std::size_t offset) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(cursor + offset)));
    }
    UNICORN_TARGET_AVX512 static __m512 load_16(Cursor cursor, std::size_t offset) {
        return _mm512_cvtph_ps(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cursor + offset)));
    }
};

/// Codes become elements in registers, exactly: one product a vector for all queries, which is less
/// than one a query to scale its partial dot product or its probability.
struct Q8 {
    struct Cursor {
        const std::int8_t* codes;
        const float* scales;
    };
    static constexpr std::size_t kBytes = 1;
    static constexpr bool kScaled = true;
    static Cursor at(const PageKeys& keys, std::size_t element) {
        return {reinterpret_cast<const std::int8_t*>(keys.data) + element,
                keys.scales + element / kKvGroup};
    }
    static float value(const std::byte* page, std::size_t head_dim, std::size_t element) {
        const auto* codes = reinterpret_cast<const std::int8_t*>(page);
        const auto* scales = reinterpret_cast<const std::uint16_t*>(page + kPageTokens * head_dim);
        return static_cast<float>(codes[element]) * tensor::f16_to_f32(scales[element / kKvGroup]);
    }
    UNICORN_TARGET_AVX2 static __m256 load_8(Cursor cursor, std::size_t offset) {
        const __m256i codes = _mm256_cvtepi8_epi32(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(cursor.codes + offset)));
        return _mm256_mul_ps(_mm256_cvtepi32_ps(codes),
                             _mm256_broadcast_ss(cursor.scales + offset / kKvGroup));
    }
    UNICORN_TARGET_AVX512 static __m512 load_16(Cursor cursor, std::size_t offset) {
        const __m512i codes = _mm512_cvtepi8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(cursor.codes + offset)));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(codes),
                             _mm512_set1_ps(cursor.scales[offset / kKvGroup]));
    }
};

/// Elements of a cache line.
template <typename Kv>
constexpr std::size_t kLine = 64 / Kv::kBytes;

/// Where element `element` of the page that follows lies. The prefetch itself stays in the loops:
/// gcc takes a function that does nothing else for one without effect, and drops its calls.
template <typename Kv>
const std::byte* next_at(const PageKeys& keys, std::size_t element) {
    return keys.next + element * Kv::kBytes;
}

/// The scales of a page to f32, once for all its readers, and those of the next one prefetched.
UNICORN_TARGET_AVX2 void unpack_scales(PageKeys& keys, std::size_t head_dim, float* out) {
    const std::size_t groups = head_dim / kKvGroup;
    const std::size_t codes_bytes = kPageTokens * head_dim;
    const auto* scales = reinterpret_cast<const std::uint16_t*>(keys.data + codes_bytes);
    const std::size_t end = (keys.last + 1) * groups;
    for (std::size_t i = keys.first * groups / 8 * 8; i < end; i += 8) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + i));
        _mm256_store_ps(out + i, _mm256_cvtph_ps(halves));
    }
    for (std::size_t i = 0; i < groups; ++i)
        _mm_prefetch(keys.next + codes_bytes + i * 64, _MM_HINT_T0);
    keys.scales = out;
}

// ---- scalar: each query by itself

template <typename Kv>
void span_scalar(const KvHead& kv, const std::int32_t* pages, const Block& block, float scale,
                 float* scores) {
    for (std::size_t i = 0; i < block.count; ++i) {
        PartialRow& part = *block.part[i];
        part.max = kLowestMax;
        for (std::size_t t = block.query_first[i]; t < block.query_end[i]; ++t) {
            const std::byte* page = page_data(kv.k, kv, pages[t / kPageTokens]);
            const std::size_t k = t % kPageTokens * kv.head_dim;
            double dot = 0;
            for (std::size_t e = 0; e < kv.head_dim; ++e) {
                dot += static_cast<double>(block.q[i][e]) *
                       static_cast<double>(Kv::value(page, kv.head_dim, k + e));
            }
            scores[t] = static_cast<float>(dot * static_cast<double>(scale));
            part.max = std::max(part.max, scores[t]);
        }
        double sum = 0;
        std::array<double, kMaxHeadDim> acc = {};
        for (std::size_t t = block.query_first[i]; t < block.query_end[i]; ++t) {
            const std::byte* page = page_data(kv.v, kv, pages[t / kPageTokens]);
            const std::size_t v = t % kPageTokens * kv.head_dim;
            const double p =
                std::exp(static_cast<double>(scores[t]) - static_cast<double>(part.max));
            sum += p;
            for (std::size_t e = 0; e < kv.head_dim; ++e) {
                acc[e] += p * static_cast<double>(Kv::value(page, kv.head_dim, v + e));
            }
        }
        part.sum = static_cast<float>(sum);
        for (std::size_t e = 0; e < kv.head_dim; ++e) part.acc[e] = static_cast<float>(acc[e]);
    }
}

// ---- The vector forms
//
// Three passes over the span: scores of all keys, softmax of each query, then the weighted sum of
// V. Scores lie in scratch as [kMaxQueries, kSpanTokens]. Queries go through a page in groups of 4,
// 2 and 1, all groups over one page while it is in L1.
//
// What makes a query's result independent of its neighbours: a dot product is one vector
// accumulator over E in order, added up by the same tree in every block shape; the sum of
// probabilities goes by position modulo the vector; and acc takes keys in ascending order. A key
// that another query sees but this one does not has p = 0, and acc + 0 * v == acc in every bit: acc
// is never -0, as it starts at +0 and p >= exp(-87) times the least f16 does not round to zero.

UNICORN_TARGET_AVX2 inline __m128 sum_each_128(__m128 a0, __m128 a1, __m128 a2, __m128 a3) {
    const __m128 a01 = _mm_add_ps(_mm_unpacklo_ps(a0, a1), _mm_unpackhi_ps(a0, a1));
    const __m128 a23 = _mm_add_ps(_mm_unpacklo_ps(a2, a3), _mm_unpackhi_ps(a2, a3));
    return _mm_add_ps(_mm_movelh_ps(a01, a23), _mm_movehl_ps(a23, a01));
}

UNICORN_TARGET_AVX2 inline __m128 fold(__m256 a) {
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

/// The sums of the lanes of four vectors.
UNICORN_TARGET_AVX2 inline __m128 sum_each(__m256 a0, __m256 a1, __m256 a2, __m256 a3) {
    return sum_each_128(fold(a0), fold(a1), fold(a2), fold(a3));
}

UNICORN_TARGET_AVX512 inline __m128 sum_each(__m512 a0, __m512 a1, __m512 a2, __m512 a3) {
    const __m512 a01 = _mm512_add_ps(_mm512_unpacklo_ps(a0, a1), _mm512_unpackhi_ps(a0, a1));
    const __m512 a23 = _mm512_add_ps(_mm512_unpacklo_ps(a2, a3), _mm512_unpackhi_ps(a2, a3));
    const __m512 even = _mm512_shuffle_ps(a01, a23, _MM_SHUFFLE(1, 0, 1, 0));
    const __m512 odd = _mm512_shuffle_ps(a01, a23, _MM_SHUFFLE(3, 2, 3, 2));
    const __m512 sums = _mm512_add_ps(even, odd);
    return fold(_mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1)));
}

// Scratch: the scores, then the queries, then the scales of a page.
constexpr std::size_t kScoreFloats = kMaxQueries * kSpanTokens;
constexpr std::size_t kQueryFloats = kMaxQueries * kMaxHeadDim;
constexpr std::size_t kScaleFloats = kPageTokens * kMaxHeadDim / kKvGroup;

float* scales_in(float* scores) { return scores + kScoreFloats + kQueryFloats; }

/// Copies the queries behind the scores, [count, kMaxHeadDim]: one address for all saves registers.
float* pack_queries(const KvHead& kv, const Block& block, float* scores) {
    float* packed = scores + kScoreFloats;
    for (std::size_t i = 0; i < block.count; ++i)
        std::copy_n(block.q[i], kv.head_dim, packed + i * kMaxHeadDim);
    return packed;
}

/// Zeroes the probabilities of the block's keys outside [begin, end).
void zero_around(float* scores, const Block& block, std::size_t begin, std::size_t end) {
    if (block.first < begin) std::fill(scores + block.first, scores + begin, 0.0f);
    if (end < block.end) std::fill(scores + end, scores + block.end, 0.0f);
}

// ---- AVX2: the same in vectors of 8, the queries in groups of 4, 2 and 1 for want of registers

template <typename Kv, std::size_t Q, std::size_t T>
UNICORN_TARGET_AVX2 void scores_avx2(const float* q, const PageKeys& keys, std::size_t head_dim,
                                     float scale, float* scores) {
    static_assert((T == 2 && Q % 2 == 0) || T % 4 == 0);
    const __m128 scales = _mm_set1_ps(scale);
    for (std::size_t t = keys.first - keys.first % T; t <= keys.last; t += T) {
        typename Kv::Cursor k[T];
        __m256 dot[Q][T];
#pragma GCC unroll 8
        for (std::size_t j = 0; j < T; ++j) {
            k[j] = Kv::at(keys, std::clamp(t + j, keys.first, keys.last) * head_dim);
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) dot[i][j] = _mm256_setzero_ps();
        }
        for (std::size_t e = 0; e < head_dim; e += 8) {
            __m256 kv[T];
#pragma GCC unroll 8
            for (std::size_t j = 0; j < T; ++j) {
                if (e % kLine<Kv> == 0)
                    _mm_prefetch(next_at<Kv>(keys, (t + j) * head_dim + e), _MM_HINT_T0);
                kv[j] = Kv::load_8(k[j], e);
            }
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) {
                const __m256 qv = _mm256_load_ps(q + i * kMaxHeadDim + e);
#pragma GCC unroll 8
                for (std::size_t j = 0; j < T; ++j)
                    dot[i][j] = _mm256_fmadd_ps(qv, kv[j], dot[i][j]);
            }
        }
        if constexpr (T == 2) {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; i += 2) {
                const __m128 sums = _mm_mul_ps(
                    sum_each(dot[i][0], dot[i][1], dot[i + 1][0], dot[i + 1][1]), scales);
                _mm_storel_pi(reinterpret_cast<__m64*>(scores + i * kSpanTokens + t), sums);
                _mm_storeh_pi(reinterpret_cast<__m64*>(scores + (i + 1) * kSpanTokens + t), sums);
            }
        } else {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
                for (std::size_t j = 0; j < T; j += 4) {
                    const __m128 sums =
                        sum_each(dot[i][j], dot[i][j + 1], dot[i][j + 2], dot[i][j + 3]);
                    _mm_store_ps(scores + i * kSpanTokens + t + j, _mm_mul_ps(sums, scales));
                }
            }
        }
    }
}

/// Of lanes t..t+7, those in [first, end), as vector masks.
UNICORN_TARGET_AVX2 inline __m256 lanes_between_avx2(std::size_t t, std::size_t first,
                                                     std::size_t end) {
    const __m256i lane = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(t)),
                                          _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i before_first =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(first)), lane);
    const __m256i before_end = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end)), lane);
    return _mm256_castsi256_ps(_mm256_andnot_si256(before_first, before_end));
}

UNICORN_TARGET_AVX2 void softmax_avx2(float* scores, const Block& block, std::size_t first,
                                      std::size_t end, PartialRow& part) {
    const std::size_t begin = first & ~std::size_t{7};
    __m256 max = _mm256_set1_ps(kLowestMax);
    for (std::size_t t = begin; t < end; t += 8) {
        const __m256 bigger = _mm256_max_ps(_mm256_load_ps(scores + t), max);
        max = _mm256_blendv_ps(max, bigger, lanes_between_avx2(t, first, end));
    }
    part.max = simd::max_lanes(max);
    max = _mm256_set1_ps(part.max);
    __m256 sum = _mm256_setzero_ps();
    for (std::size_t t = begin; t < end; t += 8) {
        const __m256 p =
            _mm256_and_ps(lanes_between_avx2(t, first, end),
                          simd::exp_nonpositive(_mm256_sub_ps(_mm256_load_ps(scores + t), max)));
        sum = _mm256_add_ps(sum, p);
        _mm256_store_ps(scores + t, p);
    }
    part.sum = simd::sum_lanes(sum);
    zero_around(scores, block, begin, (end + 7) & ~std::size_t{7});
}

template <typename Kv, std::size_t Q, std::size_t C>
UNICORN_TARGET_AVX2 void weigh_avx2(PartialRow* const* parts, const PageKeys& values,
                                    std::size_t head_dim, const float* p) {
    for (std::size_t e = 0; e < head_dim; e += C * 8) {
        __m256 acc[Q][C];
#pragma GCC unroll 8
        for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c)
                acc[i][c] = _mm256_loadu_ps(parts[i]->acc + e + c * 8);
        }
        for (std::size_t t = values.first; t <= values.last; ++t) {
            const typename Kv::Cursor v = Kv::at(values, t * head_dim + e);
            __m256 vv[C];
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                if ((e + c * 8) % kLine<Kv> == 0)
                    _mm_prefetch(next_at<Kv>(values, t * head_dim + e + c * 8), _MM_HINT_T0);
                vv[c] = Kv::load_8(v, c * 8);
            }
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) {
                const __m256 weight = _mm256_set1_ps(p[i * kSpanTokens + t]);
#pragma GCC unroll 8
                for (std::size_t c = 0; c < C; ++c)
                    acc[i][c] = _mm256_fmadd_ps(weight, vv[c], acc[i][c]);
            }
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c)
                _mm256_storeu_ps(parts[i]->acc + e + c * 8, acc[i][c]);
        }
    }
}

template <typename Kv>
UNICORN_TARGET_AVX2 void span_avx2(const KvHead& kv, const std::int32_t* pages, const Block& block,
                                   float scale, float* scores) {
    const std::size_t first_page = block.first / kPageTokens;
    const std::size_t end_page = (block.end - 1) / kPageTokens + 1;
    const std::byte* first_values = page_data(kv.v, kv, pages[first_page]);
    const std::byte* last_values = page_data(kv.v, kv, pages[end_page - 1]);
    float* packed_q = pack_queries(kv, block, scores);
    for (std::size_t page = first_page; page < end_page; ++page) {
        PageKeys keys = page_keys(kv.k, kv, pages, page, block, first_values);
        if constexpr (Kv::kScaled) unpack_scales(keys, kv.head_dim, scales_in(scores));
        for (std::size_t i = 0; i < block.count;) {
            const std::size_t left = block.count - i;
            const float* q = packed_q + i * kMaxHeadDim;
            float* out = scores + i * kSpanTokens + page * kPageTokens;
            if (left >= 4) {
                scores_avx2<Kv, 4, 2>(q, keys, kv.head_dim, scale, out);
                i += 4;
            } else if (left >= 2) {
                scores_avx2<Kv, 2, 4>(q, keys, kv.head_dim, scale, out);
                i += 2;
            } else {
                scores_avx2<Kv, 1, 8>(q, keys, kv.head_dim, scale, out);
                i += 1;
            }
        }
    }
    for (std::size_t i = 0; i < block.count; ++i) {
        softmax_avx2(scores + i * kSpanTokens, block, block.query_first[i], block.query_end[i],
                     *block.part[i]);
        std::fill_n(block.part[i]->acc, kv.head_dim, 0.0f);
    }
    for (std::size_t page = first_page; page < end_page; ++page) {
        PageKeys values = page_keys(kv.v, kv, pages, page, block, last_values);
        if constexpr (Kv::kScaled) unpack_scales(values, kv.head_dim, scales_in(scores));
        for (std::size_t i = 0; i < block.count;) {
            const std::size_t left = block.count - i;
            PartialRow* const* parts = block.part.data() + i;
            const float* p = scores + i * kSpanTokens + page * kPageTokens;
            if (left >= 4) {
                weigh_avx2<Kv, 4, 2>(parts, values, kv.head_dim, p);
                i += 4;
            } else if (left >= 2) {
                // 4 vectors need E % 32 == 0; a remainder of 16 takes the narrow form.
                if (kv.head_dim % 32 == 0) {
                    weigh_avx2<Kv, 2, 4>(parts, values, kv.head_dim, p);
                } else {
                    weigh_avx2<Kv, 2, 2>(parts, values, kv.head_dim, p);
                }
                i += 2;
            } else {
                if (kv.head_dim % 64 == 0) {
                    weigh_avx2<Kv, 1, 8>(parts, values, kv.head_dim, p);
                } else {
                    weigh_avx2<Kv, 1, 2>(parts, values, kv.head_dim, p);
                }
                i += 1;
            }
        }
    }
}

// ---- AVX-512

/// scores[i][t] = q[i] . k[t] * scale for the tokens of a page, in blocks of Q queries by T keys. A
/// block that hangs over the first or last key repeats that key; softmax drops what it makes there.
template <typename Kv, std::size_t Q, std::size_t T>
UNICORN_TARGET_AVX512 void scores_avx512(const float* q, const PageKeys& keys, std::size_t head_dim,
                                         float scale, float* scores) {
    static_assert((T == 2 || T % 4 == 0) && kPageTokens % T == 0);
    const __m128 scales = _mm_set1_ps(scale);
    for (std::size_t t = keys.first - keys.first % T; t <= keys.last; t += T) {
        typename Kv::Cursor k[T];
        __m512 dot[Q][T];
#pragma GCC unroll 8
        for (std::size_t j = 0; j < T; ++j) {
            k[j] = Kv::at(keys, std::clamp(t + j, keys.first, keys.last) * head_dim);
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) dot[i][j] = _mm512_setzero_ps();
        }
        for (std::size_t e = 0; e < head_dim; e += 16) {
            __m512 kv[T];
#pragma GCC unroll 8
            for (std::size_t j = 0; j < T; ++j) {
                if (e % kLine<Kv> == 0)
                    _mm_prefetch(next_at<Kv>(keys, (t + j) * head_dim + e), _MM_HINT_T0);
                kv[j] = Kv::load_16(k[j], e);
            }
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) {
                const __m512 qv = _mm512_load_ps(q + i * kMaxHeadDim + e);
#pragma GCC unroll 8
                for (std::size_t j = 0; j < T; ++j)
                    dot[i][j] = _mm512_fmadd_ps(qv, kv[j], dot[i][j]);
            }
        }
        if constexpr (T == 2) {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; i += 2) {
                const std::size_t next =
                    i + 1 < Q ? i + 1 : i;  // an odd query at the end is added up twice
                const __m128 sums =
                    _mm_mul_ps(sum_each(dot[i][0], dot[i][1], dot[next][0], dot[next][1]), scales);
                _mm_storel_pi(reinterpret_cast<__m64*>(scores + i * kSpanTokens + t), sums);
                _mm_storeh_pi(reinterpret_cast<__m64*>(scores + next * kSpanTokens + t), sums);
            }
        } else {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
                for (std::size_t j = 0; j < T; j += 4) {
                    const __m128 sums =
                        sum_each(dot[i][j], dot[i][j + 1], dot[i][j + 2], dot[i][j + 3]);
                    _mm_store_ps(scores + i * kSpanTokens + t + j, _mm_mul_ps(sums, scales));
                }
            }
        }
    }
}

/// Of lanes t..t+15, those in [first, end).
UNICORN_TARGET_AVX512 inline __mmask16 lanes_between(std::size_t t, std::size_t first,
                                                     std::size_t end) {
    const __mmask16 before_end = simd::first_lanes(end - t);
    return t >= first ? before_end
                      : static_cast<__mmask16>(before_end & ~simd::first_lanes(first - t));
}

/// Turns the scores of positions [first, end) into exp(score - max), and those of the rest of the
/// block's pages into 0.
UNICORN_TARGET_AVX512 void softmax_avx512(float* scores, const Block& block, std::size_t first,
                                          std::size_t end, PartialRow& part) {
    const std::size_t begin = first & ~std::size_t{15};
    __m512 max = _mm512_set1_ps(kLowestMax);
    for (std::size_t t = begin; t < end; t += 16) {
        // max returns its second operand when the first is NaN: NaN shows in p, not in the maximum.
        max =
            _mm512_mask_max_ps(max, lanes_between(t, first, end), _mm512_load_ps(scores + t), max);
    }
    part.max = simd::max_lanes(max);
    max = _mm512_set1_ps(part.max);
    __m512 sum = _mm512_setzero_ps();
    for (std::size_t t = begin; t < end; t += 16) {
        const __m512 p = _mm512_maskz_mov_ps(
            lanes_between(t, first, end),
            simd::exp_nonpositive(_mm512_sub_ps(_mm512_load_ps(scores + t), max)));
        sum = _mm512_add_ps(sum, p);
        _mm512_store_ps(scores + t, p);
    }
    part.sum = simd::sum_lanes(sum);
    zero_around(scores, block, begin, (end + 15) & ~std::size_t{15});
}

/// acc[i][e] += sum over the tokens of a page of p[i][t] * v[t][e], for C vectors of e from `e` on.
template <typename Kv, std::size_t Q, std::size_t C>
UNICORN_TARGET_AVX512 void weigh_avx512(PartialRow* const* parts, const PageKeys& values,
                                        std::size_t head_dim, std::size_t e, const float* p) {
    __m512 acc[Q][C];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) acc[i][c] = _mm512_loadu_ps(parts[i]->acc + e + c * 16);
    }
    for (std::size_t t = values.first; t <= values.last; ++t) {
        const typename Kv::Cursor v = Kv::at(values, t * head_dim + e);
        __m512 vv[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            if (c * 16 % kLine<Kv> == 0)
                _mm_prefetch(next_at<Kv>(values, t * head_dim + e + c * 16), _MM_HINT_T0);
            vv[c] = Kv::load_16(v, c * 16);
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < Q; ++i) {
            const __m512 weight = _mm512_set1_ps(p[i * kSpanTokens + t]);
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c)
                acc[i][c] = _mm512_fmadd_ps(weight, vv[c], acc[i][c]);
        }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < Q; ++i) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) _mm512_storeu_ps(parts[i]->acc + e + c * 16, acc[i][c]);
    }
}

template <typename Kv, std::size_t Q, std::size_t C>
UNICORN_TARGET_AVX512 void weigh_page_avx512(PartialRow* const* parts, const PageKeys& values,
                                             std::size_t head_dim, const float* p) {
    std::size_t e = 0;
    for (; e + C * 16 <= head_dim; e += C * 16)
        weigh_avx512<Kv, Q, C>(parts, values, head_dim, e, p);
    for (; e < head_dim; e += 16) weigh_avx512<Kv, Q, 1>(parts, values, head_dim, e, p);
}

/// Q queries: their scores in blocks of Q by T keys, their sums in blocks of Q by C vectors of E.
template <typename Kv, std::size_t Q, std::size_t T, std::size_t C>
UNICORN_TARGET_AVX512 void span_avx512(const KvHead& kv, const std::int32_t* pages,
                                       const Block& block, float scale, float* scores) {
    const std::size_t first_page = block.first / kPageTokens;
    const std::size_t end_page = (block.end - 1) / kPageTokens + 1;
    const std::byte* first_values = page_data(kv.v, kv, pages[first_page]);
    const std::byte* last_values = page_data(kv.v, kv, pages[end_page - 1]);
    const float* q = pack_queries(kv, block, scores);
    for (std::size_t page = first_page; page < end_page; ++page) {
        PageKeys keys = page_keys(kv.k, kv, pages, page, block, first_values);
        if constexpr (Kv::kScaled) unpack_scales(keys, kv.head_dim, scales_in(scores));
        scores_avx512<Kv, Q, T>(q, keys, kv.head_dim, scale, scores + page * kPageTokens);
    }
    for (std::size_t i = 0; i < Q; ++i) {
        softmax_avx512(scores + i * kSpanTokens, block, block.query_first[i], block.query_end[i],
                       *block.part[i]);
        std::fill_n(block.part[i]->acc, kv.head_dim, 0.0f);
    }
    for (std::size_t page = first_page; page < end_page; ++page) {
        PageKeys values = page_keys(kv.v, kv, pages, page, block, last_values);
        if constexpr (Kv::kScaled) unpack_scales(values, kv.head_dim, scales_in(scores));
        weigh_page_avx512<Kv, Q, C>(block.part.data(), values, kv.head_dim,
                                    scores + page * kPageTokens);
    }
}

// Block shapes: a conversion costs as much as two multiply-adds (ports 0 and 5 of Intel's cores),
// so that all queries share each one, and there are at least 8 accumulators to cover the latency
// and at most 24 to leave registers for the operands.
using SpanForm = void (*)(const KvHead&, const std::int32_t*, const Block&, float, float*);
template <typename Kv>
constexpr SpanForm kSpanAvx512[kMaxQueries] = {
    span_avx512<Kv, 1, 8, 8>, span_avx512<Kv, 2, 4, 4>, span_avx512<Kv, 3, 4, 4>,
    span_avx512<Kv, 4, 4, 4>, span_avx512<Kv, 5, 4, 4>, span_avx512<Kv, 6, 4, 4>,
    span_avx512<Kv, 7, 2, 2>, span_avx512<Kv, 8, 2, 2>,
};

// ---- merging spans, and the division at the end

void merge_scalar(float* into, float into_weight, const float* from, float from_weight,
                  std::size_t n) {
    for (std::size_t e = 0; e < n; ++e) {
        into[e] =
            static_cast<float>(static_cast<double>(into[e]) * static_cast<double>(into_weight) +
                               static_cast<double>(from[e]) * static_cast<double>(from_weight));
    }
}

UNICORN_TARGET_AVX2 void merge_avx2(float* into, float into_weight, const float* from,
                                    float from_weight, std::size_t n) {
    const __m256 a = _mm256_set1_ps(into_weight), b = _mm256_set1_ps(from_weight);
    for (std::size_t e = 0; e < n; e += 8) {
        const __m256i lanes = simd::first_lanes_avx2(n - e);
        const __m256 weighted = _mm256_mul_ps(a, _mm256_maskload_ps(into + e, lanes));
        _mm256_maskstore_ps(into + e, lanes,
                            _mm256_fmadd_ps(b, _mm256_maskload_ps(from + e, lanes), weighted));
    }
}

UNICORN_TARGET_AVX512 void merge_avx512(float* into, float into_weight, const float* from,
                                        float from_weight, std::size_t n) {
    const __m512 a = _mm512_set1_ps(into_weight), b = _mm512_set1_ps(from_weight);
    for (std::size_t e = 0; e < n; e += 16) {
        const __mmask16 lanes = simd::first_lanes(n - e);
        const __m512 weighted = _mm512_mul_ps(a, _mm512_maskz_loadu_ps(lanes, into + e));
        _mm512_mask_storeu_ps(into + e, lanes,
                              _mm512_fmadd_ps(b, _mm512_maskz_loadu_ps(lanes, from + e), weighted));
    }
}

void finish_scalar(float* out, const float* acc, float sum, std::size_t n) {
    for (std::size_t e = 0; e < n; ++e) out[e] = acc[e] / sum;
}

UNICORN_TARGET_AVX2 void finish_avx2(float* out, const float* acc, float sum, std::size_t n) {
    const __m256 divisor = _mm256_set1_ps(sum);
    for (std::size_t e = 0; e < n; e += 8) {
        const __m256i lanes = simd::first_lanes_avx2(n - e);
        _mm256_maskstore_ps(out + e, lanes,
                            _mm256_div_ps(_mm256_maskload_ps(acc + e, lanes), divisor));
    }
}

UNICORN_TARGET_AVX512 void finish_avx512(float* out, const float* acc, float sum, std::size_t n) {
    const __m512 divisor = _mm512_set1_ps(sum);
    for (std::size_t e = 0; e < n; e += 16) {
        const __mmask16 lanes = simd::first_lanes(n - e);
        _mm512_mask_storeu_ps(out + e, lanes,
                              _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, acc + e), divisor));
    }
}

// ---- choosing a form

/// Runs the form on queries whose ranges form one unbroken range.
template <typename Kv>
void run_block(Isa isa, const KvHead& kv, const std::int32_t* pages, const Block& block,
               float scale, float* scratch) {
    switch (isa) {
        case Isa::scalar: return span_scalar<Kv>(kv, pages, block, scale, scratch);
        case Isa::avx2: return span_avx2<Kv>(kv, pages, block, scale, scratch);
        case Isa::avx512: return kSpanAvx512<Kv>[block.count - 1](kv, pages, block, scale, scratch);
    }
}

}  // namespace

std::size_t attention_scratch_floats() { return kScoreFloats + kQueryFloats + kScaleFloats; }

void attention_span(Isa isa, const KvHead& kv, const Queries& queries, float scale,
                    std::size_t span, std::span<PartialRow> parts, float* scratch) {
    UNICORN_DCHECK(queries.count >= 1 && queries.count <= kMaxQueries &&
                   parts.size() >= queries.count);
    UNICORN_DCHECK(reinterpret_cast<std::uintptr_t>(scratch) % 64 == 0);
    UNICORN_DCHECK(can_cache(kv.type, kv.head_dim));
    const std::size_t span_first = span * kSpanTokens;
    const std::size_t span_end = span_first + kSpanTokens;

    // Queries with keys in this span, in order of their first key.
    struct Seen {
        std::size_t query, first, end;
    };
    std::array<Seen, kMaxQueries> seen;
    std::size_t n_seen = 0;
    for (std::size_t i = 0; i < queries.count; ++i) {
        const std::size_t first =
            std::max(static_cast<std::size_t>(queries.first_key[i]), span_first);
        const std::size_t end =
            std::min(static_cast<std::size_t>(queries.last_key[i]) + 1, span_end);
        if (first >= end) {
            parts[i].max = kNoKeys;
            parts[i].sum = 0;
            std::fill_n(parts[i].acc, kv.head_dim, 0.0f);
            continue;
        }
        std::size_t place = n_seen++;
        for (; place > 0 && seen[place - 1].first > first - span_first; --place)
            seen[place] = seen[place - 1];
        seen[place] = {i, first - span_first, end - span_first};
    }

    // A block takes in queries as long as there is no gap, for keys in a gap must not be read.
    const std::int32_t* pages = kv.pages + span_first / kPageTokens;
    for (std::size_t next = 0; next < n_seen;) {
        Block block;
        block.first = block.end = seen[next].first;
        for (; next < n_seen && seen[next].first <= block.end; ++next) {
            const std::size_t slot = block.count++;
            block.q[slot] = queries.q[seen[next].query];
            block.query_first[slot] = seen[next].first;
            block.query_end[slot] = seen[next].end;
            block.part[slot] = &parts[seen[next].query];
            block.end = std::max(block.end, seen[next].end);
        }
        const auto run = kv.type == tensor::DType::f32   ? run_block<F32>
                         : kv.type == tensor::DType::f16 ? run_block<F16>
                                                         : run_block<Q8>;
        run(isa, kv, pages, block, scale, scratch);
    }
}

void merge_partial(Isa isa, PartialRow& into, const PartialRow& from, std::size_t head_dim) {
    if (from.max == kNoKeys) return;
    if (into.max == kNoKeys) {
        into.max = from.max;
        into.sum = from.sum;
        std::copy_n(from.acc, head_dim, into.acc);
        return;
    }
    const float max = std::max(into.max, from.max);
    const auto weight = [max](float part_max) {  // one of the two weights is exactly 1
        return static_cast<float>(
            std::exp(static_cast<double>(part_max) - static_cast<double>(max)));
    };
    const float into_weight = weight(into.max);
    const float from_weight = weight(from.max);
    into.max = max;
    into.sum = into.sum * into_weight + from.sum * from_weight;
    const auto form = isa == Isa::scalar ? merge_scalar
                      : isa == Isa::avx2 ? merge_avx2
                                         : merge_avx512;
    form(into.acc, into_weight, from.acc, from_weight, head_dim);
}

void finish_partial(Isa isa, const PartialRow& part, std::span<float> out) {
    const auto form = isa == Isa::scalar ? finish_scalar
                      : isa == Isa::avx2 ? finish_avx2
                                         : finish_avx512;
    form(out.data(), part.acc, part.sum, out.size());
}

}  // namespace unicorn::kernels
