#pragma once
// The order in which the AVX2 and AVX-512 forms of matmul_packed work.
//
// Few rows of activations: one panel after another, unpacked in registers as it is read. That is
// the path of decoding, bound by memory.
//
// More rows: some panels at a time, a chunk of columns after another. The rows' part is laid out
// anew, tile by tile, then each panel's part is unpacked once and used by every tile. `out` keeps
// the sums between chunks.
//
// A form computes each output by the same integer sums and the same float operations in the same
// order on both paths.

#include <emmintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "kernels/matmul_packed.h"

namespace unicorn::kernels {

/// Bytes between what the path of few rows reads and what it asks for: from memory into L2, and
/// from L2 into L1. One thread on a Sapphire Rapids VM, q4_0, q8_0, q6_k by the AVX2 form: 1.14,
/// 1.17, 1.16 times the speed of one prefetch into L1 2048 bytes ahead; that one 4096 bytes ahead
/// gives 1.05, 1.04, 1.03, the one into L2 alone 1.10, 1.07, 1.07.
inline constexpr std::size_t kAheadL2 = 8192;
inline constexpr std::size_t kAheadL1 = 1024;

/// Panels [first, last) and where their outputs go.
struct PanelRange {
    const PackedMatrix& w;
    std::size_t first;
    std::size_t last;
    float* out;
    std::size_t out_stride;

    /// How many rows panel `p` has.
    std::size_t n_rows(std::size_t p) const {
        return std::min(kPanelRows, w.rows - p * kPanelRows);
    }
    const std::uint8_t* panel(std::size_t p, std::size_t panel_bytes) const {
        return reinterpret_cast<const std::uint8_t*>(w.data) + p * panel_bytes;
    }
};

/// Asks for kBytes of a panel, for the path of few rows.
template <std::size_t kBytes>
[[gnu::always_inline]] inline void prefetch_panel(const std::uint8_t* p) {
#pragma GCC unroll 16
    for (std::size_t b = 0; b < kBytes; b += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(p + kAheadL2 + b), _MM_HINT_T1);
        _mm_prefetch(reinterpret_cast<const char*>(p + kAheadL1 + b), _MM_HINT_T0);
    }
}

/// Where a tile's outputs go.
struct TileOutput {
    float* out;
    std::size_t out_stride;
    std::size_t n_rows;  // of the panel
    bool begin;          // the first chunk: `out` holds no sums yet
    /// Each group asks for `ahead_step` bytes at `ahead`, so that the next panel's part comes while
    /// this one is used.
    const std::uint8_t* ahead;
    std::size_t ahead_step;
};

/// What a form brings, for one type of weights. Form has
///   Code       int8 or int16: activations as a tile reads them
///   Chunk      kChunk groups of a panel, unpacked
///   kDirect    most rows that read the panel itself
///   kTile      most rows of a tile: their sums are in registers
///   kRowBlock  most rows for which a chunk is unpacked once
template <typename Form>
struct PackedKernels {
    using Direct = void (*)(const PanelRange& range, const RowTile& rows);
    using Unpack = void (*)(const std::uint8_t* panel, std::size_t first, std::size_t n,
                            typename Form::Chunk& out);
    using Tile = void (*)(const typename Form::Chunk& chunk, std::size_t n,
                          const typename Form::Code* codes, const std::uint32_t* side,
                          const TileOutput& to);

    std::array<Direct, Form::kDirect> direct;   // by rows - 1
    GroupSum direct_sum;                        // what its side words are
    Unpack unpack;                              // groups [first, first + n); first starts a block
    const std::array<Tile, Form::kTile>* tile;  // by rows - 1
    GroupSum chunk_sum;
    int chunk_offset;
};

/// A block of rows over kChunk groups, one tile after another: [group][row of the tile]. Where
/// Code is int16, 4 columns lie in the order 0 2 1 3, in which bytes widen without a shuffle.
template <typename Form>
struct RowChunk {
    using Code = typename Form::Code;
    alignas(64) Code codes[Form::kRowBlock * Form::kChunk * kGroup];
    std::uint32_t side[Form::kRowBlock * Form::kChunk * 3];

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
            case GroupSum::half_pair:
                return fill_as<GroupSum::half_pair>(x, t, row, size, first, n, offset);
        }
    }

private:
    template <GroupSum kSum>
    void fill_as(const QuantizedRows& x, std::size_t t, std::size_t row, std::size_t size,
                 std::size_t first, std::size_t n, int offset) {
        constexpr std::size_t kWords = SideWords::words(kSum);
        const std::size_t n_groups = x.cols / kGroup;
        for (std::size_t j = 0; j < size; ++j) {
            const std::size_t i = (t + j) * n_groups + first;
            const std::int8_t* from = x.codes + i * kGroup;
            const float* scales = x.scales + i;
            const std::int32_t* sums = x.sums + 2 * i;
            Code* c = codes + (row * Form::kChunk + j) * kGroup;
            std::uint32_t* s = side + (row * Form::kChunk + j) * kWords;
            for (std::size_t g = 0; g < n; ++g) {
                put_group(from + g * kGroup, c);
                SideWords::put(scales[g], sums + 2 * g, kSum, offset, s);
                c += size * kGroup;
                s += size * kWords;
            }
        }
    }

    static void put_group(const std::int8_t* from, Code* to) {
        for (std::size_t h = 0; h < 2; ++h) {
            const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + h);
            auto* out = reinterpret_cast<__m128i*>(to + 16 * h);
            if constexpr (std::is_same_v<Code, std::int8_t>) {
                _mm_store_si128(out, v);
            } else {
                const __m128i even = _mm_srai_epi16(_mm_slli_epi16(v, 8), 8);
                const __m128i odd = _mm_srai_epi16(v, 8);
                _mm_store_si128(out, _mm_unpacklo_epi32(even, odd));
                _mm_store_si128(out + 1, _mm_unpackhi_epi32(even, odd));
            }
        }
    }
};

/// At most kDirect rows.
template <typename Form>
void multiply_few(const PackedKernels<Form>& kernels, const PackedMatrix& w, const QuantizedRows& x,
                  std::size_t first, std::size_t last, float* out, std::size_t out_stride) {
    const std::size_t most = SideWords::most_rows(w.cols, kernels.direct_sum);
    SideWords side;
    for (std::size_t t = 0; t < x.n_rows; t += most) {
        const std::size_t n = std::min(most, x.n_rows - t);
        side.prepare(x, t, n, kernels.direct_sum, panel_format(w.type).offset);
        kernels.direct[n - 1]({w, first, last, out + t * out_stride, out_stride},
                              side.tile(x, t, kernels.direct_sum));
    }
}

/// Rows [t0, t0 + n_rows) of x, at most kRowBlock.
template <typename Form>
void multiply_block(const PackedKernels<Form>& kernels, const PanelRange& range,
                    const QuantizedRows& x, std::size_t t0, std::size_t n_rows) {
    constexpr std::size_t kChunk = Form::kChunk;
    constexpr std::size_t kPanelBlock = 128;  // panels for which a chunk of rows is laid out once
    const std::size_t n_groups = x.cols / kGroup;
    const std::size_t bytes = panel_bytes(range.w.type, x.cols);
    const PanelFormat format = panel_format(range.w.type);
    const std::size_t words = SideWords::words(kernels.chunk_sum);
    const std::size_t n_tiles = (n_rows + Form::kTile - 1) / Form::kTile;
    const auto tile_begin = [&](std::size_t i) { return n_rows * i / n_tiles; };
    typename Form::Chunk chunk;
    RowChunk<Form> rows;
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
                const std::uint8_t* panel = range.panel(p, bytes);
                kernels.unpack(panel, g, n, chunk);
                for (std::size_t i = 0; i < n_tiles; ++i) {
                    const std::size_t t = tile_begin(i);
                    (*kernels.tile)[tile_begin(i + 1) - t - 1](
                        chunk, n, rows.codes + t * kChunk * kGroup, rows.side + t * kChunk * words,
                        {range.out + (t0 + t) * range.out_stride + p * kPanelRows, range.out_stride,
                         range.n_rows(p), g == 0, panel + bytes + begin + i * n * ahead_step,
                         ahead_step});
                }
            }
        }
    }
}

/// matmul_packed, by a form's kernels for w.type.
template <typename Form>
void multiply_packed(const PackedKernels<Form>& kernels, const PackedMatrix& w,
                     const QuantizedRows& x, std::size_t first, std::size_t last, float* out,
                     std::size_t out_stride) {
    static_assert(Form::kRowBlock % Form::kTile == 0, "a block rounded up to tiles still fits");
    if (x.n_rows <= Form::kDirect) return multiply_few(kernels, w, x, first, last, out, out_stride);
    const std::size_t n_blocks = (x.n_rows + Form::kRowBlock - 1) / Form::kRowBlock;
    for (std::size_t b = 0; b < n_blocks; ++b) {
        // Whole tiles in all blocks but the last; blocks of about equal size.
        const auto begin = [&](std::size_t i) {
            return std::min(
                x.n_rows, (x.n_rows * i / n_blocks + Form::kTile - 1) / Form::kTile * Form::kTile);
        };
        if (begin(b) == begin(b + 1)) continue;
        multiply_block(kernels, {w, first, last, out, out_stride}, x, begin(b),
                       begin(b + 1) - begin(b));
    }
}

/// Calls do_it.operator()<type>() for the quantised type of a packed matrix.
template <typename Fn>
void with_quantized_type(tensor::DType type, const Fn& do_it) {
    using enum tensor::DType;
    switch (type) {
        case q4_0: return do_it.template operator()<q4_0>();
        case q4_1: return do_it.template operator()<q4_1>();
        case q5_0: return do_it.template operator()<q5_0>();
        case q5_1: return do_it.template operator()<q5_1>();
        case q8_0: return do_it.template operator()<q8_0>();
        case q2_k: return do_it.template operator()<q2_k>();
        case q3_k: return do_it.template operator()<q3_k>();
        case q4_k: return do_it.template operator()<q4_k>();
        case q5_k: return do_it.template operator()<q5_k>();
        case q6_k: return do_it.template operator()<q6_k>();
        case iq4_nl: return do_it.template operator()<iq4_nl>();
        case iq4_xs: return do_it.template operator()<iq4_xs>();
        case f32:
        case f16:
        case bf16: break;
    }
    check_failed("a packed matrix has a quantised type", __FILE__, __LINE__);
}

}  // namespace unicorn::kernels
