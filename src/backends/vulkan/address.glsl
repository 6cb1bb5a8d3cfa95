// 64-bit addresses as uvec2 (low, high), for ranges of more than 4 GiB without shaderInt64.
#extension GL_EXT_buffer_reference_uvec2 : require

/// `base` + `index` * `stride` bytes.
uvec2 element_address(uvec2 base, uint index, uint stride) {
    uint high, low, carry;
    umulExtended(index, stride, high, low);
    const uint sum = uaddCarry(base.x, low, carry);
    return uvec2(sum, base.y + high + carry);
}
