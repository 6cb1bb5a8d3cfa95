// matmul_packed with AVX2: a vector is 8 rows of a panel, half of what a 64-byte vector of codes
// holds.
//
// vpmaddubsw multiplies unsigned by signed bytes and adds pairs in int16, which must not saturate.
// Codes of up to 6 bits are below 64, so that 2^(7 - bits) steps of 2 * code * 127 fit int16 before
// they are widened. Wider codes are held as signed weights and multiplied as |w| * (sign(w) x).
//
// A chunk of a panel is unpacked to bytes once for up to 64 rows of activations; every number of
// rows takes the same path, so that every output is the same sequence of operations.

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_simd.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;
using Byte = std::uint8_t;

constexpr std::size_t kChunk = 16;     // groups unpacked at a time
constexpr std::size_t kTile = 4;       // rows whose sums are in registers
constexpr std::size_t kRowBlock = 64;  // rows for which a chunk is unpacked once
constexpr std::size_t kAhead = 2048;   // bytes between what is unpacked and what is prefetched

/// How the integer sums of a group are formed and scaled.
enum class Inner {
    offset,        // unsigned codes; the integer sum starts at -offset * sum x
    signed_codes,  // signed weights of 8 bits
    minimum,       // unsigned codes and a minimum
    half_min,      // two sums with a scale and a minimum each
    half_offset,   // two sums that start at -offset * sum x
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

constexpr bool has_two_sums(Inner inner) {
    return inner == Inner::half_min || inner == Inner::half_offset;
}

/// kChunk groups of a panel, a byte a code, as unsigned codes or signed weights.
struct Chunk {
    alignas(64) Byte codes[kChunk][8][64];
    alignas(64) float scale[kChunk][2][kPanelRows];
    alignas(64) float min[kChunk][2][kPanelRows];
};

// ---- unpacking: each function fills 64 bytes a step ----

UNICORN_INLINE_AVX2 __m256i load(const Byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
UNICORN_INLINE_AVX2 void store(Byte* p, __m256i v) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), v);
}
UNICORN_INLINE_AVX2 __m256i low_bits(__m256i v, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8(static_cast<char>(mask)));
}

/// The codes of rows 8 h to 8 h + 7 of a group at `p`.
template <DType kType>
UNICORN_INLINE_AVX2 void unpack_half(const Byte* p, std::size_t h, Byte (*out)[64]) {
    constexpr int kBits = panel_format(kType).bits;
    __m256i step[8];
    p += 32 * h;
    UNICORN_UNROLL
    for (int s = 0; s < 8; ++s) {
        if constexpr (kBits == 8) {
            step[s] = _mm256_xor_si256(load(p + 64 * s), _mm256_set1_epi8(-128));
        } else if constexpr (kBits <= 3) {
            step[s] = low_bits(load(p + 64 * (s / 4)), 2 * (s % 4), 3);
        } else {
            step[s] = low_bits(load(p + 64 * (s / 2)), 4 * (s % 2), 0x0F);
        }
        if constexpr (kBits == 3) {
            step[s] = _mm256_or_si256(step[s], _mm256_slli_epi16(low_bits(load(p + 128), s, 1), 2));
        } else if constexpr (kBits == 5) {
            step[s] = _mm256_or_si256(step[s], _mm256_slli_epi16(low_bits(load(p + 256), s, 1), 4));
        } else if constexpr (kBits == 6) {
            step[s] = _mm256_or_si256(
                step[s],
                _mm256_slli_epi16(low_bits(load(p + 256 + 64 * (s / 4)), 2 * (s % 4), 3), 4));
        }
        if constexpr (has_iq4_table(kType)) {
            const __m256i table = _mm256_broadcastsi128_si256(
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values.data())));
            step[s] = _mm256_xor_si256(_mm256_shuffle_epi8(table, step[s]), _mm256_set1_epi8(-128));
        }
        store(out[s] + 32 * h, step[s]);
    }
}

UNICORN_INLINE_AVX2 __m256 load_f16(const Byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
UNICORN_INLINE_AVX2 __m256 load_u8(const Byte* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
UNICORN_INLINE_AVX2 __m256 load_i8(const Byte* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
UNICORN_INLINE_AVX2 __m256 low_half(__m256i pair) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pair, 16), 16));
}
UNICORN_INLINE_AVX2 __m256 high_half(__m256i pair) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(pair, 16));
}

/// Scales and minima of rows 8 h and on, of group `g` of the block with `header`.
template <DType kType>
UNICORN_INLINE_AVX2 void unpack_scales(const Byte* header, std::size_t g, std::size_t h,
                                       float (*scale)[kPanelRows], float (*min)[kPanelRows]) {
    const std::size_t row = 8 * h;
    const Byte* d = header + 2 * row;
    if constexpr (panel_format(kType).groups == 2) {
        _mm256_store_ps(scale[0] + row, load_f16(d + 32 * g));
        if constexpr (inner_of(kType) == Inner::minimum) {
            _mm256_store_ps(min[0] + row,
                            _mm256_sub_ps(_mm256_setzero_ps(), load_f16(d + 64 + 32 * g)));
        }
    } else if constexpr (inner_of(kType) == Inner::minimum) {
        _mm256_store_ps(scale[0] + row,
                        _mm256_mul_ps(load_f16(d), load_u8(header + 64 + 16 * g + row)));
        _mm256_store_ps(min[0] + row,
                        _mm256_mul_ps(load_f16(d + 32), load_u8(header + 192 + 16 * g + row)));
    } else if constexpr (kType == DType::iq4_xs) {
        _mm256_store_ps(scale[0] + row,
                        _mm256_mul_ps(load_f16(d), load_i8(header + 32 + 16 * g + row)));
    } else if constexpr (kType == DType::q2_k) {
        const __m256i both = _mm256_cvtepu8_epi16(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(d + 64 + 32 * g)));
        const __m256i scales = _mm256_and_si256(both, _mm256_set1_epi16(0x0F));
        const __m256i mins = _mm256_srli_epi16(both, 4);
        _mm256_store_ps(scale[0] + row, _mm256_mul_ps(load_f16(d), low_half(scales)));
        _mm256_store_ps(scale[1] + row, _mm256_mul_ps(load_f16(d), high_half(scales)));
        _mm256_store_ps(min[0] + row, _mm256_mul_ps(load_f16(d + 32), low_half(mins)));
        _mm256_store_ps(min[1] + row, _mm256_mul_ps(load_f16(d + 32), high_half(mins)));
    } else {
        const __m256i scales = _mm256_cvtepi8_epi16(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(d + 32 + 32 * g)));
        _mm256_store_ps(scale[0] + row, _mm256_mul_ps(load_f16(d), low_half(scales)));
        _mm256_store_ps(scale[1] + row, _mm256_mul_ps(load_f16(d), high_half(scales)));
    }
}

/// Groups [first, first + n) of a panel; `first` starts a block.
template <DType kType>
UNICORN_TARGET_AVX2 void unpack_chunk(const Byte* panel, std::size_t first, std::size_t n,
                                      Chunk& out) {
    constexpr PanelFormat kFormat = panel_format(kType);
    const Byte* block = panel + first / kFormat.groups * kFormat.block_bytes();
    for (std::size_t g = 0; g < n; ++g) {
        const std::size_t i = g % kFormat.groups;
        const Byte* p = block + kFormat.header_bytes + i * kFormat.group_bytes();
        UNICORN_UNROLL
        for (int v = 0; v < kFormat.bits + 1; ++v) {  // the headers are less than a line a group
            _mm_prefetch(reinterpret_cast<const char*>(p + kAhead + 64 * v), _MM_HINT_T0);
        }
        for (std::size_t h = 0; h < 2; ++h) {
            unpack_half<kType>(p, h, out.codes[g]);
            unpack_scales<kType>(block, i, h, out.scale[g], out.min[g]);
        }
        if (i + 1 == kFormat.groups) block += kFormat.block_bytes();
    }
}

// ---- the inner loop ----

UNICORN_INLINE_AVX2 __m256i broadcast4(const std::int8_t* p) {
    std::int32_t four = 0;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
UNICORN_INLINE_AVX2 __m256i int_side(std::uint32_t word) {
    return _mm256_set1_epi32(static_cast<std::int32_t>(word));
}
UNICORN_INLINE_AVX2 __m256 float_side(std::uint32_t word) {
    return _mm256_castsi256_ps(int_side(word));
}

/// Adds steps [kFrom, kTo) to the sums of kT rows of activations, kFit steps in int16 at a time.
template <Inner kInner, int kFit, int kFrom, int kTo, int kT>
UNICORN_INLINE_AVX2 void dot(__m256i (&sum)[kT], const Byte (*codes)[64],
                             const std::int8_t* const (&x)[kT]) {
    const __m256i ones = _mm256_set1_epi16(1);
    UNICORN_UNROLL
    for (int from = kFrom; from < kTo; from += kFit) {
        __m256i wide[kT];
        UNICORN_UNROLL
        for (int s = from; s < from + kFit; ++s) {
            const __m256i w = load(codes[s]);
            const __m256i magnitude = kInner == Inner::signed_codes ? _mm256_abs_epi8(w) : w;
            UNICORN_UNROLL
            for (int t = 0; t < kT; ++t) {
                __m256i four = broadcast4(x[t] + 4 * s);
                if constexpr (kInner == Inner::signed_codes) four = _mm256_sign_epi8(four, w);
                const __m256i product = _mm256_maddubs_epi16(magnitude, four);
                wide[t] = s == from ? product : _mm256_add_epi16(wide[t], product);
                // Added up here and now: gcc would turn the sum into a tree and spill its leaves.
                asm("" : "+x"(wide[t]));
            }
        }
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t)
            sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(wide[t], ones));
    }
}

/// Products of 2 * 127 * (2^kBits - 1) that fit int16 together; at most the steps of a half group
/// or of a group.
constexpr int fitting_steps(Inner inner, int bits) {
    const int most = has_two_sums(inner) ? 4 : 8;
    if (inner == Inner::signed_codes) return 1;
    int n = 1;
    while (2 * n <= most && 2 * n * 254 * ((1 << bits) - 1) <= 32767) n *= 2;
    return n;
}

/// kT rows of activations over `n` groups of a chunk, for 8 rows of weights (half `h` of the
/// panel).
template <Inner kInner, int kFit, int kT>
UNICORN_INLINE_AVX2 void tile_half(const Chunk& chunk, std::size_t n, std::size_t h,
                                   const RowTile& rows, bool begin, float* out,
                                   std::size_t out_stride, __m256i mask) {
    constexpr std::size_t kWords = has_two_sums(kInner) ? 3 : 2;
    __m256 acc[kT];
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t) {
        acc[t] = begin ? _mm256_setzero_ps()
                       : _mm256_maskload_ps(out + static_cast<std::size_t>(t) * out_stride, mask);
    }
    for (std::size_t g = 0; g < n; ++g) {
        const auto* codes = reinterpret_cast<const Byte(*)[64]>(&chunk.codes[g][0][32 * h]);
        const __m256 scale0 = _mm256_load_ps(chunk.scale[g][0] + 8 * h);
        const std::int8_t* x[kT];
        const std::uint32_t* side[kT];
        __m256i sum[kT];
        __m256i sum1[kT];  // of the second half group, where it is apart
        UNICORN_UNROLL
        for (int t = 0; t < kT; ++t) {
            x[t] = rows.codes + static_cast<std::size_t>(t) * rows.cols + g * kGroup;
            side[t] = rows.side + static_cast<std::size_t>(t) * rows.side_stride + g * kWords;
            constexpr bool kIntSide = kInner == Inner::offset || kInner == Inner::half_offset;
            sum[t] = kIntSide ? int_side(side[t][1]) : _mm256_setzero_si256();
        }
        if constexpr (!has_two_sums(kInner)) {
            dot<kInner, kFit, 0, 8>(sum, codes, x);
            UNICORN_UNROLL
            for (int t = 0; t < kT; ++t) {
                const __m256 scale = _mm256_mul_ps(scale0, float_side(side[t][0]));
                acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), scale, acc[t]);
                if constexpr (kInner == Inner::minimum) {
                    acc[t] = _mm256_fnmadd_ps(_mm256_load_ps(chunk.min[g][0] + 8 * h),
                                              float_side(side[t][1]), acc[t]);
                }
            }
        } else {
            constexpr bool kOffset = kInner == Inner::half_offset;
            dot<kInner, kFit, 0, 4>(sum, codes, x);
            __m256 first[kT];
            UNICORN_UNROLL
            for (int t = 0; t < kT; ++t) {
                first[t] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[t]), scale0);
                sum1[t] = kOffset ? int_side(side[t][2]) : _mm256_setzero_si256();
            }
            dot<kInner, kFit, 4, 8>(sum1, codes, x);
            const __m256 scale1 = _mm256_load_ps(chunk.scale[g][1] + 8 * h);
            UNICORN_UNROLL
            for (int t = 0; t < kT; ++t) {
                const __m256 both = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum1[t]), scale1, first[t]);
                acc[t] = _mm256_fmadd_ps(both, float_side(side[t][0]), acc[t]);
                if constexpr (!kOffset) {
                    acc[t] = _mm256_fnmadd_ps(_mm256_load_ps(chunk.min[g][0] + 8 * h),
                                              float_side(side[t][1]), acc[t]);
                    acc[t] = _mm256_fnmadd_ps(_mm256_load_ps(chunk.min[g][1] + 8 * h),
                                              float_side(side[t][2]), acc[t]);
                }
            }
        }
    }
    UNICORN_UNROLL
    for (int t = 0; t < kT; ++t)
        _mm256_maskstore_ps(out + static_cast<std::size_t>(t) * out_stride, mask, acc[t]);
}

/// Both halves of a panel; `n_rows` of its rows exist.
template <DType kType, int kT>
UNICORN_TARGET_AVX2 void tile(const Chunk& chunk, std::size_t n, const RowTile& rows, bool begin,
                              float* out, std::size_t out_stride, std::size_t n_rows) {
    constexpr Inner kInner = inner_of(kType);
    constexpr int kFit = fitting_steps(kInner, panel_format(kType).bits);
    for (std::size_t h = 0; h < 2; ++h) {
        const int left = static_cast<int>(n_rows) - static_cast<int>(8 * h);
        if (left <= 0) return;
        const __m256i mask =
            _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        tile_half<kInner, kFit, kT>(chunk, n, h, rows, begin, out + 8 * h, out_stride, mask);
    }
}

// ---- tables ----

struct Kernels {
    void (*unpack)(const Byte*, std::size_t, std::size_t, Chunk&);
    std::array<void (*)(const Chunk&, std::size_t, const RowTile&, bool, float*, std::size_t,
                        std::size_t),
               kTile>
        tile;  // by rows - 1
};

template <DType kType>
constexpr Kernels kKernels = {unpack_chunk<kType>,
                              {tile<kType, 1>, tile<kType, 2>, tile<kType, 3>, tile<kType, 4>}};

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

}  // namespace

void matmul_packed_avx2(const PackedMatrix& w, const QuantizedRows& x, std::size_t first,
                        std::size_t last, float* out, std::size_t out_stride) {
    const Kernels& kernels = kernels_of(w.type);
    const PanelFormat format = panel_format(w.type);
    const std::size_t n_groups = w.cols / kGroup;
    const std::size_t bytes = panel_bytes(w.type, w.cols);
    const std::size_t words = SideWords::words(format.sum);
    const std::size_t most = std::min(kRowBlock, SideWords::most_rows(w.cols, format.sum));
    SideWords side;
    Chunk chunk;
    for (std::size_t t0 = 0; t0 < x.n_rows; t0 += most) {
        const std::size_t n_rows = std::min(most, x.n_rows - t0);
        const std::size_t n_tiles = (n_rows + kTile - 1) / kTile;
        side.prepare(x, t0, n_rows, format.sum, format.offset);
        const RowTile rows = side.tile(x, t0, format.sum);
        for (std::size_t p = first; p < last; ++p) {
            const auto* panel = reinterpret_cast<const Byte*>(w.data) + p * bytes;
            for (std::size_t g = 0; g < n_groups; g += kChunk) {
                const std::size_t n = std::min(kChunk, n_groups - g);
                kernels.unpack(panel, g, n, chunk);
                for (std::size_t i = 0; i < n_tiles; ++i) {
                    const std::size_t t = n_rows * i / n_tiles;
                    const std::size_t size = n_rows * (i + 1) / n_tiles - t;
                    const RowTile part = {rows.codes + t * rows.cols + g * kGroup,
                                          rows.side + t * rows.side_stride + g * words, rows.cols,
                                          rows.side_stride};
                    kernels.tile[size - 1](chunk, n, part, g == 0,
                                           out + (t0 + t) * out_stride + p * kPanelRows, out_stride,
                                           std::min(kPanelRows, w.rows - p * kPanelRows));
                }
            }
        }
    }
}

}  // namespace unicorn::kernels
