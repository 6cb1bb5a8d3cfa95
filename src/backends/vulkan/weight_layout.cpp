#include "backends/vulkan/weight_layout.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/gpu_tiles.h"
#include "tensor/blocks.h"

namespace unicorn::backends::vulkan {
namespace {

using kernels::GpuTile;
using kernels::kQuadOrder;
using kernels::kTileRows;
using tensor::DType;

/// What a block says, as numbers: a code for each weight, and the bytes of the sub and scale planes
/// in the order in which they lie there.
struct Decoded {
    std::uint8_t codes[tensor::kSuperBlock];
    std::uint8_t sub[16];
    std::uint8_t scale[4];
};

void put_scale(Decoded& out, tensor::F16 d) { std::memcpy(out.scale, &d, 2); }
void put_scale(Decoded& out, tensor::F16 d, tensor::F16 m) {
    std::memcpy(out.scale, &d, 2);
    std::memcpy(out.scale + 2, &m, 2);
}

void put_nibbles(const std::uint8_t* qs, std::uint8_t* codes) {
    for (std::size_t j = 0; j < 16; ++j) {
        codes[j] = qs[j] & 15;
        codes[j + 16] = static_cast<std::uint8_t>(qs[j] >> 4);
    }
}

void add_fifth_bits(std::uint32_t qh, std::uint8_t* codes) {
    for (std::size_t j = 0; j < 32; ++j)
        codes[j] = static_cast<std::uint8_t>(codes[j] | ((qh >> j) & 1) << 4);
}

void decode(const tensor::BlockQ4_0& b, Decoded& out) {
    put_nibbles(b.qs, out.codes);
    put_scale(out, b.d);
}
void decode(const tensor::BlockIQ4_NL& b, Decoded& out) {
    put_nibbles(b.qs, out.codes);
    put_scale(out, b.d);
}
void decode(const tensor::BlockQ4_1& b, Decoded& out) {
    put_nibbles(b.qs, out.codes);
    put_scale(out, b.d, b.m);
}
void decode(const tensor::BlockQ5_0& b, Decoded& out) {
    put_nibbles(b.qs, out.codes);
    add_fifth_bits(b.qh, out.codes);
    put_scale(out, b.d);
}
void decode(const tensor::BlockQ5_1& b, Decoded& out) {
    put_nibbles(b.qs, out.codes);
    add_fifth_bits(b.qh, out.codes);
    put_scale(out, b.d, b.m);
}
void decode(const tensor::BlockQ8_0& b, Decoded& out) {
    std::memcpy(out.codes, b.qs, 32);
    put_scale(out, b.d);
}

void decode(const tensor::BlockQ2_K& b, Decoded& out) {
    for (std::size_t half = 0; half < 2; ++half) {
        for (std::size_t s = 0; s < 4; ++s) {
            for (std::size_t l = 0; l < 32; ++l)
                out.codes[half * 128 + s * 32 + l] = (b.qs[half * 32 + l] >> (2 * s)) & 3;
        }
    }
    std::memcpy(out.sub, b.scales, 16);
    put_scale(out, b.d, b.dmin);
}
void decode(const tensor::BlockQ3_K& b, Decoded& out) {
    for (std::size_t s = 0; s < 8; ++s) {
        for (std::size_t l = 0; l < 32; ++l) {
            const int low = (b.qs[s / 4 * 32 + l] >> (2 * (s % 4))) & 3;
            const int high = (b.hmask[l] >> s) & 1;
            out.codes[s * 32 + l] = static_cast<std::uint8_t>(low | high << 2);
        }
    }
    for (std::size_t j = 0; j < 16; ++j)
        out.sub[j] = static_cast<std::uint8_t>(tensor::q3_k_scale(b.scales, j) - 32);
    put_scale(out, b.d);
}

void put_scales_and_minima(const std::uint8_t* scales, Decoded& out) {
    for (std::size_t j = 0; j < 8; ++j) {
        const tensor::ScaleMin s = tensor::q4_k_scale(scales, j);
        out.sub[2 * j] = s.scale;
        out.sub[2 * j + 1] = s.min;
    }
}

void decode(const tensor::BlockQ4_K& b, Decoded& out) {
    for (std::size_t s = 0; s < 8; ++s) {
        for (std::size_t l = 0; l < 32; ++l)
            out.codes[s * 32 + l] = (b.qs[s / 2 * 32 + l] >> (4 * (s % 2))) & 15;
    }
    put_scales_and_minima(b.scales, out);
    put_scale(out, b.d, b.dmin);
}
void decode(const tensor::BlockQ5_K& b, Decoded& out) {
    for (std::size_t s = 0; s < 8; ++s) {
        for (std::size_t l = 0; l < 32; ++l) {
            const int low = (b.qs[s / 2 * 32 + l] >> (4 * (s % 2))) & 15;
            const int high = (b.qh[l] >> s) & 1;
            out.codes[s * 32 + l] = static_cast<std::uint8_t>(low | high << 4);
        }
    }
    put_scales_and_minima(b.scales, out);
    put_scale(out, b.d, b.dmin);
}
void decode(const tensor::BlockQ6_K& b, Decoded& out) {
    for (std::size_t i = 0; i < 8; ++i) {
        const std::size_t half = i / 4;
        const std::size_t s = i % 4;
        for (std::size_t l = 0; l < 32; ++l) {
            const int low = (b.ql[half * 64 + s % 2 * 32 + l] >> (4 * (s / 2))) & 15;
            const int high = (b.qh[half * 32 + l] >> (2 * s)) & 3;
            out.codes[i * 32 + l] = static_cast<std::uint8_t>(low | high << 4);
        }
    }
    std::memcpy(out.sub, b.scales, 16);
    put_scale(out, b.d);
}
void decode(const tensor::BlockIQ4_XS& b, Decoded& out) {
    for (std::size_t group = 0; group < 8; ++group) {
        put_nibbles(b.qs + group * 16, out.codes + group * 32);
        out.sub[group] = static_cast<std::uint8_t>(tensor::iq4_xs_scale(b, group) - 32);
    }
    put_scale(out, b.d);
}

/// Writes a unit's codes: the low `bits` to pieces of 16 bytes, `stride` bytes apart, the rest
/// (high_bits of them) to `high`.
template <std::size_t bits, std::size_t high_bits, std::size_t unit_cols>
void put_unit(const std::uint8_t* codes, std::byte* pieces, std::size_t stride, std::byte* high) {
    constexpr std::size_t kQuads = unit_cols / 4;
    constexpr std::size_t kQuadsInWord = 8 / bits;
    constexpr std::size_t kWords = kQuads / kQuadsInWord;
    static_assert(kQuadOrder[0] == 0 && kQuadOrder[1] == 2 && kQuadOrder[2] == 1);
    std::uint32_t quads[kQuads];
    std::memcpy(quads, codes, sizeof(quads));
    for (std::uint32_t& q : quads)
        q = (q & 0xFF0000FFu) | (q & 0x0000FF00u) << 8 | (q & 0x00FF0000u) >> 8;
    constexpr std::uint32_t kLow = 0x01010101u * ((1u << bits) - 1);
    for (std::size_t w = 0; w < kWords; ++w) {
        std::uint32_t word = 0;
        for (std::size_t i = 0; i < kQuadsInWord; ++i)
            word |= (quads[w * kQuadsInWord + i] & kLow) << (bits * i);
        std::memcpy(pieces + w / 4 * stride + w % 4 * 4, &word, 4);
    }
    if constexpr (high_bits > 0) {
        constexpr std::size_t kQuadsInHighWord = 8 / high_bits;
        constexpr std::uint32_t kHigh = 0x01010101u * ((1u << high_bits) - 1);
        for (std::size_t w = 0; w < kQuads / kQuadsInHighWord; ++w) {
            std::uint32_t word = 0;
            for (std::size_t i = 0; i < kQuadsInHighWord; ++i)
                word |= ((quads[w * kQuadsInHighWord + i] >> bits) & kHigh) << (high_bits * i);
            std::memcpy(high + 4 * w, &word, 4);
        }
    }
}

/// One row of a tile.
template <typename Block, std::size_t bits, std::size_t high_bits>
void pack_row(const GpuTile& tile, std::size_t cols, const std::byte* blocks, std::size_t row,
              std::byte* to) {
    constexpr std::size_t kUnit = bits == 2 ? 64 : 32;
    const std::size_t block_cols = tensor::info(Block::kType).block_size;
    std::byte* const high = to + tile.high_offset(cols);
    std::byte* const sub = to + tile.sub_offset(cols);
    std::byte* const scale = to + tile.scale_offset(cols);
    Decoded decoded;
    for (std::size_t i = 0; i < cols / block_cols; ++i) {
        decode(tensor::load_block<Block>(blocks, i), decoded);
        for (std::size_t j = 0; j < block_cols / kUnit; ++j) {
            const std::size_t unit = i * (block_cols / kUnit) + j;
            put_unit<bits, high_bits, kUnit>(
                decoded.codes + j * kUnit, to + (unit * tile.pieces * kTileRows + row) * 16,
                kTileRows * 16, high + (unit * kTileRows + row) * tile.high_bytes);
            std::memcpy(sub + (unit * kTileRows + row) * tile.sub_bytes,
                        decoded.sub + j * tile.sub_bytes, tile.sub_bytes);
        }
        std::memcpy(scale + (i * kTileRows + row) * tile.scale_bytes, decoded.scale,
                    tile.scale_bytes);
    }
}

void pack_floats(const GpuTile& tile, std::size_t cols, const std::byte* from, std::size_t row,
                 std::byte* to) {
    const std::size_t n_pieces = cols / tile.unit_cols * tile.pieces;
    for (std::size_t i = 0; i < n_pieces; ++i)
        std::memcpy(to + (i * kTileRows + row) * 16, from + i * 16, 16);
}

using PackRow = void (*)(const GpuTile&, std::size_t, const std::byte*, std::size_t, std::byte*);

PackRow row_packer(DType type) {
    switch (type) {
        case DType::f32:
        case DType::f16:
        case DType::bf16: return pack_floats;
        case DType::q4_0: return pack_row<tensor::BlockQ4_0, 4, 0>;
        case DType::q4_1: return pack_row<tensor::BlockQ4_1, 4, 0>;
        case DType::q5_0: return pack_row<tensor::BlockQ5_0, 4, 1>;
        case DType::q5_1: return pack_row<tensor::BlockQ5_1, 4, 1>;
        case DType::q8_0: return pack_row<tensor::BlockQ8_0, 8, 0>;
        case DType::q2_k: return pack_row<tensor::BlockQ2_K, 2, 0>;
        case DType::q3_k: return pack_row<tensor::BlockQ3_K, 2, 1>;
        case DType::q4_k: return pack_row<tensor::BlockQ4_K, 4, 0>;
        case DType::q5_k: return pack_row<tensor::BlockQ5_K, 4, 1>;
        case DType::q6_k: return pack_row<tensor::BlockQ6_K, 4, 2>;
        case DType::iq4_nl: return pack_row<tensor::BlockIQ4_NL, 4, 0>;
        case DType::iq4_xs: return pack_row<tensor::BlockIQ4_XS, 4, 0>;
    }
    UNICORN_CHECK(false && "a DType outside its enumerators");
}

}  // namespace

std::size_t stored_bytes(DType type, std::size_t rows, std::size_t cols) {
    return kernels::gpu_tile_bytes(type, rows, cols);
}

void pack_rows(DType type, std::size_t cols, std::size_t rows_total, std::size_t first_row,
               std::size_t last_row, const std::byte* file_rows, std::byte* to) {
    UNICORN_CHECK(first_row % kTileRows == 0 && first_row <= last_row && last_row <= rows_total);
    UNICORN_CHECK(last_row % kTileRows == 0 || last_row == rows_total);
    UNICORN_CHECK(cols % kernels::gpu_tile_columns(type) == 0);
    const GpuTile tile = kernels::gpu_tile(type);
    const std::size_t tile_bytes = tile.bytes(cols);
    const std::size_t row_bytes = tensor::row_bytes(type, cols);
    const PackRow pack = row_packer(type);
    // The GPU's memory may be write-combined: a tile is made here and copied once.
    std::vector<std::byte> made(tile_bytes);
    for (std::size_t first = first_row; first < last_row; first += kTileRows) {
        const std::size_t n = std::min(kTileRows, last_row - first);
        if (n < kTileRows) std::memset(made.data(), 0, tile_bytes);
        for (std::size_t row = 0; row < n; ++row)
            pack(tile, cols, file_rows + (first - first_row + row) * row_bytes, row, made.data());
        std::memcpy(to + first / kTileRows * tile_bytes, made.data(), tile_bytes);
    }
}

}  // namespace unicorn::backends::vulkan
