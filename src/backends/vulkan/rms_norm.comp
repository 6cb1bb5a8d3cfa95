#version 460
// kernels/rms_norm.h, one workgroup a row, eight columns an invocation: the row is read once and
// kept in registers. Plain: result = rms_norm(x) * gain. With kAdds: residual += rms_norm(x) *
// add_gain, then result = rms_norm(residual) * gain. Sums in f32: they hold for |x| to 1e16, as the
// contract asks.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;  // D / 8 or more
layout(constant_id = 1) const bool kAdds = false;
layout(constant_id = 2) const uint kForm = 0;  // INPUT_INT8, INPUT_F16: the result so, too

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
#include "backends/vulkan/matmul_input.glsl"
#include "backends/vulkan/rms_norm.params.h"
#include "backends/vulkan/workgroup_sum.glsl"
layout(push_constant) uniform Push { RmsNormParams p; };

shared uint row_most;

float inverse_rms(vec4 a, vec4 b) {
    return inversesqrt(workgroup_sum(dot(a, a) + dot(b, b)) / float(p.cols) + p.eps);
}

void main() {
    const uint octet = gl_LocalInvocationIndex, t = gl_WorkGroupID.x;
    const uint gain_at = 2 * octet, at = t * (p.cols / 4) + gain_at;
    const bool mine = octet < p.cols / 8;
    // All that is read, at once: the gains come from far away, and nothing is to wait for them.
    vec4 a = vec4(0), b = vec4(0), rest_a = vec4(0), rest_b = vec4(0);
    vec4 gain_a = vec4(0), gain_b = vec4(0), add_a = vec4(0), add_b = vec4(0);
    if (mine) {
        a = p.x.at[at];
        b = p.x.at[at + 1];
        if (kAdds) {
            rest_a = p.residual.at[at];
            rest_b = p.residual.at[at + 1];
            add_a = p.add_gain.at[gain_at];
            add_b = p.add_gain.at[gain_at + 1];
        }
        gain_a = p.gain.at[gain_at];
        gain_b = p.gain.at[gain_at + 1];
    }
    if (kForm == INPUT_F16 && octet == 0) row_most = 0;
    float scale = inverse_rms(a, b);
    if (kAdds) {
        a = rest_a + a * scale * add_a;
        b = rest_b + b * scale * add_b;
        if (mine) {
            p.residual.at[at] = a;
            p.residual.at[at + 1] = b;
        }
        scale = inverse_rms(a, b);
    }
    a *= scale * gain_a;
    b *= scale * gain_b;
    if (kForm == INPUT_F16) {
        const uint most = subgroupMax(mine ? largest_bits(a, b) : 0);
        if (subgroupElect()) atomicMax(row_most, most);
        barrier();
    }
    if (!mine) return;  // whole groups of four: D is a multiple of 32
    p.result.at[at] = a;
    p.result.at[at + 1] = b;
    if (kForm == INPUT_INT8) store_int8(p.input_to, p.n_rows, p.cols, t, octet, a, b);
    if (kForm == INPUT_F16)
        store_f16(p.input_to, p.n_rows, p.cols, t, octet, a, b, f16_scale(row_most));
}
