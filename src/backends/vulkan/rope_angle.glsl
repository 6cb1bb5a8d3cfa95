// Cosine and sine of angles far beyond what GPUs promise (|x| <= pi), within 2 ulp.

/// cos and sin of `angle` in [0, 2^18). The angle is an integer m * 2^e; m times 64 bits of 2/pi
/// gives the quadrant and, exactly enough, what is left: no rounding depends on the device.
vec2 cos_sin(float angle) {
    const uint bits = floatBitsToUint(angle);
    const int exponent = int(bits >> 23) - 127;
    float rest = angle;
    uint quadrant = 0;
    if (exponent >= -1) {
        const uint m = (bits & 0x7FFFFFu) | 0x800000u;
        // 2/pi = 0xA2F9836E.4E441529 * 2^-32; m * that, as words of weight 1, 2^-32, 2^-64.
        uint high_h, high_l, low_h, low_l, carry;
        umulExtended(m, 0xA2F9836Eu, high_h, high_l);
        umulExtended(m, 0x4E441529u, low_h, low_l);
        const uint middle = uaddCarry(high_l, low_h, carry);
        const uint whole = high_h + carry;
        // angle * 2/pi = (whole + middle * 2^-32 + ...) * 2^(exponent - 23): shift right by s.
        const uint s = uint(23 - exponent);  // 6 to 24
        const uint turn = whole >> s;
        const uint fraction = (whole << (32 - s)) | (middle >> s);
        quadrant = turn;
        const int signed_fraction = int(fraction);
        if (signed_fraction < 0) ++quadrant;  // to the nearest quadrant: rest in [-1/2, 1/2)
        rest = float(signed_fraction) * (1.57079632679 / 4294967296.0);
    }
    const float x2 = rest * rest;
    const float c = 1.0 + x2 * (-0.5 + x2 * (4.16666666e-2 + x2 * (-1.388888889e-3 +
                    x2 * (2.480158730e-5 - x2 * 2.755731922e-7))));
    const float s = rest + rest * x2 * (-1.666666667e-1 + x2 * (8.333333333e-3 +
                    x2 * (-1.984126984e-4 + x2 * 2.755731922e-6)));
    switch (quadrant & 3) {
        case 0: return vec2(c, s);
        case 1: return vec2(-s, c);
        case 2: return vec2(-c, -s);
        default: return vec2(s, -c);
    }
}
