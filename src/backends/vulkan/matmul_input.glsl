// Writes activations in the forms that the matrix shaders read; vulkan/matmul.h says how they lie.
// Call these with whole rows: the four invocations 4 k ... 4 k + 3 of a subgroup hold the octets
// (8 consecutive columns) 4 j ... 4 j + 3 of one row, and all four are active.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_KHR_shader_subgroup_clustered : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer InputWords2 { uvec2 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) writeonly buffer InputWords4 { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer InputFloats { float at[]; };

const uint INPUT_F32 = 0, INPUT_INT8 = 1, INPUT_F16 = 2;

uint largest_bits(vec4 a, vec4 b) {
    const uvec4 m = max(floatBitsToUint(a) & 0x7FFFFFFFu, floatBitsToUint(b) & 0x7FFFFFFFu);
    return max(max(m.x, m.y), max(m.z, m.w));
}

/// `a`, `b`: columns 8 octet ... 8 octet + 7 of row `t` of x [n_rows, cols]. A group of 32 with a NaN
/// or an infinity gets the scale NaN and codes 0.
void store_int8(uvec2 to, uint n_rows, uint cols, uint t, uint octet, vec4 a, vec4 b) {
    const uint most = subgroupClusteredMax(largest_bits(a, b), 4);
    const bool bad = most >= 0x7F800000u;
    const bool tiny = most < 0x04000000u;  // 2^-119: 127 / max would overflow
    const float largest = uintBitsToFloat(most);
    const float inverse = bad || tiny ? 0.0 : 127.0 / largest;
    const float scale = bad ? uintBitsToFloat(0x7FC00000u) : tiny ? 0.0 : largest / 127.0;
    // NaN times 0 is NaN, and its conversion is undefined.
    const ivec4 qa = bad ? ivec4(0) : ivec4(clamp(roundEven(a * inverse), -127.0, 127.0));
    const ivec4 qb = bad ? ivec4(0) : ivec4(clamp(roundEven(b * inverse), -127.0, 127.0));
    const ivec4 both = qa + qb;
    const int half_sum = subgroupClusteredAdd(both.x + both.y + both.z + both.w, 2);
    const int other_half = subgroupShuffleXor(half_sum, 2);

    const uvec4 ua = uvec4(qa) & 0xFFu, ub = uvec4(qb) & 0xFFu;
    InputWords2(to).at[(t * cols) / 8 + octet] =
        uvec2(ua.x | ua.z << 8 | ua.y << 16 | ua.w << 24, ub.x | ub.z << 8 | ub.y << 16 | ub.w << 24);
    if (octet % 4 == 0) {
        InputWords2(to).at[(n_rows * cols) / 8 + (t * cols) / 32 + octet / 4] =
            uvec2(floatBitsToUint(scale), (uint(half_sum) & 0xFFFFu) | uint(other_half) << 16);
    }
}

/// The power of two by which a row with the largest magnitude `most` (as bits; the row's own) is
/// divided to become f16: it then lies in [2^14, 2^15). NaN for a row with a NaN or an infinity.
float f16_scale(uint most) {
    if (most >= 0x7F800000u) return uintBitsToFloat(0x7FC00000u);
    if (most < 0x00800000u) return 1.0;  // zero, or below any normal number: as it is
    return uintBitsToFloat((max(most >> 23, 15u) - 14u) << 23);
}

/// The same columns as f16; `scale` = f16_scale(bits of the row's largest |x|), equal in all calls
/// of a row.
void store_f16(uvec2 to, uint n_rows, uint cols, uint t, uint octet, vec4 a, vec4 b, float scale) {
    const bool bad = isnan(scale);
    const float inverse = bad ? 0.0 : 1.0 / scale;  // a power of two: exact
    const vec4 ha = bad ? vec4(0) : a * inverse;
    const vec4 hb = bad ? vec4(0) : b * inverse;
    InputWords4(to).at[(t * cols) / 8 + octet] =
        uvec4(packHalf2x16(ha.xy), packHalf2x16(ha.zw), packHalf2x16(hb.xy), packHalf2x16(hb.zw));
    if (octet == 0) InputFloats(to).at[(n_rows * cols) / 2 + t] = scale;
}
