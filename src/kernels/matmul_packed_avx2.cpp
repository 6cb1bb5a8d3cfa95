// matmul_packed with AVX2: a vector is 8 rows of a panel, half of what a 64-byte vector of codes
// holds. matmul_packed_blocks.h has the order of work; an output is the same sequence of operations
// on both of its paths.
//
// Codes of up to 6 bits: vpmaddubsw multiplies unsigned codes by activations and adds pairs in
// int16, which must not saturate. Codes are below 64, so that 2^(7 - bits) steps of 2 * code * 127
// fit int16 before vpmaddwd widens them, by ones or by integer half scales.
//
// Weights of 8 bits do not fit that. Few rows multiply |w| by sign(w) x, which spares the widening
// of activations but costs two more operations a step. Many rows widen both to int16 once for each
// chunk: 1.17 times faster (one thread of a Sapphire Rapids VM, q8_0, 512 rows). Tried there:
// (w0 + x1) (w1 + x0), which halves the multiplications but not the operations: 0.95 of the speed
// of int16.

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/matmul_packed.h"
#include "kernels/matmul_packed_blocks.h"
#include "kernels/matmul_simd.h"
#include "kernels/unpack_avx2.h"

namespace unicorn::kernels {
namespace {

using namespace avx2;  // unpack_avx2.h
using tensor::DType;

/// How the integer sums of a group are formed and scaled.
enum class Inner {
    offset,        // unsigned codes; the integer sum starts at -offset * sum x
    signed_codes,  // signed weights of 8 bits
    minimum,       // unsigned codes and a minimum
    half_min,      // unsigned codes, integer half scales and two minima
    half_offset,   // unsigned codes, integer half scales; starts at -offset * sum (half scale * x)
};

constexpr Inner inner_of(DType type) {
    const PanelFormat format = panel_format(type);
    if (format.offset == 128) return Inner::signed_codes;
    switch (format.sum) {
        case GroupSum::minimum: return Inner::minimum;
        case GroupSum::half_min: return Inner::half_min;
        case GroupSum::half_offset: return Inner::half_offset;
        default: return Inner::offset;
    }
}

constexpr GroupSum side_of(DType type) {
    const GroupSum sum = panel_format(type).sum;
    return sum == GroupSum::half_offset ? GroupSum::half_pair : sum;
}

constexpr std::size_t side_words(Inner inner) {
    return SideWords::words(inner == Inner::half_min ? GroupSum::half_min : GroupSum::offset);
}

constexpr bool has_half_scales(Inner inner) {
    return inner == Inner::half_min || inner == Inner::half_offset;
}

/// How many steps' products of 2 * 127 * (2^bits - 1) fit int16 together; at most the steps of a
/// group, or of a half group with a scale of its own.
constexpr int fitting_steps(DType type) {
    if (inner_of(type) == Inner::signed_codes) return 1;
    const int most = has_half_scales(inner_of(type)) ? 4 : 8;
    const int largest = 254 * ((1 << panel_format(type).bits) - 1);
    int n = 1;
    while (2 * n <= most && 2 * n * largest <= 32767) n *= 2;
    return n;
}

// ---- the inner loop ----

/// Where a group's codes come from: the panel, or bytes stored a step after another.
template <DType kType>
struct PanelCodes {
    const Byte* p;
    template <int kS>
    UNICORN_INLINE_AVX2 __m256i at() const {
        return unpack_step<kType, kS>(p);
    }
};
struct StoredCodes {
    const Byte (*step)[32];
    template <int kS>
    UNICORN_INLINE_AVX2 __m256i at() const {
        return load(step[kS]);
    }
};

UNICORN_INLINE_AVX2 __m256i broadcast4(const void* p) {
    std::int32_t four = 0;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
UNICORN_INLINE_AVX2 __m256 float_side(const std::uint32_t* p) {
    return _mm256_castsi256_ps(broadcast4(p));
}

/// Keeps a sum where it is: gcc would turn sums of products into trees and spill their leaves.
UNICORN_INLINE_AVX2 void pin(__m256i& v) { asm("" : "+x"(v)); }

/// Adds steps [kS, kTo) times `by` to the sums of kT rows, kFit steps in int16 at a time.
template <Inner kInner, int kFit, int kS, int kTo, int kT, typename W>
UNICORN_INLINE_AVX2 void dot(__m256i (&sum)[kT], __m256i (&wide)[kT], const W& w,
                             const std::int8_t* const* x, __m256i by) {
    const __m256i codes = w.template at<kS>();
    const __m256i magnitude = kInner == Inner::signed_codes ? _mm256_abs_epi8(codes) : codes;
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        __m256i four = broadcast4(x[t] + 4 * kS);
        if constexpr (kInner == Inner::signed_codes) four = _mm256_sign_epi8(four, codes);
        const __m256i product = _mm256_maddubs_epi16(magnitude, four);
        wide[t] = kS % kFit == 0 ? product : _mm256_add_epi16(wide[t], product);
        pin(wide[t]);
    }
    if constexpr ((kS + 1) % kFit == 0) {
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t)
            sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(wide[t], by));
    }
    if constexpr (kS + 1 < kTo) dot<kInner, kFit, kS + 1, kTo>(sum, wide, w, x, by);
}

/// Adds a group of int16: `w` holds the even and the odd columns of each step, as x does.
template <int kT>
UNICORN_INLINE_AVX2 void dot(__m256i (&sum)[kT], const Byte (*w)[32],
                             const std::int16_t* const* x) {
    UNICORN_UNROLL
    for (int s = 0; s < 16; ++s) {
        const __m256i weights = load(w[s]);
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) {
            const __m256i two = broadcast4(x[t] + 2 * s);
            sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(weights, two));
            pin(sum[t]);
        }
    }
}

/// Adds one group of kT rows of activations to their sums `acc`.
template <Inner kInner, int kFit, int kT, typename W, typename Code>
UNICORN_INLINE_AVX2 void add_group(__m256* acc, const W& w, const Scales& s, const Code* const* x,
                                   const std::uint32_t* const* side) {
    __m256i sum[kT];
    __m256i wide[kT];
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        sum[t] = _mm256_setzero_si256();
        if constexpr (kInner == Inner::offset) sum[t] = broadcast4(side[t] + 1);
        if constexpr (kInner == Inner::half_offset)
            sum[t] = _mm256_madd_epi16(s.offsets, broadcast4(side[t] + 1));
    }
    if constexpr (std::is_same_v<Code, std::int16_t>) {
        dot<kT>(sum, w.step, x);
    } else if constexpr (has_half_scales(kInner)) {
        dot<kInner, kFit, 0, 4>(sum, wide, w, x, s.half[0]);
        dot<kInner, kFit, 4, 8>(sum, wide, w, x, s.half[1]);
    } else {
        dot<kInner, kFit, 0, 8>(sum, wide, w, x, _mm256_set1_epi16(1));
    }
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        const __m256 scale = _mm256_mul_ps(s.scale, float_side(side[t]));
        acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), scale, acc[t]);
        if constexpr (kInner == Inner::minimum || kInner == Inner::half_min)
            acc[t] = _mm256_fnmadd_ps(s.min[0], float_side(side[t] + 1), acc[t]);
        if constexpr (kInner == Inner::half_min)
            acc[t] = _mm256_fnmadd_ps(s.min[1], float_side(side[t] + 2), acc[t]);
    }
}

/// The lanes of half `h` of a panel of `n_rows` rows that are rows.
UNICORN_INLINE_AVX2 __m256i lanes(std::size_t n_rows, std::size_t h) {
    const int left = static_cast<int>(n_rows) - static_cast<int>(8 * h);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// ---- unpacked codes ----

UNICORN_INLINE_AVX2 void store(Byte* p, __m256i v) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), v);
}

/// The 8 steps of a group of 8 rows at `p`.
template <DType kType, int kS = 0>
UNICORN_INLINE_AVX2 void store_bytes(const Byte* p, Byte (*out)[32]) {
    store(out[kS], unpack_step<kType, kS>(p));
    if constexpr (kS < 7) store_bytes<kType, kS + 1>(p, out);
}

/// The same as int16: the even columns of a step, then the odd ones.
template <DType kType, int kS = 0>
UNICORN_INLINE_AVX2 void store_words(const Byte* p, Byte (*out)[32]) {
    const __m256i step = unpack_step<kType, kS>(p);
    store(out[2 * kS], _mm256_srai_epi16(_mm256_slli_epi16(step, 8), 8));
    store(out[2 * kS + 1], _mm256_srai_epi16(step, 8));
    if constexpr (kS < 7) store_words<kType, kS + 1>(p, out);
}

/// What a group of this kind uses of its scales. To copy them all costs 12 rows a fifth of
/// their time.
template <Inner kInner>
UNICORN_INLINE_AVX2 void store_scales(const Scales& s, Scales& out) {
    out.scale = s.scale;
    if constexpr (kInner == Inner::minimum || kInner == Inner::half_min) out.min[0] = s.min[0];
    if constexpr (kInner == Inner::half_min) out.min[1] = s.min[1];
    if constexpr (has_half_scales(kInner)) {
        out.half[0] = s.half[0];
        out.half[1] = s.half[1];
    }
    if constexpr (kInner == Inner::half_offset) out.offsets = s.offsets;
}

// ---- few rows: straight from the panel ----

constexpr std::size_t kDirectRows = 8;

/// More rows than registers hold are two parts that share the unpacked codes: 8 rows take 0.87 of
/// the time that they take as one part with spilled sums, 0.94 of that by the path of many rows.
constexpr int kRegisterRows = 4;

template <DType kType, int kT>
UNICORN_INLINE_AVX2 void add_panel_group(__m256* acc, const Byte* p, const Scales& s,
                                         const std::int8_t* const* x,
                                         const std::uint32_t* const* side) {
    constexpr Inner kInner = inner_of(kType);
    constexpr int kFit = fitting_steps(kType);
    if constexpr (kT <= kRegisterRows) {
        add_group<kInner, kFit, kT>(acc, PanelCodes<kType>{p}, s, x, side);
    } else {
        constexpr int kHalf = kT / 2;
        alignas(32) Byte codes[8][32];
        store_bytes<kType>(p, codes);
        asm("" : "+m"(codes));  // else gcc keeps some in registers and spills sums
        add_group<kInner, kFit, kHalf>(acc, StoredCodes{codes}, s, x, side);
        add_group<kInner, kFit, kT - kHalf>(acc + kHalf, StoredCodes{codes}, s, x + kHalf,
                                            side + kHalf);
    }
}

template <DType kType, int kT>
UNICORN_TARGET_AVX2 void direct(const PanelRange& range, const RowTile& rows) {
    constexpr PanelFormat kFormat = panel_format(kType);
    constexpr std::size_t kWords = side_words(inner_of(kType));
    const std::size_t n_groups = rows.cols / kGroup;
    const std::size_t bytes = panel_bytes(kType, rows.cols);
    for (std::size_t p = range.first; p < range.last; ++p) {
        const Byte* block = range.panel(p, bytes);
        __m256 acc[2][kT];
        const std::int8_t* x[kT];
        const std::uint32_t* side[kT];
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) {
            acc[0][t] = acc[1][t] = _mm256_setzero_ps();
            x[t] = rows.codes + static_cast<std::size_t>(t) * rows.cols;
            side[t] = rows.side + static_cast<std::size_t>(t) * rows.side_stride;
        }
        for (std::size_t g = 0; g < n_groups; g += kFormat.groups) {
            const std::size_t n = std::min(kFormat.groups, n_groups - g);
            prefetch_panel<kFormat.header_bytes>(block);
            const Byte* codes = block + kFormat.header_bytes;
            for (std::size_t i = 0; i < n; ++i) {
                prefetch_panel<kFormat.group_bytes()>(codes);
                UNICORN_UNROLL
                for (std::size_t h = 0; h < 2; ++h) {
                    add_panel_group<kType, kT>(acc[h], codes + 32 * h,
                                               group_scales<kType>(block, i, h), x, side);
                }
                codes += kFormat.group_bytes();
                UNICORN_UNROLL
                for (int t = 0; t < kT; ++t) {
                    x[t] += kGroup;
                    side[t] += kWords;
                }
            }
            block += kFormat.block_bytes();
        }
        UNICORN_UNROLL
        for (std::size_t h = 0; h < 2; ++h) {
            const __m256i mask = lanes(range.n_rows(p), h);
            float* out = range.out + p * kPanelRows + 8 * h;
            UNICORN_UNROLL
            for (int t = 0; t < kT; ++t)
                _mm256_maskstore_ps(out + static_cast<std::size_t>(t) * range.out_stride, mask,
                                    acc[h][t]);
        }
    }
}

// ---- many rows: through an unpacked chunk ----

/// kVectors 32-byte vectors hold 8 rows of a group. On a Sapphire Rapids VM, 512 rows, tiles of 5
/// and 6 rows, or of 3 and 4 rows by both halves of a panel, are within 3 % of 4 rows by a half.
/// Bytes by 16 groups lose 1 to 8 %, row blocks of 32 lose 3 %; int16 fill L1 with 16 groups.
template <typename CodeType, std::size_t kGroups, std::size_t kVectors>
struct FormOf {
    using Code = CodeType;
    static constexpr std::size_t kDirect = kDirectRows;
    static constexpr std::size_t kTile = 4;
    static constexpr std::size_t kChunk = kGroups;
    static constexpr std::size_t kRowBlock = 64;
    struct Chunk {
        alignas(64) Byte codes[2][kChunk][kVectors][32];  // by half of the panel
        Scales scales[2][kChunk];
    };
};
using Bytes = FormOf<std::int8_t, 32, 8>;
using Words = FormOf<std::int16_t, 16, 16>;

template <Inner kInner>
using Form = std::conditional_t<kInner == Inner::signed_codes, Words, Bytes>;

template <DType kType>
UNICORN_TARGET_AVX2 void unpack_chunk(const Byte* panel, std::size_t first, std::size_t n,
                                      typename Form<inner_of(kType)>::Chunk& out) {
    constexpr PanelFormat kFormat = panel_format(kType);
    const Byte* block = panel + first / kFormat.groups * kFormat.block_bytes();
    for (std::size_t g = 0; g < n; ++g) {
        const std::size_t i = g % kFormat.groups;
        const Byte* p = block + kFormat.header_bytes + i * kFormat.group_bytes();
        UNICORN_UNROLL
        for (std::size_t h = 0; h < 2; ++h) {
            if constexpr (inner_of(kType) == Inner::signed_codes) {
                store_words<kType>(p + 32 * h, out.codes[h][g]);
            } else {
                store_bytes<kType>(p + 32 * h, out.codes[h][g]);
            }
            store_scales<inner_of(kType)>(group_scales<kType>(block, i, h), out.scales[h][g]);
        }
        if (i + 1 == kFormat.groups) block += kFormat.block_bytes();
    }
}

template <Inner kInner, int kFit, int kT>
UNICORN_TARGET_AVX2 void tile(const typename Form<kInner>::Chunk& chunk, std::size_t n,
                              const typename Form<kInner>::Code* codes, const std::uint32_t* side,
                              const TileOutput& to) {
    constexpr std::size_t kWords = side_words(kInner);
    const Byte* ahead = to.ahead;
    const std::size_t ahead_step = to.ahead_step / 2;
    for (std::size_t h = 0; h < 2; ++h) {
        const __m256i mask = lanes(to.n_rows, h);
        float* out = to.out + 8 * h;
        __m256 acc[kT];
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) {
            const float* p = out + static_cast<std::size_t>(t) * to.out_stride;
            acc[t] = to.begin ? _mm256_setzero_ps() : _mm256_maskload_ps(p, mask);
        }
        for (std::size_t g = 0; g < n; ++g) {
            for (std::size_t b = 0; b < ahead_step; b += 64)
                _mm_prefetch(reinterpret_cast<const char*>(ahead + b), _MM_HINT_T1);
            ahead += ahead_step;
            const typename Form<kInner>::Code* x[kT];
            const std::uint32_t* sides[kT];
            UNICORN_UNROLL
            for (std::size_t t = 0; t < kT; ++t) {
                x[t] = codes + (g * kT + t) * kGroup;
                sides[t] = side + (g * kT + t) * kWords;
            }
            add_group<kInner, kFit, kT>(acc, StoredCodes{chunk.codes[h][g]}, chunk.scales[h][g], x,
                                        sides);
        }
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t)
            _mm256_maskstore_ps(out + static_cast<std::size_t>(t) * to.out_stride, mask, acc[t]);
    }
}

// ---- tables ----

template <DType kType>
using Kernels = PackedKernels<Form<inner_of(kType)>>;

template <DType kType, std::size_t... kI>
constexpr auto direct_table(std::index_sequence<kI...>) {
    return std::array{direct<kType, static_cast<int>(kI) + 1>...};
}
template <Inner kInner, int kFit, std::size_t... kI>
constexpr auto tile_table(std::index_sequence<kI...>) {
    return std::array{tile<kInner, kFit, static_cast<int>(kI) + 1>...};
}

template <Inner kInner, int kFit>
constexpr auto kTiles = tile_table<kInner, kFit>(std::make_index_sequence<Form<kInner>::kTile>());

template <DType kType>
constexpr Kernels<kType> kKernels = {direct_table<kType>(std::make_index_sequence<kDirectRows>()),
                                     side_of(kType),
                                     unpack_chunk<kType>,
                                     &kTiles<inner_of(kType), fitting_steps(kType)>,
                                     side_of(kType),
                                     panel_format(kType).offset};

}  // namespace

void matmul_packed_avx2(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                        std::size_t last, float* out, std::size_t out_stride) {
    with_quantized_type(w.type, [&]<DType kType>() {
        multiply_packed(kKernels<kType>, w, x, first, last, out, out_stride);
    });
}

}  // namespace unicorn::kernels
