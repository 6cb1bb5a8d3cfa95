#version 460
// kernels/rms_norm.h, one workgroup a row, eight columns an invocation: the row is read once and
// kept in registers. Plain: result = rms_norm(x) * gain. With kAdds: residual += rms_norm(x) *
// add_gain, then result = rms_norm(residual) * gain. Sums in f32: they hold for |x| to 1e16, as the
// contract asks.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;  // D / 8 or more
layout(constant_id = 1) const bool kAdds = false;
layout(constant_id = 2) const bool kQuantizes = false;

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
#include "backends/vulkan/matmul_input.glsl"
#include "backends/vulkan/rms_norm.params.h"
#include "backends/vulkan/workgroup_sum.glsl"
layout(push_constant) uniform Push { RmsNormParams p; };

float inverse_rms(vec4 a, vec4 b) {
    return inversesqrt(workgroup_sum(dot(a, a) + dot(b, b)) / float(p.cols) + p.eps);
}

void main() {
    const uint octet = gl_LocalInvocationIndex, t = gl_WorkGroupID.x;
    const uint gain_at = 2 * octet, at = t * (p.cols / 4) + gain_at;
    const bool mine = octet < p.cols / 8;
    vec4 a = vec4(0), b = vec4(0), rest_a = vec4(0), rest_b = vec4(0);
    if (mine) {
        a = p.x.at[at];
        b = p.x.at[at + 1];
        if (kAdds) {
            rest_a = p.residual.at[at];
            rest_b = p.residual.at[at + 1];
        }
    }
    float scale = inverse_rms(a, b);
    if (kAdds) {
        if (mine) {
            a = rest_a + a * scale * p.add_gain.at[gain_at];
            b = rest_b + b * scale * p.add_gain.at[gain_at + 1];
            p.residual.at[at] = a;
            p.residual.at[at + 1] = b;
        }
        scale = inverse_rms(a, b);
    }
    if (!mine) return;  // whole groups of four: D is a multiple of 32
    a *= scale * p.gain.at[gain_at];
    b *= scale * p.gain.at[gain_at + 1];
    p.result.at[at] = a;
    p.result.at[at + 1] = b;
    if (kQuantizes) store_int8(p.int8, p.n_rows, p.cols, t, octet, a, b);
}
