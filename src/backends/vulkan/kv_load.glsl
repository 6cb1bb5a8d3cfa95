// Reads keys and values from pages (kernels/kv_page.h) of kDim elements of type kType.

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Pool { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Pool8 { uvec2 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Pool4 { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 2) readonly buffer Pool2 { uint16_t at[]; };

const uint kPageTokens = 32;
const uint kPageBytes = kType == 0   ? kPageTokens * kDim * 4
                        : kType == 1 ? kPageTokens * kDim * 2
                                     : kDim * 34;

vec4 halves(uvec2 bits) { return vec4(unpackHalf2x16(bits.x), unpackHalf2x16(bits.y)); }

vec4 codes(uint bits) {
    const int b = int(bits);
    return vec4(float((b << 24) >> 24), float((b << 16) >> 24), float((b << 8) >> 24), float(b >> 24));
}

float code_scale(uvec2 page, uint element) {
    return unpackHalf2x16(uint(Pool2(page).at[(kPageTokens * kDim) / 2 + element / 32])).x;
}

/// Elements e to e + 7 of token `token` of the page at `page`; e is a multiple of 8.
void load_8(uvec2 page, uint token, uint e, out vec4 a, out vec4 b) {
    const uint element = token * kDim + e;
    if (kType == 0) {
        a = uintBitsToFloat(Pool(page).at[element / 4]);
        b = uintBitsToFloat(Pool(page).at[element / 4 + 1]);
    } else if (kType == 1) {
        const uvec4 bits = Pool(page).at[element / 8];
        a = halves(bits.xy);
        b = halves(bits.zw);
    } else {
        const uvec2 bits = Pool8(page).at[element / 8];
        const float scale = code_scale(page, element);
        a = codes(bits.x) * scale;
        b = codes(bits.y) * scale;
    }
}

/// Elements e to e + 3; e is a multiple of 4.
vec4 load_4(uvec2 page, uint token, uint e) {
    const uint element = token * kDim + e;
    if (kType == 0) return uintBitsToFloat(Pool(page).at[element / 4]);
    if (kType == 1) return halves(Pool8(page).at[element / 4]);
    return codes(Pool4(page).at[element / 4]) * code_scale(page, element);
}
