// Reads weights as kernels/gpu_tiles.h lays them out. Include it after defining TYPE, a constant:
// the number of a tensor::DType.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types : require

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Words4 { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Words2 { uvec2 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Words { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 2) readonly buffer Halves { uint16_t at[]; };
layout(buffer_reference, std430, buffer_reference_align = 1) readonly buffer Bytes { uint8_t at[]; };

const uint F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11,
           Q4_K = 12, Q5_K = 13, Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, BF16 = 30;

const bool IS_FLOAT = TYPE == F32 || TYPE == F16 || TYPE == BF16;
const bool IS_IQ4 = TYPE == IQ4_NL || TYPE == IQ4_XS;
const bool IS_2BIT = TYPE == Q2_K || TYPE == Q3_K;
const uint UNIT_COLS = IS_2BIT ? 64 : 32;
const uint PIECES = TYPE == F32 ? 8 : IS_FLOAT ? 4 : TYPE == Q8_0 ? 2 : 1;
const uint HIGH_BYTES = TYPE == Q5_0 || TYPE == Q5_1 || TYPE == Q5_K ? 4
                        : TYPE == Q6_K || TYPE == Q3_K               ? 8
                                                                     : 0;
const uint SUB_BYTES = IS_2BIT                                            ? 4
                       : TYPE == Q4_K || TYPE == Q5_K || TYPE == Q6_K     ? 2
                       : TYPE == IQ4_XS                                   ? 1
                                                                          : 0;
const bool IS_SUPER = SUB_BYTES > 0;
const uint SCALE_COLS = IS_SUPER ? 256 : 32;
const uint UNITS_IN_BLOCK = SCALE_COLS / UNIT_COLS;
const bool HAS_MIN = TYPE == Q4_1 || TYPE == Q5_1 || TYPE == Q4_K || TYPE == Q5_K || TYPE == Q2_K;
const uint SCALE_BYTES = IS_FLOAT ? 0 : HAS_MIN ? 4 : 2;
const bool HAS_OFFSET = HAS_MIN || TYPE == Q4_0 || TYPE == Q5_0 || TYPE == Q6_K || TYPE == Q3_K;
const bool HALF_GROUPS = IS_2BIT || TYPE == Q6_K;  // a scale for 16 columns
const bool SIGNED_CODES = TYPE == Q8_0 || IS_IQ4;
const uint ROWS = 16;  // of a tile

/// `bytes16` times 16 bytes behind `address`.
uvec2 advance(uvec2 address, uint bytes16) {
    uint carry;
    const uint low = uaddCarry(address.x, bytes16 << 4, carry);
    return uvec2(low, address.y + (bytes16 >> 28) + carry);
}

/// Where the planes of one tile begin.
struct Tile {
    uvec2 codes, high, sub, scale;
};

/// 16-byte words of a tile with `cols` columns.
uint tile_words(uint cols) {
    return cols / UNIT_COLS * (PIECES * 16 + HIGH_BYTES + SUB_BYTES) + cols / SCALE_COLS * SCALE_BYTES;
}

Tile tile_at(uvec2 matrix, uint cols, uint index) {
    const uint units = cols / UNIT_COLS;
    Tile tile;
    tile.codes = advance(matrix, index * tile_words(cols));
    tile.high = advance(tile.codes, units * PIECES * 16);
    tile.sub = advance(tile.high, units * HIGH_BYTES);
    tile.scale = advance(tile.sub, units * SUB_BYTES);
    return tile;
}

/// One row's part of one unit, as it lies.
struct Unit {
    uvec4 codes[8];  // PIECES of them
    uvec2 high;
    uint sub, scale;
};

Unit load_unit(Tile tile, uint unit, uint row) {
    Unit u;
    const uint i = unit * ROWS + row;
    [[unroll]] for (uint piece = 0; piece < PIECES; ++piece)
        u.codes[piece] = Words4(tile.codes).at[(unit * PIECES + piece) * ROWS + row];
    if (HIGH_BYTES == 4) u.high.x = Words(tile.high).at[i];
    if (HIGH_BYTES == 8) u.high = Words2(tile.high).at[i];
    if (SUB_BYTES == 1) u.sub = Bytes(tile.sub).at[i];
    if (SUB_BYTES == 2) u.sub = Halves(tile.sub).at[i];
    if (SUB_BYTES == 4) u.sub = Words(tile.sub).at[i];
    const uint block = unit / UNITS_IN_BLOCK * ROWS + row;
    if (SCALE_BYTES == 2) u.scale = Halves(tile.scale).at[block];
    if (SCALE_BYTES == 4) u.scale = Words(tile.scale).at[block];
    return u;
}

/// Four codes of IQ4 types, from nibbles to signed bytes.
uint iq4_values(uint nibbles) {
    const uint table[4] = {0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u};
    uint values = 0;
    [[unroll]] for (uint i = 0; i < 4; ++i) {
        const uint nibble = (nibbles >> (8 * i)) & 15;
        const uint low = (nibble & 4) != 0 ? table[1] : table[0];
        const uint high = (nibble & 4) != 0 ? table[3] : table[2];
        const uint word = (nibble & 8) != 0 ? high : low;
        values |= ((word >> (8 * (nibble & 3))) & 0xFF) << (8 * i);
    }
    return values;
}

/// The codes of columns 4 j ... 4 j + 3 of a unit as bytes, in the order 0, 2, 1, 3; signed where
/// SIGNED_CODES. `j` should be a constant. (The remainders below keep indices in range in branches
/// that TYPE rules out.)
uint quad(Unit u, uint j) {
    if (TYPE == Q8_0) return u.codes[j / 4 % 2][j % 4];
    if (IS_2BIT) {
        const uint low = (u.codes[0][j / 4] >> (2 * (j % 4))) & 0x03030303u;
        if (TYPE == Q2_K) return low;
        return low | ((u.high[j / 8 % 2] >> (j % 8)) & 0x01010101u) << 2;
    }
    const uint low = (u.codes[0][j / 2 % 4] >> (4 * (j % 2))) & 0x0F0F0F0Fu;
    if (IS_IQ4) return iq4_values(low);
    if (HIGH_BYTES == 4) return low | ((u.high.x >> j) & 0x01010101u) << 4;
    if (HIGH_BYTES == 8) return low | ((u.high[j / 4 % 2] >> (2 * (j % 4))) & 0x03030303u) << 4;
    return low;
}

/// Scale and offset of half group `g` (16 columns) of unit number `unit`:
/// weight = scale * code + offset.
vec2 scale_offset(Unit u, uint g) {
    const vec2 d = unpackHalf2x16(u.scale);
    switch (TYPE) {
        case Q4_0: return vec2(d.x, -8.0 * d.x);
        case Q5_0: return vec2(d.x, -16.0 * d.x);
        case Q4_1:
        case Q5_1: return d;
        case Q4_K:
        case Q5_K: return vec2(d.x * float(u.sub & 0xFF), -d.y * float(u.sub >> 8));
        case Q6_K: {
            const float scale = d.x * float(bitfieldExtract(int(u.sub), int(8 * g), 8));
            return vec2(scale, -32.0 * scale);
        }
        case Q2_K: {
            const uint both = bitfieldExtract(u.sub, int(8 * g), 8);
            return vec2(d.x * float(both & 15), -d.y * float(both >> 4));
        }
        case Q3_K: {
            const float scale = d.x * float(bitfieldExtract(int(u.sub), int(8 * g), 8));
            return vec2(scale, -4.0 * scale);
        }
        case IQ4_XS: return vec2(d.x * float(bitfieldExtract(int(u.sub), 0, 8)), 0.0);
        default: return vec2(d.x, 0.0);
    }
}

/// Bytes of a quad in the order of columns.
vec4 quad_values(uint codes) {
    if (SIGNED_CODES) {
        const int word = int(codes);
        return vec4(bitfieldExtract(word, 0, 8), bitfieldExtract(word, 16, 8),
                    bitfieldExtract(word, 8, 8), bitfieldExtract(word, 24, 8));
    }
    return vec4(codes & 0xFF, (codes >> 16) & 0xFF, (codes >> 8) & 0xFF, codes >> 24);
}

/// Columns 4 j ... 4 j + 3 of a unit of a float type.
vec4 float_quad(Unit u, uint j) {
    if (TYPE == F32) return uintBitsToFloat(u.codes[j % 8]);
    const uvec2 words = j % 2 == 0 ? u.codes[j / 2 % 4].xy : u.codes[j / 2 % 4].zw;
    if (TYPE == F16) return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
    return uintBitsToFloat(uvec4(words.x << 16, words.x & 0xFFFF0000u, words.y << 16,
                                 words.y & 0xFFFF0000u));
}

/// Columns 4 j ... 4 j + 3 of unit number `unit` of a row, of any type: for single look-ups.
vec4 weight_quad(Tile tile, uint unit, uint row, uint j) {
    const Unit u = load_unit(tile, unit, row);
    if (IS_FLOAT) return float_quad(u, j);
    const vec2 s = scale_offset(u, j / 4);
    return s.x * quad_values(quad(u, j)) + s.y;
}

/// The unit's columns 32 and on in place of the first 32, where `half_unit` is 1 (64 columns).
Unit second_half(Unit u, uint half_unit) {
    if (IS_2BIT && half_unit == 1) {
        u.codes[0].xy = u.codes[0].zw;
        u.high.x = u.high.y;
        u.sub >>= 16;
    }
    return u;
}

/// Columns 4 j ... 4 j + 3 of a unit as f16 in order; `s` as scale_offset() gives it.
uvec2 quad_halves(Unit u, uint j, f16vec2 s) {
    if (TYPE == F16) return j % 2 == 0 ? u.codes[j / 2 % 4].xy : u.codes[j / 2 % 4].zw;
    if (IS_FLOAT) {
        const vec4 w = clamp(float_quad(u, j), -65504.0, 65504.0);
        return uvec2(packHalf2x16(w.xy), packHalf2x16(w.zw));
    }
    if (TYPE == Q4_0 || TYPE == Q4_1 || TYPE == Q4_K) {
        // 0x6400 | code is the f16 1024 + code; the upper half of a byte is 16 codes.
        const uint word = u.codes[0][j / 2 % 4];
        const uint mask = j % 2 == 0 ? 0x000F000Fu : 0x00F000F0u;
        const float16_t factor = j % 2 == 0 ? 1.0hf : 0.0625hf;
        const float16_t zero = -1024.0hf * factor - (TYPE == Q4_0 ? 8.0hf : 0.0hf);
        const f16vec2 a = fma(unpackFloat2x16((word & mask) | 0x64006400u), f16vec2(factor), f16vec2(zero));
        const f16vec2 b =
            fma(unpackFloat2x16(((word >> 8) & mask) | 0x64006400u), f16vec2(factor), f16vec2(zero));
        if (TYPE == Q4_0) return uvec2(packFloat2x16(a * s.x), packFloat2x16(b * s.x));
        return uvec2(packFloat2x16(fma(a, s.xx, s.yy)), packFloat2x16(fma(b, s.xx, s.yy)));
    }
    // 0x6400 | byte is the f16 1024 + byte.
    const uint codes = SIGNED_CODES ? quad(u, j) ^ 0x80808080u : quad(u, j);
    const f16vec2 zero = f16vec2(SIGNED_CODES ? 1152.0hf : 1024.0hf);
    f16vec2 a = unpackFloat2x16((codes & 0x00FF00FFu) | 0x64006400u) - zero;
    f16vec2 b = unpackFloat2x16(((codes >> 8) & 0x00FF00FFu) | 0x64006400u) - zero;
    if (HAS_OFFSET) {
        a = fma(a, s.xx, s.yy);
        b = fma(b, s.xx, s.yy);
    } else {
        a *= s.xx;
        b *= s.xx;
    }
    return uvec2(packFloat2x16(a), packFloat2x16(b));
}
