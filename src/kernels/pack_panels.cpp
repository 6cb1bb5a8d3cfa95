// Weights from the file's blocks into panels, and one group of a panel back into numbers.
//
// Packing is written once, in plain C++ with the type as a constant, and compiled twice: its loops
// have fixed lengths and become AVX2 by themselves.

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/panel_formats.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using tensor::DType;

using Byte = std::uint8_t;
using GroupCodes = Byte[kPanelRows][kGroup];  // one code a byte
using Steps = Byte[8][64];                    // the same, as the vectors want them

// ---- reading the file's blocks (layouts: ggml-common.h) ----

// Codes are taken apart and put together eight at a time, as bytes of a 64-bit word: a shift moves
// bits across bytes, and the mask that follows takes only those that belong there.
using Word = std::uint64_t;
constexpr std::size_t kWord = sizeof(Word);

constexpr Word each_byte(unsigned byte) { return Word{0x0101010101010101} * byte; }

[[gnu::always_inline]] inline Word load_word(const Byte* p) {
    Word word = 0;
    std::memcpy(&word, p, kWord);
    return word;
}

[[gnu::always_inline]] inline void store_word(Byte* p, Word word) { std::memcpy(p, &word, kWord); }

/// out[j] = (in[j] >> shift) & mask, for n bytes; the mask has at most 8 - shift bits.
[[gnu::always_inline]] inline void take_bits(const Byte* in, std::size_t shift, unsigned mask,
                                             Byte* out, std::size_t n) {
    for (std::size_t j = 0; j < n; j += kWord)
        store_word(out + j, (load_word(in + j) >> shift) & each_byte(mask));
}

/// out[j] |= ((in[j] >> shift) & mask) << to, for 32 bytes.
[[gnu::always_inline]] inline void add_bits(const Byte* in, std::size_t shift, unsigned mask,
                                            std::size_t to, Byte* out) {
    for (std::size_t j = 0; j < kGroup; j += kWord) {
        const Word bits = ((load_word(in + j) >> shift) & each_byte(mask)) << to;
        store_word(out + j, load_word(out + j) | bits);
    }
}

/// Low nibbles are the first 16 codes, high nibbles the last 16.
[[gnu::always_inline]] inline void read_nibbles(const Byte* q, Byte* code) {
    take_bits(q, 0, 0x0F, code, 16);
    take_bits(q, 4, 0x0F, code + 16, 16);
}

/// Bit j of `bits` becomes bit 4 of code j.
[[gnu::always_inline]] inline void add_fifth_bits(const Byte* bits, Byte* code) {
    for (std::size_t k = 0; k < kGroup / kWord; ++k) {
        // Byte j of the product keeps bit j of the 8; adding 0x7F carries any into bit 7.
        const Word own = each_byte(bits[k]) & Word{0x8040201008040201};
        const Word top = ((own & each_byte(0x7F)) + each_byte(0x7F)) | own;
        const Word fifth = (top >> 3) & each_byte(0x10);
        store_word(code + kWord * k, load_word(code + kWord * k) | fifth);
    }
}

/// Scale and minimum `g` of q4_k and q5_k, packed in 6 bits.
[[gnu::always_inline]] inline void read_6bit_pair(const Byte* s, std::size_t g, Byte& scale,
                                                  Byte& min) {
    if (g < 4) {
        scale = s[g] & 63;
        min = s[g + 4] & 63;
    } else {
        scale = static_cast<Byte>((s[g + 4] & 0x0F) | ((s[g - 4] >> 6) << 4));
        min = static_cast<Byte>((s[g + 4] >> 4) | ((s[g] >> 6) << 4));
    }
}

constexpr std::size_t block_bytes(DType type) {
    switch (type) {
        case DType::q4_0: return sizeof(tensor::BlockQ4_0);
        case DType::q4_1: return sizeof(tensor::BlockQ4_1);
        case DType::q5_0: return sizeof(tensor::BlockQ5_0);
        case DType::q5_1: return sizeof(tensor::BlockQ5_1);
        case DType::q8_0: return sizeof(tensor::BlockQ8_0);
        case DType::iq4_nl: return sizeof(tensor::BlockIQ4_NL);
        case DType::q2_k: return sizeof(tensor::BlockQ2_K);
        case DType::q3_k: return sizeof(tensor::BlockQ3_K);
        case DType::q4_k: return sizeof(tensor::BlockQ4_K);
        case DType::q5_k: return sizeof(tensor::BlockQ5_K);
        case DType::q6_k: return sizeof(tensor::BlockQ6_K);
        case DType::iq4_xs: return sizeof(tensor::BlockIQ4_XS);
        case DType::f32:
        case DType::f16:
        case DType::bf16: break;
    }
    return 0;
}

/// Where group `g` of a row's blocks starts, for types of 32-blocks; the super-block otherwise.
[[gnu::always_inline]] inline const Byte* block_of(DType type, const Byte* row, std::size_t g) {
    return row + (panel_format(type).groups == 8 ? g / 8 : g) * block_bytes(type);
}

/// The codes of group `g` of one row.
[[gnu::always_inline]] inline void read_codes(DType type, const Byte* row, std::size_t g,
                                              Byte* code) {
    const Byte* b = block_of(type, row, g);
    const std::size_t i = g % 8;  // in the super-block
    switch (type) {
        case DType::q4_0:
        case DType::iq4_nl: return read_nibbles(b + 2, code);
        case DType::q4_1: return read_nibbles(b + 4, code);
        case DType::q5_0: read_nibbles(b + 6, code); return add_fifth_bits(b + 2, code);
        case DType::q5_1: read_nibbles(b + 8, code); return add_fifth_bits(b + 4, code);
        case DType::q8_0:
            for (int j = 0; j < 32; ++j) code[j] = static_cast<Byte>(b[2 + j] ^ 0x80);
            return;
        case DType::q2_k: return take_bits(b + 16 + 32 * (i / 4), 2 * (i % 4), 3, code, kGroup);
        case DType::q3_k:
            take_bits(b + 32 + 32 * (i / 4), 2 * (i % 4), 3, code, kGroup);
            return add_bits(b, i, 1, 2, code);
        case DType::q4_k: return take_bits(b + 16 + 32 * (i / 2), 4 * (i % 2), 0x0F, code, kGroup);
        case DType::q5_k:
            take_bits(b + 48 + 32 * (i / 2), 4 * (i % 2), 0x0F, code, kGroup);
            return add_bits(b + 16, i, 1, 4, code);
        case DType::q6_k:
            take_bits(b + 64 * (i / 4) + 32 * (i % 2), 4 * (i % 4 / 2), 0x0F, code, kGroup);
            return add_bits(b + 128 + 32 * (i / 4), 2 * (i % 4), 3, 4, code);
        case DType::iq4_xs: return read_nibbles(b + 8 + 16 * i, code);
        case DType::f32:
        case DType::f16:
        case DType::bf16: break;
    }
}

/// Row `r`'s part of the header of the block that starts at group `first` and has `n` groups.
[[gnu::always_inline]] inline void write_header(DType type, const Byte* row, std::size_t first,
                                                std::size_t n, std::size_t r, Byte* header) {
    const Byte* b = block_of(type, row, first);
    const std::size_t lane = 2 * r;  // of 16-bit scales
    switch (type) {
        case DType::q4_0:
        case DType::iq4_nl:
        case DType::q5_0:
        case DType::q8_0:
            for (std::size_t g = 0; g < n; ++g) {
                std::memcpy(header + 32 * g + lane, block_of(type, row, first + g), 2);
            }
            return;
        case DType::q4_1:
        case DType::q5_1:
            for (std::size_t g = 0; g < n; ++g) {
                std::memcpy(header + 32 * g + lane, block_of(type, row, first + g), 2);
                std::memcpy(header + 64 + 32 * g + lane, block_of(type, row, first + g) + 2, 2);
            }
            return;
        case DType::q2_k:
            std::memcpy(header + lane, b + 80, 2);
            std::memcpy(header + 32 + lane, b + 82, 2);
            for (std::size_t g = 0; g < 8; ++g)
                std::memcpy(header + 64 + 32 * g + lane, b + 2 * g, 2);
            return;
        case DType::q3_k: {
            std::memcpy(header + lane, b + 108, 2);
            // 16 scales of 6 bits: the low 4 in 8 bytes, the high 2 in 4; stored less 32.
            std::uint32_t high = 0;
            std::memcpy(&high, b + 104, sizeof high);
            for (std::size_t k = 0; k < 2; ++k) {
                const Word low = (load_word(b + 96) >> (4 * k)) & each_byte(0x0F);
                const Word pairs = ((high >> (4 * k)) & 0x03030303u) |
                                   Word{(high >> (4 * k + 2)) & 0x03030303u} << 32;
                const Word scale = low | pairs << 4;
                const Word less_32 =
                    (scale & each_byte(0x1F)) | ((~scale >> 5) & each_byte(1)) * 0xE0;
                Byte bytes[kWord];
                store_word(bytes, less_32);
                for (std::size_t h = 0; h < kWord; h += 2)
                    std::memcpy(header + 32 + 32 * ((kWord * k + h) / 2) + lane, bytes + h, 2);
            }
            return;
        }
        case DType::q4_k:
        case DType::q5_k:
            std::memcpy(header + lane, b, 2);
            std::memcpy(header + 32 + lane, b + 2, 2);
            for (std::size_t g = 0; g < 8; ++g) {
                read_6bit_pair(b + 4, g, header[64 + 16 * g + r], header[192 + 16 * g + r]);
            }
            return;
        case DType::q6_k:
            std::memcpy(header + lane, b + 208, 2);
            for (std::size_t g = 0; g < 8; ++g)
                std::memcpy(header + 32 + 32 * g + lane, b + 192 + 2 * g, 2);
            return;
        case DType::iq4_xs: {
            std::memcpy(header + lane, b, 2);
            const unsigned high = b[2] | static_cast<unsigned>(b[3]) << 8;
            for (std::size_t g = 0; g < 8; ++g) {
                const unsigned low = (b[4 + g / 2] >> (4 * (g % 2))) & 0x0F;
                const unsigned scale = low | ((high >> (2 * g)) & 3) << 4;
                header[32 + 16 * g + r] = static_cast<Byte>(static_cast<int>(scale) - 32);
            }
            return;
        }
        case DType::f32:
        case DType::f16:
        case DType::bf16: break;
    }
}

// ---- writing codes ----

[[gnu::always_inline]] inline void transpose(const GroupCodes& code, Steps& steps) {
    for (std::size_t r = 0; r < kPanelRows; ++r) {
        for (std::size_t s = 0; s < 8; ++s) std::memcpy(&steps[s][4 * r], &code[r][4 * s], 4);
    }
}

[[gnu::always_inline]] inline void write_low4(const Steps& steps, Byte* out) {
    for (std::size_t v = 0; v < 4; ++v) {
        for (std::size_t i = 0; i < 64; i += kWord) {
            const Word low = load_word(&steps[2 * v][i]) & each_byte(0x0F);
            const Word high = load_word(&steps[2 * v + 1][i]) & each_byte(0x0F);
            store_word(out + 64 * v + i, low | high << 4);
        }
    }
}

/// Bits `shift` and `shift + 1` of the codes.
[[gnu::always_inline]] inline void write_pairs(const Steps& steps, std::size_t shift, Byte* out) {
    for (std::size_t v = 0; v < 2; ++v) {
        for (std::size_t i = 0; i < 64; i += kWord) {
            Word word = 0;
            for (std::size_t s = 0; s < 4; ++s)
                word |= ((load_word(&steps[4 * v + s][i]) >> shift) & each_byte(3)) << (2 * s);
            store_word(out + 64 * v + i, word);
        }
    }
}

/// Bit `shift` of the codes.
[[gnu::always_inline]] inline void write_bits(const Steps& steps, std::size_t shift, Byte* out) {
    for (std::size_t i = 0; i < 64; i += kWord) {
        Word word = 0;
        for (std::size_t s = 0; s < 8; ++s)
            word |= ((load_word(&steps[s][i]) >> shift) & each_byte(1)) << s;
        store_word(out + i, word);
    }
}

[[gnu::always_inline]] inline void write_codes(int bits, const Steps& steps, Byte* out) {
    switch (bits) {
        case 2: return write_pairs(steps, 0, out);
        case 3: write_pairs(steps, 0, out); return write_bits(steps, 2, out + 128);
        case 4: return write_low4(steps, out);
        case 5: write_low4(steps, out); return write_bits(steps, 4, out + 256);
        case 6: write_low4(steps, out); return write_pairs(steps, 4, out + 256);
        default: std::memcpy(out, steps, sizeof steps);
    }
}

template <DType type>
[[gnu::always_inline]] inline void pack_all(const tensor::MatrixView& w, std::size_t first_panel,
                                            std::size_t last_panel, Byte* out) {
    constexpr PanelFormat format = panel_format(type);
    const std::size_t n_groups = w.cols / kGroup;
    const std::size_t row_bytes = w.row_bytes();
    const std::size_t bytes = panel_bytes(type, w.cols);
    for (std::size_t panel = first_panel; panel < last_panel; ++panel) {
        const std::size_t first_row = panel * kPanelRows;
        const std::size_t n_rows = std::min(kPanelRows, w.rows - first_row);
        const auto* rows = reinterpret_cast<const Byte*>(w.data) + first_row * row_bytes;
        Byte* const end = out + bytes;
        alignas(64) GroupCodes code = {};  // rows past the last stay zero
        alignas(64) Steps steps;
        for (std::size_t first = 0; first < n_groups; first += format.groups) {
            const std::size_t n = std::min(format.groups, n_groups - first);
            std::memset(out, 0, format.header_bytes);
            for (std::size_t r = 0; r < n_rows; ++r)
                write_header(type, rows + r * row_bytes, first, n, r, out);
            out += format.header_bytes;
            for (std::size_t g = first; g < first + n; ++g) {
                for (std::size_t r = 0; r < n_rows; ++r)
                    read_codes(type, rows + r * row_bytes, g, code[r]);
                transpose(code, steps);
                write_codes(format.bits, steps, out);
                out += format.group_bytes();
            }
        }
        std::memset(out, 0, static_cast<std::size_t>(end - out));
        out = end;
    }
}

[[gnu::always_inline]] inline void pack_any(const tensor::MatrixView& w, std::size_t first,
                                            std::size_t last, Byte* out) {
    switch (w.type) {
        case DType::q4_0: return pack_all<DType::q4_0>(w, first, last, out);
        case DType::q4_1: return pack_all<DType::q4_1>(w, first, last, out);
        case DType::q5_0: return pack_all<DType::q5_0>(w, first, last, out);
        case DType::q5_1: return pack_all<DType::q5_1>(w, first, last, out);
        case DType::q8_0: return pack_all<DType::q8_0>(w, first, last, out);
        case DType::q2_k: return pack_all<DType::q2_k>(w, first, last, out);
        case DType::q3_k: return pack_all<DType::q3_k>(w, first, last, out);
        case DType::q4_k: return pack_all<DType::q4_k>(w, first, last, out);
        case DType::q5_k: return pack_all<DType::q5_k>(w, first, last, out);
        case DType::q6_k: return pack_all<DType::q6_k>(w, first, last, out);
        case DType::iq4_nl: return pack_all<DType::iq4_nl>(w, first, last, out);
        case DType::iq4_xs: return pack_all<DType::iq4_xs>(w, first, last, out);
        case DType::f32:
        case DType::f16:
        case DType::bf16: break;
    }
}

void pack_scalar(const tensor::MatrixView& w, std::size_t first, std::size_t last, Byte* out) {
    pack_any(w, first, last, out);
}

[[gnu::target("avx2")]] void pack_avx2(const tensor::MatrixView& w, std::size_t first,
                                       std::size_t last, Byte* out) {
    pack_any(w, first, last, out);
}

// ---- reading panels back ----

unsigned unpack_code(int bits, const Byte* codes, std::size_t r, std::size_t k) {
    const std::size_t byte = 4 * r + k % 4;
    const std::size_t step = k / 4;
    const auto low4 = [&] { return (codes[64 * (step / 2) + byte] >> (4 * (step % 2))) & 0x0F; };
    const auto pair = [&](const Byte* p) {
        return (p[64 * (step / 4) + byte] >> (2 * (step % 4))) & 3;
    };
    const auto bit = [&](const Byte* p) { return (p[byte] >> step) & 1; };
    switch (bits) {
        case 2: return static_cast<unsigned>(pair(codes));
        case 3: return static_cast<unsigned>(pair(codes) | bit(codes + 128) << 2);
        case 4: return static_cast<unsigned>(low4());
        case 5: return static_cast<unsigned>(low4() | bit(codes + 256) << 4);
        case 6: return static_cast<unsigned>(low4() | pair(codes + 256) << 4);
        default: return codes[64 * step + byte];
    }
}

double f16_at(const Byte* p) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, p, sizeof bits);
    return static_cast<double>(tensor::f16_to_f32(bits));
}

void read_scales(DType type, const Byte* header, std::size_t g, std::size_t r, PanelGroup& out) {
    const std::size_t lane = 2 * r;
    for (std::size_t h = 0; h < 2; ++h) {
        double scale = 0;
        double min = 0;
        switch (type) {
            case DType::q4_1:
            case DType::q5_1: min = -f16_at(header + 64 + 32 * g + lane); [[fallthrough]];
            case DType::q4_0:
            case DType::iq4_nl:
            case DType::q5_0:
            case DType::q8_0: scale = f16_at(header + 32 * g + lane); break;
            case DType::q2_k:
                scale = f16_at(header + lane) * (header[64 + 32 * g + lane + h] & 0x0F);
                min = f16_at(header + 32 + lane) * (header[64 + 32 * g + lane + h] >> 4);
                break;
            case DType::q4_k:
            case DType::q5_k:
                scale = f16_at(header + lane) * header[64 + 16 * g + r];
                min = f16_at(header + 32 + lane) * header[192 + 16 * g + r];
                break;
            case DType::q3_k:
            case DType::q6_k:
                scale = f16_at(header + lane) *
                        static_cast<std::int8_t>(header[32 + 32 * g + lane + h]);
                break;
            case DType::iq4_xs:
                scale = f16_at(header + lane) * static_cast<std::int8_t>(header[32 + 16 * g + r]);
                break;
            case DType::f32:
            case DType::f16:
            case DType::bf16: break;
        }
        out.scale[h][r] = scale;
        out.min[h][r] = min;
    }
}

}  // namespace

std::size_t panel_bytes(DType type, std::size_t cols) {
    const PanelFormat format = panel_format(type);
    UNICORN_CHECK(format.bits != 0);
    UNICORN_CHECK(cols % tensor::info(type).block_size == 0);
    const std::size_t n_groups = cols / kGroup;
    const std::size_t rest = n_groups % format.groups;
    const std::size_t bytes = n_groups / format.groups * format.block_bytes() +
                              (rest == 0 ? 0 : format.header_bytes + rest * format.group_bytes());
    return (bytes + 63) / 64 * 64;
}

void pack_panels(Isa isa, const tensor::MatrixView& weights, std::size_t first, std::size_t last,
                 std::byte* out) {
    UNICORN_CHECK(first <= last && last <= (weights.rows + kPanelRows - 1) / kPanelRows);
    UNICORN_CHECK(panel_format(weights.type).bits != 0);
    auto* const bytes = reinterpret_cast<Byte*>(out);
    if (isa == Isa::scalar) return pack_scalar(weights, first, last, bytes);
    pack_avx2(weights, first, last, bytes);
}

void read_group(DType type, const std::byte* panel, std::size_t g, PanelGroup& out) {
    const PanelFormat format = panel_format(type);
    const auto* header =
        reinterpret_cast<const Byte*>(panel) + g / format.groups * format.block_bytes();
    const Byte* codes = header + format.header_bytes + g % format.groups * format.group_bytes();
    for (std::size_t r = 0; r < kPanelRows; ++r) {
        read_scales(type, header, g % format.groups, r, out);
        for (std::size_t k = 0; k < kGroup; ++k) {
            const unsigned code = unpack_code(format.bits, codes, r, k);
            const int value = has_iq4_table(type) ? kIq4Values[code] : static_cast<int>(code);
            out.code[r][k] = value - format.offset;
        }
    }
}

}  // namespace unicorn::kernels
