// matmul_packed with AVX-512 VNNI: a vector is 16 rows of a panel, one row a lane.
//
// Up to kDirect rows of activations, a panel is unpacked in registers as it is read: that is the
// path of decoding, bound by memory. More rows go through a chunk of the panel unpacked to bytes
// once for up to 64 rows; tiles of at most 16 rows then keep their sums in registers. Both compute
// each output by the same integer sums and the same float operations in the same order.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_simd.h"
#include "kernels/unpack_avx512.h"

namespace unicorn::kernels {
namespace {

using namespace avx512;  // unpack_avx512.h
using tensor::DType;

constexpr std::size_t kDirect = 8;  // most rows for which the panel is unpacked in registers
constexpr std::size_t kTile = 16;   // most rows whose sums are in registers
// Groups unpacked at a time: 12 KiB of codes and 12 KiB of a tile's activations share L1. With 16
// the sums' loads and stores cost 4 %; with 32 q8_0 loses 2 %, as L1 overflows.
constexpr std::size_t kChunk = 24;
constexpr std::size_t kRowBlock = 64;  // rows for which a chunk is unpacked once; 128 gain nothing
constexpr std::size_t kPanelBlock = 128;  // panels for which a chunk of rows is laid out once
// Bytes between what is read and what is prefetched, for few rows. Share of the read bandwidth with
// one thread on a Sapphire Rapids VM, q4_0 and q2_k: 0.84, 0.74 with 2048; 0.80, 0.74 with 4096;
// 0.75, 0.67 with 1024; 0.71, 0.53 without.
constexpr std::size_t kAhead = 2048;

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
    half_min,      // one sum from zero over codes that hold the half scale; two minima
    pairs_min,     // two sums, scaled by int16 half scales and added as integers; two minima
    pairs_offset,  // the same from -offset * sum x
    half_offset,   // two sums, scaled as floats
};

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

constexpr bool has_two_sides(Inner inner) {
    return inner != Inner::offset && inner != Inner::minimum;
}
constexpr bool has_two_sums(Inner inner) {
    return inner == Inner::half_offset || inner == Inner::pairs_offset || inner == Inner::pairs_min;
}

/// Activations of a group. kPackedRows: rows follow each other at constant strides, so that
/// every address is a constant offset. Otherwise they lie `cols` and `side_stride` apart.
template <Inner kInner, bool kPackedRows>
struct Cursor {
    static constexpr std::size_t kWords =
        SideWords::words(has_two_sides(kInner) ? GroupSum::half_min : GroupSum::minimum);
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
    constexpr bool kIntSide =
        kInner == Inner::offset || kInner == Inner::half_offset || kInner == Inner::pairs_offset;
    const std::int8_t* codes[kN];
    __m512i sum[kN];
    __m512i sum1[kN];  // of the second half group, where it is apart
    Cursor<kInner, kPackedRows> start = x;
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        codes[j] = x.codes;
        x.next_codes();
        sum[j] = kIntSide ? int_side(start.side + 1) : _mm512_setzero_si512();
        sum1[j] =
            kIntSide && has_two_sums(kInner) ? int_side(start.side + 2) : _mm512_setzero_si512();
        if constexpr (kIntSide) start.next_side();
    }
    if constexpr (has_two_sums(kInner)) {
        dot<0, 4>(sum, w, codes);
        dot<4, 8>(sum1, w, codes);
    } else {
        dot<0, 8>(sum, w, codes);
    }
    UNICORN_UNROLL
    for (int j = 0; j < kN; ++j) {
        const __m512 scale = float_side(x.side);
        if constexpr (kInner == Inner::half_offset) {
            const __m512 first = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[j]), s.scale[0]);
            const __m512 both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum1[j]), s.scale[1], first);
            acc[j] = _mm512_fmadd_ps(both, scale, acc[j]);
        } else {
            if constexpr (has_two_sums(kInner)) {
                // Both sums fit int16: 16 codes of magnitude <= 4 times 127.
                sum[j] =
                    _mm512_mask_blend_epi16(0xAAAAAAAAu, sum[j], _mm512_slli_epi32(sum1[j], 16));
                sum[j] = _mm512_madd_epi16(sum[j], s.pair);
            }
            acc[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j]), _mm512_mul_ps(s.scale[0], scale),
                                     acc[j]);
        }
        if constexpr (!kIntSide)
            acc[j] = _mm512_fnmadd_ps(s.min[0], float_side(x.side + 1), acc[j]);
        if constexpr (kInner == Inner::half_min || kInner == Inner::pairs_min) {
            acc[j] = _mm512_fnmadd_ps(s.min[1], float_side(x.side + 2), acc[j]);
        }
        x.next_side();
    }
}

/// Adds one group of kT rows in parts of about equal size, of at most 8 sums each: with 16 rows'
/// floats, that is what the registers hold.
template <int kT, int kPart = 0, Inner kInner, bool kPackedRows, typename W>
UNICORN_INLINE_VNNI void add_group(__m512 (&acc)[kT], const W& w, const Scales& s,
                                   Cursor<kInner, kPackedRows>& x) {
    constexpr int kMost = has_two_sums(kInner) ? 4 : 8;
    constexpr int kParts = (kT + kMost - 1) / kMost;
    constexpr int kFirst = kT * kPart / kParts;
    constexpr int kN = kT * (kPart + 1) / kParts - kFirst;
    add_rows<kN>(acc + kFirst, w, s, x);
    if constexpr (kPart + 1 < kParts) add_group<kT, kPart + 1>(acc, w, s, x);
}

// ---- few rows: straight from the panel ----

/// Panels [first, last) and where their outputs go.
struct PanelRange {
    const PackedMatrix& w;
    std::size_t first;
    std::size_t last;
    float* out;
    std::size_t out_stride;

    /// The lanes of panel `p` that are rows.
    __mmask16 mask(std::size_t p) const {
        const std::size_t n = std::min(kPanelRows, w.rows - p * kPanelRows);
        return static_cast<__mmask16>((1u << n) - 1);
    }
};

constexpr Inner direct_inner(DType type) {
    if (type == DType::q2_k) return Inner::pairs_min;
    if (type == DType::q3_k) return Inner::pairs_offset;
    switch (panel_format(type).sum) {
        case GroupSum::minimum: return Inner::minimum;
        case GroupSum::half_offset: return Inner::half_offset;
        default: return Inner::offset;
    }
}

template <DType kType, int kT>
UNICORN_TARGET_VNNI void direct(const PanelRange& range, const RowTile& rows) {
    constexpr PanelFormat kFormat = panel_format(kType);
    constexpr Inner kInner = direct_inner(kType);
    const std::size_t n_groups = rows.cols / kGroup;
    const std::size_t bytes = panel_bytes(kType, rows.cols);
    for (std::size_t p = range.first; p < range.last; ++p) {
        const auto* block = reinterpret_cast<const Byte*>(range.w.data) + p * bytes;
        __m512 acc[kT];
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) acc[t] = _mm512_setzero_ps();
        Cursor<kInner, false> x = {rows.codes, rows.side, rows.cols, rows.side_stride};
        for (std::size_t g = 0; g < n_groups; g += kFormat.groups) {
            const std::size_t n = std::min(kFormat.groups, n_groups - g);
            for (std::size_t b = 0; b < kFormat.header_bytes; b += 64) {
                _mm_prefetch(reinterpret_cast<const char*>(block + kAhead + b), _MM_HINT_T0);
            }
            const BlockScales shared = block_scales<kType>(block);
            const Byte* p_codes = block + kFormat.header_bytes;
            for (std::size_t i = 0; i < n; ++i) {
                UNICORN_UNROLL
                for (int v = 0; v < kFormat.bits; ++v) {
                    _mm_prefetch(reinterpret_cast<const char*>(p_codes + kAhead + 64 * v),
                                 _MM_HINT_T0);
                }
                Codes w;
                unpack<kType>(p_codes, w);
                Cursor<kInner, false> group = x;
                add_group<kT>(acc, w, group_scales<kType>(block, shared, i), group);
                p_codes += kFormat.group_bytes();
                x.codes += kGroup;
                x.side += x.kWords;
            }
            block += kFormat.block_bytes();
        }
        const __mmask16 mask = range.mask(p);
        float* out = range.out + p * kPanelRows;
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t)
            _mm512_mask_storeu_ps(out + static_cast<std::size_t>(t) * range.out_stride, mask,
                                  acc[t]);
    }
}

// ---- many rows: through an unpacked chunk ----

/// kChunk groups of a panel, a byte a code.
struct Chunk {
    alignas(64) Byte codes[kChunk][8][64];
    float scale[kChunk][2][kPanelRows];
    float min[kChunk][2][kPanelRows];
};

constexpr Inner chunk_inner(DType type) {
    if (type == DType::q2_k) return Inner::half_min;
    if (type == DType::q3_k) return Inner::offset;
    return direct_inner(type);
}
constexpr GroupSum chunk_sum(DType type) {
    return type == DType::q3_k ? GroupSum::offset : panel_format(type).sum;
}
constexpr int chunk_offset(DType type) {
    return type == DType::q3_k ? 128 : panel_format(type).offset;
}

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
                unpack_scaled_q3(p, block + 32 + 32 * i, w);
                s.scale[0] = _mm512_sub_ps(_mm512_setzero_ps(), s.scale[0]);
            } else {
                unpack<kType>(p, w);
            }
            UNICORN_UNROLL
            for (int step = 0; step < 8; ++step)
                _mm512_store_si512(out.codes[g + i][step], w.step[step]);
            constexpr Inner kInner = chunk_inner(kType);
            _mm512_store_ps(out.scale[g + i][0], s.scale[0]);
            if constexpr (kInner == Inner::half_offset)
                _mm512_store_ps(out.scale[g + i][1], s.scale[1]);
            if constexpr (kInner == Inner::minimum || kInner == Inner::half_min)
                _mm512_store_ps(out.min[g + i][0], s.min[0]);
            if constexpr (kInner == Inner::half_min) _mm512_store_ps(out.min[g + i][1], s.min[1]);
        }
        block += kFormat.block_bytes();
    }
}

/// A block of rows over kChunk groups, one tile after another: [group][row of the tile].
struct RowChunk {
    alignas(64) std::int8_t codes[kRowBlock * kChunk * kGroup];
    std::uint32_t side[kRowBlock * kChunk * 3];

    /// Groups [first, first + n) of rows [t, t + size) of x, to the place of row `row` of the
    /// block.
    void fill(const QuantizedRows& x, std::size_t t, std::size_t row, std::size_t size,
              std::size_t first, std::size_t n, GroupSum sum, int offset) {
        switch (sum) {
            case GroupSum::offset:
                return fill_as<GroupSum::offset>(x, t, row, size, first, n, offset);
            case GroupSum::minimum:
                return fill_as<GroupSum::minimum>(x, t, row, size, first, n, offset);
            case GroupSum::half_min:
                return fill_as<GroupSum::half_min>(x, t, row, size, first, n, offset);
            case GroupSum::half_offset:
                return fill_as<GroupSum::half_offset>(x, t, row, size, first, n, offset);
        }
    }

private:
    template <GroupSum kSum>
    UNICORN_TARGET_VNNI void fill_as(const QuantizedRows& x, std::size_t t, std::size_t row,
                                     std::size_t size, std::size_t first, std::size_t n,
                                     int offset) {
        constexpr std::size_t kWords = SideWords::words(kSum);
        const std::size_t n_groups = x.cols / kGroup;
        for (std::size_t j = 0; j < size; ++j) {
            const std::size_t i = (t + j) * n_groups + first;
            const std::int8_t* from = x.codes + i * kGroup;
            const float* scales = x.scales + i;
            const std::int32_t* sums = x.sums + 2 * i;
            std::int8_t* c = codes + row * kChunk * kGroup + j * kGroup;
            std::uint32_t* s = side + row * kChunk * kWords + j * kWords;
            for (std::size_t g = 0; g < n; ++g) {
                const auto* block = reinterpret_cast<const __m256i*>(from + g * kGroup);
                _mm256_store_si256(reinterpret_cast<__m256i*>(c), _mm256_loadu_si256(block));
                SideWords::put(scales[g], sums + 2 * g, kSum, offset, s);
                c += size * kGroup;
                s += size * kWords;
            }
        }
    }
};

/// One tile of rows over `n` groups of a chunk; `out` holds the sums of the groups before. Each
/// group asks for `ahead_step` bytes at `ahead`: so the next panel's part comes while this is used.
template <Inner kInner, int kT>
UNICORN_TARGET_VNNI void tile(const Chunk& chunk, std::size_t n, const std::int8_t* codes,
                              const std::uint32_t* side, bool begin, float* out,
                              std::size_t out_stride, __mmask16 mask, const Byte* ahead,
                              std::size_t ahead_step) {
    __m512 acc[kT];
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        acc[t] = begin
                     ? _mm512_setzero_ps()
                     : _mm512_maskz_loadu_ps(mask, out + static_cast<std::size_t>(t) * out_stride);
    }
    Cursor<kInner, true> x = {codes, side};
    for (std::size_t g = 0; g < n; ++g) {
        for (std::size_t b = 0; b < ahead_step; b += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(ahead + b), _MM_HINT_T1);
        }
        ahead += ahead_step;
        Scales s = {};
        s.scale[0] = _mm512_load_ps(chunk.scale[g][0]);
        if constexpr (kInner == Inner::half_offset) s.scale[1] = _mm512_load_ps(chunk.scale[g][1]);
        if constexpr (kInner == Inner::minimum || kInner == Inner::half_min)
            s.min[0] = _mm512_load_ps(chunk.min[g][0]);
        if constexpr (kInner == Inner::half_min) s.min[1] = _mm512_load_ps(chunk.min[g][1]);
        add_group<kT>(acc, StoredCodes{chunk.codes[g]}, s, x);
    }
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t)
        _mm512_mask_storeu_ps(out + static_cast<std::size_t>(t) * out_stride, mask, acc[t]);
}

// ---- tables ----

using DirectFn = void (*)(const PanelRange&, const RowTile&);
using UnpackFn = void (*)(const Byte*, std::size_t, std::size_t, Chunk&);
using TileFn = void (*)(const Chunk&, std::size_t, const std::int8_t*, const std::uint32_t*, bool,
                        float*, std::size_t, __mmask16, const Byte*, std::size_t);

template <DType kType, std::size_t... kI>
constexpr std::array<DirectFn, kDirect> direct_table(std::index_sequence<kI...>) {
    return {direct<kType, static_cast<int>(kI) + 1>...};
}
template <Inner kInner, std::size_t... kI>
constexpr std::array<TileFn, kTile> tile_table(std::index_sequence<kI...>) {
    return {tile<kInner, static_cast<int>(kI) + 1>...};
}

template <Inner kInner>
constexpr std::array<TileFn, kTile> kTiles = tile_table<kInner>(std::make_index_sequence<kTile>());

struct Kernels {
    std::array<DirectFn, kDirect> direct;  // by rows - 1
    UnpackFn unpack;
    const std::array<TileFn, kTile>* tile;  // by rows - 1
    GroupSum chunk_sum;
    int chunk_offset;
};

template <DType kType>
constexpr Kernels kKernels = {direct_table<kType>(std::make_index_sequence<kDirect>()),
                              unpack_chunk<kType>, &kTiles<chunk_inner(kType)>, chunk_sum(kType),
                              chunk_offset(kType)};

const Kernels& kernels_of(DType type) {
    switch (type) {
        case DType::q4_0: return kKernels<DType::q4_0>;
        case DType::q4_1: return kKernels<DType::q4_1>;
        case DType::q5_0: return kKernels<DType::q5_0>;
        case DType::q5_1: return kKernels<DType::q5_1>;
        case DType::q8_0: return kKernels<DType::q8_0>;
        case DType::q2_k: return kKernels<DType::q2_k>;
        case DType::q3_k: return kKernels<DType::q3_k>;
        case DType::q4_k: return kKernels<DType::q4_k>;
        case DType::q5_k: return kKernels<DType::q5_k>;
        case DType::q6_k: return kKernels<DType::q6_k>;
        case DType::iq4_nl: return kKernels<DType::iq4_nl>;
        case DType::iq4_xs: return kKernels<DType::iq4_xs>;
        case DType::f32:
        case DType::f16:
        case DType::bf16: break;
    }
    check_failed("a packed matrix has a quantised type", __FILE__, __LINE__);
}

/// Rows [t0, t0 + n_rows) of x, at most kRowBlock: a few panels at a time, a chunk of columns after
/// another, each panel's part unpacked once. `out` keeps the sums between chunks.
void block_of_rows(const Kernels& kernels, const PanelRange& range, const QuantizedRows& x,
                   std::size_t t0, std::size_t n_rows) {
    const std::size_t n_groups = x.cols / kGroup;
    const std::size_t bytes = panel_bytes(range.w.type, x.cols);
    const PanelFormat format = panel_format(range.w.type);
    const std::size_t words = SideWords::words(kernels.chunk_sum);
    const std::size_t n_tiles = (n_rows + kTile - 1) / kTile;
    const auto tile_begin = [&](std::size_t i) { return n_rows * i / n_tiles; };
    Chunk chunk;
    RowChunk rows;
    for (std::size_t first = range.first; first < range.last; first += kPanelBlock) {
        const std::size_t last = std::min(range.last, first + kPanelBlock);
        for (std::size_t g = 0; g < n_groups; g += kChunk) {
            const std::size_t n = std::min(kChunk, n_groups - g);
            for (std::size_t i = 0; i < n_tiles; ++i) {
                const std::size_t t = tile_begin(i);
                rows.fill(x, t0 + t, t, tile_begin(i + 1) - t, g, n, kernels.chunk_sum,
                          kernels.chunk_offset);
            }
            const std::size_t begin = g / format.groups * format.block_bytes();
            const std::size_t part = (n + format.groups - 1) / format.groups * format.block_bytes();
            const std::size_t ahead_step = (part + n_tiles * n - 1) / (n_tiles * n);
            for (std::size_t p = first; p < last; ++p) {
                const Byte* panel = reinterpret_cast<const Byte*>(range.w.data) + p * bytes;
                kernels.unpack(panel, g, n, chunk);
                for (std::size_t i = 0; i < n_tiles; ++i) {
                    const std::size_t t = tile_begin(i);
                    const Byte* ahead = panel + bytes + begin + i * n * ahead_step;
                    (*kernels.tile)[tile_begin(i + 1) - t - 1](
                        chunk, n, rows.codes + t * kChunk * kGroup, rows.side + t * kChunk * words,
                        g == 0, range.out + (t0 + t) * range.out_stride + p * kPanelRows,
                        range.out_stride, range.mask(p), ahead, ahead_step);
                }
            }
        }
    }
}

}  // namespace

void matmul_packed_avx512(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                          std::size_t last, float* out, std::size_t out_stride) {
    const Kernels& kernels = kernels_of(w.type);
    if (x.n_rows <= kDirect) {
        const PanelFormat format = panel_format(w.type);
        const std::size_t most = SideWords::most_rows(w.cols, format.sum);
        SideWords side;
        for (std::size_t t = 0; t < x.n_rows; t += most) {
            const std::size_t n = std::min(most, x.n_rows - t);
            side.prepare(x, t, n, format.sum, format.offset);
            kernels.direct[n - 1]({w, first, last, out + t * out_stride, out_stride},
                                  side.tile(x, t, format.sum));
        }
        return;
    }
    const std::size_t n_blocks = (x.n_rows + kRowBlock - 1) / kRowBlock;
    for (std::size_t b = 0; b < n_blocks; ++b) {
        // Whole tiles in all blocks but the last; blocks of about equal size.
        const auto begin = [&](std::size_t i) {
            return std::min(x.n_rows, (x.n_rows * i / n_blocks + kTile - 1) / kTile * kTile);
        };
        if (begin(b) == begin(b + 1)) continue;
        block_of_rows(kernels, {w, first, last, out, out_stride}, x, begin(b),
                      begin(b + 1) - begin(b));
    }
}

}  // namespace unicorn::kernels
