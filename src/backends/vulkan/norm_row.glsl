// kernels/rms_norm.h for one row, by a workgroup. Plain:
// result = rms_norm(x) * gain. With kAdds: residual += rms_norm(x) * add_gain, then result =
// rms_norm(residual) * gain. Sums in f32: they hold for |x| to 1e16, as the contract asks. Include it
// after defining the constants kAdds and kForm (INPUT_INT8, INPUT_F16: the result so, too), and the
// buffer type NormInput.
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
#include "backends/vulkan/matmul_input.glsl"
#include "backends/vulkan/rms_norm.params.h"
#include "backends/vulkan/workgroup_sum.glsl"

shared uint row_most;

float inverse_rms(RmsNormParams n, float squares) {
    return inversesqrt(workgroup_sum(squares) / float(n.cols) + n.eps);
}

/// Row `t` by a workgroup of D / 8 invocations or more; `i` counts these by their subgroups. All
/// invocations must call it.
void norm_row(RmsNormParams n, uint t, uint i) {
    const uint gain_at = 2 * i, at = t * (n.cols / 4) + gain_at;
    const bool mine = i < n.cols / 8;
    // All that is read, at once: the gains come from far away, and nothing is to wait for them.
    vec4 a = vec4(0), b = vec4(0), rest_a = vec4(0), rest_b = vec4(0);
    vec4 gain_a = vec4(0), gain_b = vec4(0), add_a = vec4(0), add_b = vec4(0);
    if (mine) {
        a = n.x.at[at];
        b = n.x.at[at + 1];
        if (kAdds) {
            rest_a = n.residual.at[at];
            rest_b = n.residual.at[at + 1];
            add_a = n.add_gain.at[gain_at];
            add_b = n.add_gain.at[gain_at + 1];
        }
        gain_a = n.gain.at[gain_at];
        gain_b = n.gain.at[gain_at + 1];
    }
    if (kForm == INPUT_F16 && i == 0) row_most = 0;
    float scale = inverse_rms(n, dot(a, a) + dot(b, b));
    if (kAdds) {
        a = rest_a + a * scale * add_a;
        b = rest_b + b * scale * add_b;
        if (mine) {
            n.residual.at[at] = a;
            n.residual.at[at + 1] = b;
        }
        scale = inverse_rms(n, dot(a, a) + dot(b, b));
    }
    a *= scale * gain_a;
    b *= scale * gain_b;
    if (kForm == INPUT_F16) {
        const uint most = subgroupMax(mine ? largest_bits(a, b) : 0);
        if (subgroupElect()) atomicMax(row_most, most);
        barrier();
    }
    if (!mine) return;  // whole groups of four: D is a multiple of 32
    n.result.at[at] = a;
    n.result.at[at + 1] = b;
    if (kForm == INPUT_INT8) store_int8(n.input_to, n.n_rows, n.cols, t, i, a, b);
    if (kForm == INPUT_F16)
        store_f16(n.input_to, n.n_rows, n.cols, t, i, a, b, f16_scale(row_most));
}
