#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/testing.h"
#include "tensor/dtype.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using testing::Guarded;
using testing::kEpsilon;
using testing::random_floats;
using testing::same_bits;

using tensor::DType;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr DType kCacheTypes[] = {DType::f16, DType::q8_0, DType::f32};

/// Positions first..last, both included.
struct Range {
    std::int32_t first = 0;
    std::int32_t last = 0;
};

/// The second of two KV heads of a layer. Pages lie in random order; those that no range touches
/// are -1 in the table, which points at poison, and so are all keys outside the ranges.
class Cache {
public:
    Cache(DType type, std::size_t head_dim, const std::vector<Range>& ranges, unsigned seed = 1)
        : type_(type), head_dim_(head_dim) {
        std::int32_t last = 0;
        for (const Range& range : ranges) last = std::max(last, range.last);
        const std::size_t n_pages = static_cast<std::size_t>(last) / kPageTokens + 1;
        table_.assign(n_pages + 1, -1);
        std::vector<std::int32_t> order(n_pages);
        std::iota(order.begin(), order.end(), 0);
        std::mt19937 generator(seed);
        std::shuffle(order.begin(), order.end(), generator);
        // One page of poison in front, for the entries of -1.
        k_.assign((n_pages + 1) * stride(), kPoison);
        v_ = k_;
        plain_k_.resize(n_pages * kPageTokens * head_dim);
        plain_v_ = plain_k_;
        static const std::vector<float> values = random_floats(4099, 3);
        std::size_t next = generator();
        std::vector<float> vector(head_dim);
        for (const Range& range : ranges) {
            for (std::int32_t t = range.first; t <= range.last; ++t) {
                const auto page = static_cast<std::size_t>(t) / kPageTokens;
                table_[page] = order[page];
                for (const bool is_k : {true, false}) {
                    for (float& x : vector) x = values[++next % values.size()];
                    put(is_k ? k_ : v_, is_k ? plain_k_ : plain_v_, t, vector);
                }
            }
        }
    }

    KvHead head() const {
        const std::size_t at = stride() + kv_page_bytes(type_, head_dim_);
        return {.type = type_,
                .k = k_.data() + at,
                .v = v_.data() + at,
                .page_stride = stride(),
                .pages = table_.data(),
                .head_dim = head_dim_};
    }
    void set_k(std::int32_t t, std::size_t e, float value) {
        std::vector<float> vector(k(t), k(t) + head_dim_);
        vector[e] = value;
        put(k_, plain_k_, t, vector);
    }
    /// The key and the value at position t, [E], as they are stored.
    const float* k(std::int32_t t) const {
        return &plain_k_[static_cast<std::size_t>(t) * head_dim_];
    }
    const float* v(std::int32_t t) const {
        return &plain_v_[static_cast<std::size_t>(t) * head_dim_];
    }

private:
    using Bytes = std::vector<std::byte>;
    static constexpr std::byte kPoison{0xFF};  // NaN in f16 and in f32, so in scales too

    std::size_t stride() const { return 2 * kv_page_bytes(type_, head_dim_); }
    /// Stores `x` at position t, and what it then reads as in `plain`.
    void put(Bytes& pool, std::vector<float>& plain, std::int32_t t, const std::vector<float>& x) {
        const auto position = static_cast<std::size_t>(t);
        const std::size_t token = position % kPageTokens;
        const auto page = static_cast<std::size_t>(table_[position / kPageTokens] + 1);
        std::byte* const data = &pool[page * stride() + kv_page_bytes(type_, head_dim_)];
        store_kv(Isa::scalar, type_, data, token, x);
        for (std::size_t e = 0; e < head_dim_; ++e) {
            float& out = plain[position * head_dim_ + e];
            const std::size_t at = token * head_dim_ + e;
            if (type_ == DType::f32) {
                std::memcpy(&out, data + 4 * at, sizeof out);
            } else if (type_ == DType::f16) {
                out = f16_at(data + 2 * at);
            } else {
                const std::byte* scale = data + kPageTokens * head_dim_ + at / kKvGroup * 2;
                out = static_cast<float>(static_cast<std::int8_t>(data[at])) * f16_at(scale);
            }
        }
    }
    static float f16_at(const std::byte* p) {
        std::uint16_t half = 0;
        std::memcpy(&half, p, sizeof half);
        return tensor::f16_to_f32(half);
    }

    DType type_;
    std::size_t head_dim_;
    Bytes k_, v_;
    std::vector<float> plain_k_, plain_v_;
    std::vector<std::int32_t> table_;
};

/// Query vectors and what they attend to.
struct Block {
    Block(std::size_t head_dim, std::vector<Range> query_ranges, float magnitude = 1.0f,
          unsigned seed = 2)
        : ranges(std::move(query_ranges)), q(ranges.size() * head_dim), dim(head_dim) {
        q = random_floats(q.size(), seed, magnitude);
    }
    Queries queries() const {
        Queries result;
        result.count = ranges.size();
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            result.q[i] = q.data() + i * dim;
            result.first_key[i] = ranges[i].first;
            result.last_key[i] = ranges[i].last;
        }
        return result;
    }
    /// Query i alone.
    Block only(std::size_t i) const {
        Block one(dim, {ranges[i]});
        std::copy_n(q.begin() + static_cast<std::ptrdiff_t>(i * dim), dim, one.q.begin());
        return one;
    }

    std::vector<Range> ranges;
    std::vector<float> q;
    std::size_t dim;
};

float scale_of(std::size_t head_dim) { return 1 / std::sqrt(static_cast<float>(head_dim)); }

/// One span's states, with guards around what attention_span writes.
struct Parts {
    Parts(Isa isa, const KvHead& head, const Queries& queries, std::size_t span)
        : dim(head.head_dim) {
        scratch.resize(attention_scratch_floats() + 32, 77.0f);
        const std::size_t over =
            reinterpret_cast<std::uintptr_t>(scratch.data()) / sizeof(float) % 16;
        const std::size_t begin = (16 - over) % 16;
        std::fill_n(scratch.begin() + static_cast<std::ptrdiff_t>(begin),
                    attention_scratch_floats(),
                    kNan);  // what earlier calls left must not matter
        acc.assign(queries.count, Guarded<float>(dim, 33.0f));
        for (std::size_t i = 0; i < queries.count; ++i) rows[i].acc = acc[i].data();
        attention_span(isa, head, queries, scale_of(dim), span, {rows.data(), queries.count},
                       scratch.data() + begin);
        for (std::size_t i = 0; i < scratch.size(); ++i) {
            const bool is_guard = i < begin || i >= begin + attention_scratch_floats();
            EXPECT_TRUE(!is_guard || scratch[i] == 77.0f) << "scratch " << i;
        }
        for (const auto& row : acc) EXPECT_TRUE(row.guards_intact()) << name(isa);
    }
    Parts(const Parts&) = delete;

    std::size_t dim;
    std::vector<float> scratch;
    std::vector<Guarded<float>> acc;
    std::array<PartialRow, kMaxQueries> rows;
};

bool same(const PartialRow& a, const PartialRow& b, std::size_t dim) {
    return std::bit_cast<std::uint32_t>(a.max) == std::bit_cast<std::uint32_t>(b.max) &&
           std::bit_cast<std::uint32_t>(a.sum) == std::bit_cast<std::uint32_t>(b.sum) &&
           same_bits<float>({a.acc, dim}, {b.acc, dim});
}

/// All spans, merged in ascending order: [count, E].
std::vector<float> attend(Isa isa, const Cache& cache, const Block& block) {
    const std::size_t dim = block.dim;
    std::int32_t first = block.ranges[0].first, last = block.ranges[0].last;
    for (const Range& range : block.ranges) {
        first = std::min(first, range.first);
        last = std::max(last, range.last);
    }
    const std::size_t first_span = static_cast<std::size_t>(first) / kSpanTokens;
    const std::size_t last_span = static_cast<std::size_t>(last) / kSpanTokens;
    Parts total(isa, cache.head(), block.queries(), first_span);
    for (std::size_t span = first_span + 1; span <= last_span; ++span) {
        Parts part(isa, cache.head(), block.queries(), span);
        for (std::size_t i = 0; i < block.ranges.size(); ++i)
            merge_partial(isa, total.rows[i], part.rows[i], dim);
    }
    std::vector<float> out(block.ranges.size() * dim);
    for (std::size_t i = 0; i < block.ranges.size(); ++i) {
        EXPECT_TRUE(total.acc[i].guards_intact());
        finish_partial(isa, total.rows[i], std::span(out).subspan(i * dim, dim));
    }
    return out;
}

/// What a query should give, by softmax in double over all its keys at once, and how far from it
/// the contract allows: with d the largest relative error of an exp(s - max), from that of the
/// scores and of exp itself, and n keys, (2 d + (n + n/8 + 16) 2^-24) * sum(p |v|) / sum(p), and
/// exp(-87) |v| of each key, below which p may be 0.
struct Expected {
    std::vector<double> values, tolerances;
};

Expected expected_attention(const Cache& cache, const Block& block, std::size_t i) {
    const std::size_t dim = block.dim;
    const auto scale = static_cast<double>(scale_of(dim));
    const Range range = block.ranges[i];
    const float* q = block.q.data() + i * dim;
    std::vector<double> scores;
    double score_error = 0;
    for (std::int32_t t = range.first; t <= range.last; ++t) {
        double dot = 0, magnitude = 0;
        for (std::size_t e = 0; e < dim; ++e) {
            const double product = static_cast<double>(q[e]) * static_cast<double>(cache.k(t)[e]);
            dot += product;
            magnitude += std::abs(product);
        }
        scores.push_back(dot * scale);
        score_error = std::max(score_error,
                               (static_cast<double>(dim) / 8 + 8) * kEpsilon * magnitude * scale);
    }
    const auto [least, most] = std::minmax_element(scores.begin(), scores.end());
    const double d = score_error + 2e-7 + kEpsilon * std::min(*most - *least, 88.0);
    std::vector<double> sums(dim), magnitudes(dim), dropped(dim);
    double sum = 0;
    for (std::int32_t t = range.first; t <= range.last; ++t) {
        const double p = std::exp(scores[static_cast<std::size_t>(t - range.first)] - *most);
        sum += p;
        for (std::size_t e = 0; e < dim; ++e) {
            const double pv = p * static_cast<double>(cache.v(t)[e]);
            sums[e] += pv;
            magnitudes[e] += std::abs(pv);
            dropped[e] += std::exp(-87.0) * std::abs(static_cast<double>(cache.v(t)[e]));
        }
    }
    const std::size_t n = scores.size();
    const double relative = 2 * d + (static_cast<double>(n + n / 8) + 16) * kEpsilon;
    for (std::size_t e = 0; e < dim; ++e) {
        sums[e] /= sum;
        magnitudes[e] = (magnitudes[e] * relative + dropped[e]) / sum;
    }
    return {std::move(sums), std::move(magnitudes)};
}

std::vector<std::pair<Isa, DType>> forms_and_types() {
    std::vector<std::pair<Isa, DType>> result;
    for (const Isa isa : runnable_isas()) {
        for (const DType type : kCacheTypes) result.emplace_back(isa, type);
    }
    return result;
}

/// Every form and type of cache; the cache holds exactly the keys that the block may read.
void check(const Block& block, const char* what) {
    for (const DType type : kCacheTypes) {
        if (!can_cache(type, block.dim)) continue;
        const Cache cache(type, block.dim, block.ranges);
        std::vector<std::vector<float>> outs;
        for (const Isa isa : runnable_isas()) outs.push_back(attend(isa, cache, block));
        for (std::size_t i = 0; i < block.ranges.size(); ++i) {
            const Expected expected = expected_attention(cache, block, i);
            for (std::size_t form = 0; form < outs.size(); ++form) {
                for (std::size_t e = 0; e < block.dim; ++e) {
                    const auto out = static_cast<double>(outs[form][i * block.dim + e]);
                    ASSERT_LE(std::abs(out - expected.values[e]), expected.tolerances[e])
                        << what << " " << name(runnable_isas()[form]) << " " << tensor::name(type)
                        << " E " << block.dim << " query " << i << " of " << block.ranges.size()
                        << " keys " << block.ranges[i].first << ".." << block.ranges[i].last
                        << " at " << e << ": " << out << ", not " << expected.values[e];
                }
            }
        }
    }
}

/// `count` queries as the last rows of a prompt: each sees one key more than the one before.
std::vector<Range> rows_ending_at(std::int32_t last, std::size_t count,
                                  std::int32_t window = 1 << 30) {
    std::vector<Range> ranges;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t end = std::max(0, last - static_cast<std::int32_t>(count - 1 - i));
        ranges.push_back({std::max(0, end - window + 1), end});
    }
    return ranges;
}

TEST(Attention, EveryContextLengthFrom1To1100) {
    for (std::int32_t n = 1; n <= 1100; ++n) {
        ASSERT_NO_FATAL_FAILURE(
            check(Block(n % 2 == 0 ? 16 : 32, rows_ending_at(n - 1, 3)), "context"));
    }
}

TEST(Attention, EveryHeadDimAndNumberOfQueries) {
    for (const std::size_t dim :
         {16u, 32u, 48u, 64u, 80u, 96u, 112u, 128u, 160u, 224u, 240u, 256u}) {
        for (std::size_t count = 1; count <= kMaxQueries; ++count) {
            for (const std::int32_t n : {1, 9, 40, 545}) {
                const Block block(dim, rows_ending_at(n - 1, count), 3.0f,
                                  static_cast<unsigned>(dim + count));
                ASSERT_NO_FATAL_FAILURE(check(block, "shape"));
            }
        }
    }
}

TEST(Attention, WindowsThatBeginAndEndAnywhere) {
    for (const std::int32_t window : {1, 2, 31, 32, 33, 512}) {
        for (std::int32_t last = 440; last<1110; last += last % 32> 28 || last % 32 < 3 ? 1 : 7) {
            ASSERT_NO_FATAL_FAILURE(check(Block(32, rows_ending_at(last, 4, window)), "window"));
        }
    }
}

TEST(Attention, HeadsOfOneRowSeeTheSameKeys) {
    ASSERT_NO_FATAL_FAILURE(check(Block(256, std::vector<Range>(4, {0, 4095})), "decode"));
    ASSERT_NO_FATAL_FAILURE(check(Block(128, std::vector<Range>(2, {3000, 4023})), "window"));
}

TEST(Attention, KeysBetweenTheRangesOfTwoQueriesAreNotRead) {
    // Gaps within a page, of whole pages, and of a span; also ranges that only touch.
    const std::vector<std::vector<Range>> cases = {
        {{3, 5}, {9, 12}},
        {{9, 12}, {3, 5}, {20, 21}, {10, 15}},
        {{0, 40}, {200, 310}},
        {{5, 6}, {600, 611}, {7, 9}},
        {{0, 255}, {256, 300}, {511, 512}},
        {{0, 511}, {512, 700}, {1050, 1060}},
        {{64, 70}, {0, 3}, {71, 80}, {400, 400}, {90, 95}, {2, 9}, {511, 511}, {510, 513}},
    };
    for (const auto& ranges : cases) {
        ASSERT_NO_FATAL_FAILURE(check(Block(48, ranges), "gap"));
    }
}

TEST(Attention, ScoresThatSpreadOverThousands) {
    for (const float magnitude : {30.0f, 1000.0f, 0.0f}) {
        ASSERT_NO_FATAL_FAILURE(check(Block(64, rows_ending_at(700, 5), magnitude), "spread"));
    }
}

TEST(Attention, AQueryIsTheSameInEveryBitWhateverIsBesideIt) {
    std::mt19937 generator(11);
    for (int round = 0; round < 120; ++round) {
        const DType type = kCacheTypes[round % 3];
        const std::size_t dim = std::array<std::size_t, 5>{16, 64, 80, 128, 256}[generator() % 5];
        if (!can_cache(type, dim)) continue;
        const std::size_t count = 2 + generator() % (kMaxQueries - 1);
        std::vector<Range> ranges(count);
        for (Range& range : ranges) {
            range.last = static_cast<std::int32_t>(generator() % 1100);
            range.first =
                generator() % 2 == 0
                    ? 0
                    : std::max(0, range.last - static_cast<std::int32_t>(generator() % 200));
        }
        const Block block(dim, ranges, 4.0f, static_cast<unsigned>(round));
        const Cache cache(type, dim, ranges);
        for (const Isa isa : runnable_isas()) {
            for (std::size_t span = 0; span * kSpanTokens < 1100; ++span) {
                const Parts together(isa, cache.head(), block.queries(), span);
                for (std::size_t i = 0; i < count; ++i) {
                    const Parts alone(isa, cache.head(), block.only(i).queries(), span);
                    ASSERT_TRUE(same(together.rows[i], alone.rows[0], dim))
                        << name(isa) << " round " << round << " query " << i << " of " << count
                        << " span " << span;
                }
            }
        }
    }
}

TEST(Attention, SequencesReadThePagesTheyShareAlike) {
    // A fork's table has the pages of its past; one page may even stand for two stretches of it.
    for (const auto& [isa, type] : forms_and_types()) {
        const Block block(64, std::vector<Range>(3, {0, 95}));
        const Cache cache(type, 64, block.ranges);
        const KvHead head = cache.head();
        const std::vector<std::int32_t> fork(head.pages, head.pages + 3);
        const std::vector<std::int32_t> twice = {fork[0], fork[0]};
        const Block one(64, {{0, 31}}), two(64, {{0, 63}});
        KvHead other = head;
        other.pages = fork.data();
        const Parts a(isa, head, block.queries(), 0), b(isa, other, block.queries(), 0);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same(a.rows[i], b.rows[i], 64));
        other.pages = twice.data();
        const Parts once(isa, head, one.queries(), 0), repeated(isa, other, two.queries(), 0);
        EXPECT_EQ(once.rows[0].max, repeated.rows[0].max);
        EXPECT_NEAR(2 * once.rows[0].sum, repeated.rows[0].sum, 1e-5f * repeated.rows[0].sum);
    }
}

TEST(Attention, ASpanWithoutKeysIsNeutral) {
    const Block block(32, {{0, 20}, {kSpanTokens + 88, kSpanTokens + 188}});
    for (const auto& [isa, type] : forms_and_types()) {
        const Cache cache(type, 32, block.ranges);
        for (std::size_t span = 0; span < 4; ++span) {
            const Parts parts(isa, cache.head(), block.queries(), span);
            for (std::size_t i = 0; i < 2; ++i) {
                if (span == i) continue;
                EXPECT_EQ(parts.rows[i].max, -kInfinity) << name(isa);
                EXPECT_EQ(parts.rows[i].sum, 0.0f);
                for (std::size_t e = 0; e < 32; ++e) EXPECT_EQ(parts.rows[i].acc[e], 0.0f);
            }
        }
    }
}

TEST(Attention, ANanQueryOrKeyReachesOnlyTheQueriesThatSeeIt) {
    const Block block(64, rows_ending_at(99, 8));  // query i sees keys 0..92+i
    for (const auto& [isa, type] : forms_and_types()) {
        Cache cache(type, 64, block.ranges);
        const std::vector<float> expected = attend(isa, cache, block);
        Block nan_query = block;
        nan_query.q[2 * 64 + 63] = kNan;
        const std::vector<float> beside_nan = attend(isa, cache, nan_query);
        cache.set_k(97, 5, kNan);  // seen by queries 5, 6 and 7
        const std::vector<float> with_nan_key = attend(isa, cache, block);
        for (std::size_t i = 0; i < 8; ++i) {
            for (std::size_t e = 0; e < 64; ++e) {
                const float plain = expected[i * 64 + e];
                if (i == 2) {
                    EXPECT_TRUE(std::isnan(beside_nan[i * 64 + e])) << name(isa);
                } else {
                    EXPECT_EQ(beside_nan[i * 64 + e], plain) << name(isa) << " query " << i;
                }
                if (i >= 5) {
                    EXPECT_TRUE(std::isnan(with_nan_key[i * 64 + e]))
                        << name(isa) << " query " << i;
                } else {
                    EXPECT_EQ(with_nan_key[i * 64 + e], plain) << name(isa) << " query " << i;
                }
            }
        }
    }
}

TEST(Attention, ASpanOfNothingButNanIsNotTakenForOneWithoutKeys) {
    const Block block(32, {{kSpanTokens - 12, kSpanTokens + 19}});
    for (const auto& [isa, type] : forms_and_types()) {
        for (const bool first_span : {true, false}) {
            Cache cache(type, 32, block.ranges);
            const auto boundary = static_cast<std::int32_t>(kSpanTokens);
            for (std::int32_t t = first_span ? boundary - 12 : boundary;
                 t < (first_span ? boundary : boundary + 20); ++t)
                cache.set_k(t, 0, kNan);
            for (const float value : attend(isa, cache, block))
                EXPECT_TRUE(std::isnan(value)) << name(isa);
        }
    }
}

TEST(MergePartial, APartWithoutKeysChangesNothing) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : {1u, 7u, 8u, 15u, 16u, 17u, 256u}) {
            const std::vector<float> values = random_floats(dim, 5);
            Guarded<float> acc(values), zeros(dim);
            PartialRow seen{1.5f, 3.0f, acc.data()}, none{-kInfinity, 0.0f, zeros.data()};
            merge_partial(isa, seen, none, dim);
            EXPECT_EQ(seen.max, 1.5f);
            EXPECT_EQ(seen.sum, 3.0f);
            EXPECT_TRUE(same_bits<float>(acc.span(), values));
            merge_partial(isa, none, seen, dim);
            EXPECT_EQ(none.max, 1.5f);
            EXPECT_EQ(none.sum, 3.0f);
            EXPECT_TRUE(same_bits<float>(zeros.span(), values));
            EXPECT_TRUE(acc.guards_intact() && zeros.guards_intact());

            PartialRow empty{-kInfinity, 0.0f, zeros.data()}, other{-kInfinity, 0.0f, acc.data()};
            merge_partial(isa, empty, other, dim);
            EXPECT_EQ(empty.max, -kInfinity);
            EXPECT_EQ(empty.sum, 0.0f);
        }
    }
}

TEST(MergePartial, WeighsBothPartsByTheirMaximum) {
    for (const Isa isa : runnable_isas()) {
        for (const auto& [a, b] :
             {std::pair{0.0f, 1.0f}, {5.0f, -3.0f}, {-200.0f, 300.0f}, {2.0f, 2.0f}}) {
            for (const std::size_t dim : {1u, 7u, 8u, 15u, 16u, 17u, 128u}) {
                const std::vector<float> into_acc = random_floats(dim, 6),
                                         from_acc = random_floats(dim, 7);
                Guarded<float> acc(into_acc);
                Guarded<float> from(from_acc);
                PartialRow into{a, 2.0f, acc.data()};
                merge_partial(isa, into, {b, 5.0f, from.data()}, dim);
                const float max = std::max(a, b);
                const double wa = std::exp(static_cast<double>(a) - static_cast<double>(max));
                const double wb = std::exp(static_cast<double>(b) - static_cast<double>(max));
                EXPECT_EQ(into.max, max);
                EXPECT_NEAR(static_cast<double>(into.sum), 2 * wa + 5 * wb,
                            4 * kEpsilon * (2 * wa + 5 * wb));
                for (std::size_t e = 0; e < dim; ++e) {
                    const double x = wa * static_cast<double>(into_acc[e]),
                                 y = wb * static_cast<double>(from_acc[e]);
                    EXPECT_NEAR(static_cast<double>(acc[e]), x + y,
                                4 * kEpsilon * (std::abs(x) + std::abs(y)))
                        << name(isa) << " dim " << dim;
                }
                EXPECT_TRUE(acc.guards_intact());
            }
        }
    }
}

TEST(FinishPartial, DividesBySumAndWritesNothingElse) {
    for (const Isa isa : runnable_isas()) {
        for (const std::size_t dim : {1u, 7u, 8u, 15u, 16u, 17u, 64u, 256u}) {
            std::vector<float> acc = random_floats(dim, 8);
            Guarded<float> out(dim);
            finish_partial(isa, {0.0f, 3.0f, acc.data()}, out.span());
            for (std::size_t e = 0; e < dim; ++e) EXPECT_EQ(out[e], acc[e] / 3.0f) << name(isa);
            EXPECT_TRUE(out.guards_intact());
        }
    }
}

}  // namespace
}  // namespace unicorn::kernels
