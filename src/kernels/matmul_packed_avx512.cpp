// matmul_packed with AVX-512 VNNI: a vector is 16 rows of a panel, one row a lane.
// matmul_packed_blocks.h has the order of work.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/matmul_packed.h"
#include "kernels/matmul_packed_blocks.h"
#include "kernels/matmul_simd.h"
#include "kernels/unpack_avx512.h"

namespace unicorn::kernels {
namespace {

using namespace avx512;  // unpack_avx512.h
using tensor::DType;

// ---- the inner loop ----

/// A group's Codes in memory.
struct StoredCodes {
    const Byte (*step)[64];
    UNICORN_INLINE_VNNI __m512i at(int s) const { return _mm512_load_si512(step[s]); }
};

/// How the integer sums of a group are formed and scaled.
enum class Inner {
    offset,        // one sum that starts at -offset * sum x; 11 operations for 512 products
    minimum,       // one sum from zero, and the minimum's fma
    half_offset,   // two sums, scaled as floats
    super_min,     // the integer sums of 8 groups, half scales included, and those of their minima
    super_offset,  // the same with an offset instead of minima
};

/// Whether a super-block's sums stay integers: its activations share one scale (scale_group).
constexpr bool is_super(Inner inner) {
    return inner == Inner::super_min || inner == Inner::super_offset;
}

/// sum + the dot products of four codes of each row with the four activations at `x`. Written out
/// because gcc 12 does not fold the broadcast into the instruction: 1.2 times slower.
UNICORN_INLINE_VNNI __m512i dot4(__m512i sum, __m512i codes, const std::int8_t* x) {
    using Four = std::int8_t[4];
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(sum)
        : "v"(codes), "m"(*reinterpret_cast<const Four*>(x)));
    return sum;
}

UNICORN_INLINE_VNNI __m512i int_side(const std::uint32_t* p) {
    return _mm512_set1_epi32(static_cast<std::int32_t>(*p));
}
UNICORN_INLINE_VNNI __m512 float_side(const std::uint32_t* p) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<std::int32_t>(*p)));
}

/// Activations of a group. kPackedRows: rows follow each other at constant strides, so that
/// every address is a constant offset. Otherwise they lie `cols` and `side_stride` apart.
template <Inner kInner, bool kPackedRows>
struct Cursor {
    static constexpr std::size_t kWords =
        SideWords::words(kInner == Inner::half_offset ? GroupSum::half_offset : GroupSum::minimum);
    const std::int8_t* codes;
    const std::uint32_t* side;
    std::size_t codes_stride = kGroup;
    std::size_t side_stride = kWords;

    UNICORN_INLINE_VNNI void next_codes() { next(codes, kPackedRows ? kGroup : codes_stride); }
    UNICORN_INLINE_VNNI void next_side() { next(side, kPackedRows ? kWords : side_stride); }

private:
    template <typename Element>
    UNICORN_INLINE_VNNI static void next(const Element*& p, std::size_t stride) {
        p += stride;
        // Hidden from the compiler: gcc would compute every row's address at once and spill most.
        if constexpr (!kPackedRows) asm("" : "+r"(p));
    }
};

/// Adds steps [kFrom, kTo) to the sums of kN rows. A sum is a chain of 5 cycles a step; the chains
/// of several rows interleave, as the scheduler does not reach far enough to overlap rows itself
/// (8 chains instead of 4: 1.2 times faster).
template <int kFrom, int kTo, typename W, int kN>
UNICORN_INLINE_VNNI void dot(__m512i (&sum)[kN], const W& w, const std::int8_t* const (&x)[kN]) {
    UNICORN_UNROLL
    for (int s = kFrom; s < kTo; ++s) {
        const __m512i codes = w.at(s);
        UNICORN_UNROLL
        for (int j = 0; j < kN; ++j) sum[j] = dot4(sum[j], codes, x[j] + 4 * s);
    }
}

/// Adds one group of kN rows of activations to their sums and advances `x` past them.
template <int kN, Inner kInner, bool kPackedRows, typename W>
UNICORN_INLINE_VNNI void add_rows(__m512* acc, const W& w, const Scales& s,
                                  Cursor<kInner, kPackedRows>& x) {
    constexpr bool kTwoSums = kInner == Inner::half_offset;
    const std::int8_t* codes[kN];
    __m512i sum[kN];
    __m512i sum1[kN];  // of the second half group, where it is apart
    Cursor<kInner, kPackedRows> start = x;
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        codes[j] = x.codes;
        x.next_codes();
        sum[j] = kInner == Inner::minimum ? _mm512_setzero_si512() : int_side(start.side + 1);
        sum1[j] = kTwoSums ? int_side(start.side + 2) : _mm512_setzero_si512();
        start.next_side();
    }
    if constexpr (kTwoSums) {
        dot<0, 4>(sum, w, codes);
        dot<4, 8>(sum1, w, codes);
    } else {
        dot<0, 8>(sum, w, codes);
    }
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        const __m512 scale = float_side(x.side);
        if constexpr (kTwoSums) {
            const __m512 first = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[j]), s.scale[0]);
            const __m512 both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum1[j]), s.scale[1], first);
            acc[j] = _mm512_fmadd_ps(both, scale, acc[j]);
        } else {
            acc[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j]), _mm512_mul_ps(s.scale[0], scale),
                                     acc[j]);
        }
        if constexpr (kInner == Inner::minimum)
            acc[j] = _mm512_fnmadd_ps(s.min, float_side(x.side + 1), acc[j]);
        x.next_side();
    }
}

/// Adds one group of kT rows in parts of about equal size, of at most 8 sums each: with 16 rows'
/// floats, that is what the registers hold.
template <int kT, int kPart = 0, Inner kInner, bool kPackedRows, typename W>
UNICORN_INLINE_VNNI void add_group(__m512 (&acc)[kT], const W& w, const Scales& s,
                                   Cursor<kInner, kPackedRows>& x) {
    constexpr int kMost = kInner == Inner::half_offset ? 4 : 8;
    constexpr int kParts = (kT + kMost - 1) / kMost;
    constexpr int kFirst = kT * kPart / kParts;
    constexpr int kN = kT * (kPart + 1) / kParts - kFirst;
    add_rows<kN>(acc + kFirst, w, s, x);
    if constexpr (kPart + 1 < kParts) add_group<kT, kPart + 1>(acc, w, s, x);
}

// ---- the inner loop of super-blocks ----

/// Two int16 products of each row added to its sum.
UNICORN_INLINE_VNNI __m512i add_pairs(__m512i sum, __m512i a, __m512i b) {
    return _mm512_dpwssd_epi32(sum, a, b);
}

/// acc +- what a super-block's integer sums stand for: d times the activations' scale.
template <bool kMinus, int kN, Inner kInner, bool kPackedRows>
UNICORN_INLINE_VNNI void add_scaled(__m512 (&acc)[kN], const __m512i (&sums)[kN], __m512 d,
                                    Cursor<kInner, kPackedRows> x) {
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        const __m512 sum = _mm512_cvtepi32_ps(sums[j]);
        const __m512 scale = _mm512_mul_ps(d, float_side(x.side));
        acc[j] =
            kMinus ? _mm512_fnmadd_ps(sum, scale, acc[j]) : _mm512_fmadd_ps(sum, scale, acc[j]);
        x.next_side();
    }
}

/// The integer sums of a super-block for kN rows of activations.
template <int kN>
struct SuperSums {
    __m512i total[kN];
    __m512i minima[kN];
};

/// Adds one group, codes without their half scales, to the sums of rows [kFrom, kFrom + kN);
/// advances `x` past them.
template <int kFrom, int kN, Inner kInner, int kT>
UNICORN_INLINE_VNNI void add_super_rows(SuperSums<kT>& sums, const Codes& w, const Scales& s,
                                        Cursor<kInner, false>& x) {
    const std::int8_t* codes[kN];
    __m512i sum[2][kN];
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        codes[j] = x.codes;
        x.next_codes();
        sum[0][j] = sum[1][j] = _mm512_setzero_si512();
    }
    dot<0, 4>(sum[0], w, codes);
    dot<4, 8>(sum[1], w, codes);
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        // Both sums fit int16: 16 codes of magnitude <= 7 times 127.
        const __m512i both =
            _mm512_mask_blend_epi16(0xAAAAAAAAu, sum[0][j], _mm512_slli_epi32(sum[1][j], 16));
        __m512i& total = sums.total[kFrom + j];
        total = add_pairs(total, both, s.pair);
        __m512i& extra = kInner == Inner::super_min ? sums.minima[kFrom + j] : total;
        extra = add_pairs(extra, s.side_pair, int_side(x.side + 1));
        x.next_side();
    }
}

// ---- few rows: straight from the panel ----

/// The lanes of a panel of `n_rows` rows that are rows.
constexpr __mmask16 lanes(std::size_t n_rows) { return static_cast<__mmask16>((1u << n_rows) - 1); }

constexpr Inner inner_of(DType type) {
    if (type == DType::q2_k) return Inner::super_min;
    if (type == DType::q3_k) return Inner::super_offset;
    switch (panel_format(type).sum) {
        case GroupSum::minimum: return Inner::minimum;
        case GroupSum::half_offset: return Inner::half_offset;
        default: return Inner::offset;
    }
}
constexpr GroupSum sum_of(DType type) {
    return is_super(inner_of(type)) ? GroupSum::half_pair : panel_format(type).sum;
}

/// Adds the groups of the block at `block`, at most its `n`, and advances `x` past them.
template <DType kType, int kT>
UNICORN_INLINE_VNNI void add_block(__m512 (&acc)[kT], const Byte* block, std::size_t n,
                                   Cursor<inner_of(kType), false>& x) {
    constexpr PanelFormat kFormat = panel_format(kType);
    constexpr Inner kInner = inner_of(kType);
    prefetch_panel<kFormat.header_bytes>(block);
    const BlockScales shared = block_scales<kType>(block);
    const Byte* p_codes = block + kFormat.header_bytes;
    [[maybe_unused]] const Cursor<kInner, false> first = x;
    [[maybe_unused]] SuperSums<kT> sums;
    if constexpr (is_super(kInner)) {
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) sums.total[t] = sums.minima[t] = _mm512_setzero_si512();
    }
    for (std::size_t i = 0; i < n; ++i) {
        prefetch_panel<kFormat.group_bytes()>(p_codes);
        Codes w;
        unpack<kType>(p_codes, w);
        const Scales s = group_scales<kType>(block, shared, i);
        Cursor<kInner, false> group = x;
        if constexpr (is_super(kInner)) {
            constexpr int kFirst = std::min(kT, 4);
            add_super_rows<0, kFirst>(sums, w, s, group);
            if constexpr (kT > kFirst) add_super_rows<kFirst, kT - kFirst>(sums, w, s, group);
        } else {
            add_group<kT>(acc, w, s, group);
        }
        p_codes += kFormat.group_bytes();
        x.codes += kGroup;
        x.side += x.kWords;
    }
    if constexpr (is_super(kInner)) add_scaled<false>(acc, sums.total, shared.d, first);
    if constexpr (kInner == Inner::super_min)
        add_scaled<true>(acc, sums.minima, shared.dmin, first);
}

template <DType kType, int kT>
UNICORN_TARGET_VNNI void direct(const PanelRange& range, const RowTile& rows) {
    constexpr PanelFormat kFormat = panel_format(kType);
    const std::size_t n_groups = rows.cols / kGroup;
    const std::size_t bytes = panel_bytes(kType, rows.cols);
    for (std::size_t p = range.first; p < range.last; ++p) {
        const Byte* block = range.panel(p, bytes);
        __m512 acc[kT];
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) acc[t] = _mm512_setzero_ps();
        Cursor<inner_of(kType), false> x = {rows.codes, rows.side, rows.cols, rows.side_stride};
        for (std::size_t g = 0; g < n_groups; g += kFormat.groups) {
            add_block<kType>(acc, block, std::min(kFormat.groups, n_groups - g), x);
            block += kFormat.block_bytes();
        }
        const __mmask16 mask = lanes(range.n_rows(p));
        float* out = range.out + p * kPanelRows;
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t)
            _mm512_mask_storeu_ps(out + static_cast<std::size_t>(t) * range.out_stride, mask,
                                  acc[t]);
    }
}

// ---- many rows: through an unpacked chunk ----

struct Form {
    using Code = std::int8_t;
    static constexpr std::size_t kDirect = 8;
    static constexpr std::size_t kTile = 16;
    // 12 KiB of codes and 12 KiB of a tile's activations share L1. With 16 groups the sums' loads
    // and stores cost 4 %; with 32 q8_0 loses 2 %, as L1 overflows.
    static constexpr std::size_t kChunk = 24;
    static constexpr std::size_t kRowBlock = 64;  // 128 gain nothing
    struct Chunk {
        alignas(64) Byte codes[kChunk][8][64];
        float scale[kChunk][2][kPanelRows];
        float min[kChunk][kPanelRows];
        std::int16_t side_pair[kChunk][2 * kPanelRows];  // of super-blocks
    };
};
using Chunk = Form::Chunk;

/// Groups [first, first + n) of a panel; `first` starts a block.
template <DType kType>
UNICORN_TARGET_VNNI void unpack_chunk(const Byte* panel, std::size_t first, std::size_t n,
                                      Chunk& out) {
    constexpr PanelFormat kFormat = panel_format(kType);
    const Byte* block = panel + first / kFormat.groups * kFormat.block_bytes();
    for (std::size_t g = 0; g < n; g += kFormat.groups) {
        const BlockScales shared = block_scales<kType>(block);
        const Byte* p = block + kFormat.header_bytes;
        for (std::size_t i = 0; i < std::min(kFormat.groups, n - g);
             ++i, p += kFormat.group_bytes()) {
            Codes w;
            Scales s = group_scales<kType>(block, shared, i);
            if constexpr (kType == DType::q2_k) {
                unpack_scaled_q2(p, block + 64 + 32 * i, w);
            } else if constexpr (kType == DType::q3_k) {
                // -(code - 4) * scale + 128: d changes its sign, and 128 * x comes off again.
                unpack_scaled_q3(p, block + 32 + 32 * i, w);
                s.scale[0] = _mm512_sub_ps(_mm512_setzero_ps(), s.scale[0]);
                s.side_pair = _mm512_set1_epi16(-128);
            } else {
                unpack<kType>(p, w);
            }
            UNICORN_UNROLL
            for (int step = 0; step < 8; ++step)
                _mm512_store_si512(out.codes[g + i][step], w.step[step]);
            constexpr Inner kInner = inner_of(kType);
            _mm512_store_ps(out.scale[g + i][0], s.scale[0]);
            if constexpr (kInner == Inner::half_offset)
                _mm512_store_ps(out.scale[g + i][1], s.scale[1]);
            if constexpr (kInner == Inner::minimum) _mm512_store_ps(out.min[g + i], s.min);
            if constexpr (kInner == Inner::super_min) _mm512_store_ps(out.min[g + i], shared.dmin);
            if constexpr (is_super(kInner)) _mm512_store_si512(out.side_pair[g + i], s.side_pair);
        }
        block += kFormat.block_bytes();
    }
}

/// Group `g` of a chunk.
template <Inner kInner, int kT>
UNICORN_INLINE_VNNI void add_chunk_group(__m512 (&acc)[kT], const Chunk& chunk, std::size_t g,
                                         Cursor<kInner, true>& x) {
    Scales s = {};
    s.scale[0] = _mm512_load_ps(chunk.scale[g][0]);
    if constexpr (kInner == Inner::half_offset) s.scale[1] = _mm512_load_ps(chunk.scale[g][1]);
    if constexpr (kInner == Inner::minimum) s.min = _mm512_load_ps(chunk.min[g]);
    add_group<kT>(acc, StoredCodes{chunk.codes[g]}, s, x);
}

/// sum += the side pairs of the 8 groups from `g` times the sums of their activations.
template <int kT, Inner kInner>
UNICORN_INLINE_VNNI void add_side_pairs(__m512i (&sum)[kT], const Chunk& chunk, std::size_t g,
                                        Cursor<kInner, true> x) {
    for (std::size_t i = 0; i < 8; ++i) {
        const __m512i pair = _mm512_load_si512(chunk.side_pair[g + i]);
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            sum[j] = add_pairs(sum[j], pair, int_side(x.side + 1));
            x.next_side();
        }
    }
}

/// The 8 groups from `g` for kT rows. Codes hold their half scales. The integer sums have the
/// registers in turns while `acc` waits in memory: 16 chains of sums hide the latency that 8 do
/// not.
template <int kT, Inner kInner>
UNICORN_INLINE_VNNI void add_chunk_super(__m512 (&acc)[kT], const Chunk& chunk, std::size_t g,
                                         const Cursor<kInner, true>& first) {
    __m512i sum[kT];
    UNICORN_UNROLL
    for (int j = 0; j < kT; ++j) sum[j] = _mm512_setzero_si512();
    if constexpr (kInner == Inner::super_offset) add_side_pairs(sum, chunk, g, first);
    Cursor<kInner, true> x = first;
    for (std::size_t i = 0; i < 8; ++i) {
        const std::int8_t* codes[kT];
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) {
            codes[j] = x.codes;
            x.next_codes();
        }
        dot<0, 8>(sum, StoredCodes{chunk.codes[g + i]}, codes);
    }
    add_scaled<false>(acc, sum, _mm512_load_ps(chunk.scale[g][0]), first);
    if constexpr (kInner == Inner::super_min) {
        UNICORN_UNROLL
        for (int j = 0; j < kT; ++j) sum[j] = _mm512_setzero_si512();
        add_side_pairs(sum, chunk, g, first);
        add_scaled<true>(acc, sum, _mm512_load_ps(chunk.min[g]), first);
    }
}

/// One tile of rows over `n` groups of a chunk.
template <Inner kInner, int kT>
UNICORN_TARGET_VNNI void tile(const Chunk& chunk, std::size_t n, const std::int8_t* codes,
                              const std::uint32_t* side, const TileOutput& to) {
    const __mmask16 mask = lanes(to.n_rows);
    const Byte* ahead = to.ahead;
    __m512 acc[kT];
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        const float* p = to.out + static_cast<std::size_t>(t) * to.out_stride;
        acc[t] = to.begin ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, p);
    }
    Cursor<kInner, true> x = {codes, side};
    constexpr std::size_t kGroups = is_super(kInner) ? 8 : 1;
    for (std::size_t g = 0; g < n; g += kGroups) {
        for (std::size_t b = 0; b < kGroups * to.ahead_step; b += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(ahead + b), _MM_HINT_T1);
        }
        ahead += kGroups * to.ahead_step;
        if constexpr (is_super(kInner)) {
            add_chunk_super<kT>(acc, chunk, g, x);
            x.codes += kGroups * kT * kGroup;
            x.side += kGroups * kT * x.kWords;
        } else {
            add_chunk_group(acc, chunk, g, x);
        }
    }
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t)
        _mm512_mask_storeu_ps(to.out + static_cast<std::size_t>(t) * to.out_stride, mask, acc[t]);
}

// ---- tables ----

using Kernels = PackedKernels<Form>;

template <DType kType, std::size_t... kI>
constexpr auto direct_table(std::index_sequence<kI...>) {
    return std::array{direct<kType, static_cast<int>(kI) + 1>...};
}
template <Inner kInner, std::size_t... kI>
constexpr auto tile_table(std::index_sequence<kI...>) {
    return std::array{tile<kInner, static_cast<int>(kI) + 1>...};
}

template <Inner kInner>
constexpr auto kTiles = tile_table<kInner>(std::make_index_sequence<Form::kTile>());

template <DType kType>
constexpr Kernels kKernels = {direct_table<kType>(std::make_index_sequence<Form::kDirect>()),
                              sum_of(kType),
                              unpack_chunk<kType>,
                              &kTiles<inner_of(kType)>,
                              sum_of(kType),
                              panel_format(kType).offset};

}  // namespace

void matmul_packed_avx512(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                          std::size_t last, float* out, std::size_t out_stride) {
    with_quantized_type(w.type, [&]<DType kType>() {
        multiply_packed(kKernels<kType>, w, x, first, last, out, out_stride);
    });
}

}  // namespace unicorn::kernels
