#version 460
// kernels/rms_norm.h, one workgroup a row. Plain: out = rms_norm(x) * gain. With kAdds:
// residual += rms_norm(x) * add_gain, then out = rms_norm(residual) * gain. Sums in f32: they hold
// for |x| to 1e16, as the contract asks.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const bool kAdds = false;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
#include "backends/vulkan/rms_norm.params.h"
#include "backends/vulkan/workgroup_sum.glsl"
layout(push_constant) uniform Push { RmsNormParams p; };


/// 1 / rms from this invocation's share of the sum of squares.
float inverse_rms(float sum) { return inversesqrt(workgroup_sum(sum) / float(p.cols) + p.eps); }

void main() {
    const uint base = gl_WorkGroupID.x * p.cols;
    const uint first = gl_LocalInvocationIndex, step = gl_WorkGroupSize.x;
    float sum = 0;
    for (uint i = first; i < p.cols; i += step) {
        const float x = p.x.at[base + i];
        sum += x * x;
    }
    float scale = inverse_rms(sum);
    if (kAdds) {
        sum = 0;
        for (uint i = first; i < p.cols; i += step) {
            const float x = p.residual.at[base + i] + p.x.at[base + i] * scale * p.add_gain.at[i];
            p.residual.at[base + i] = x;
            sum += x * x;
        }
        scale = inverse_rms(sum);
        // Each invocation reads back what it wrote itself.
        for (uint i = first; i < p.cols; i += step)
            p.result.at[base + i] = p.residual.at[base + i] * scale * p.gain.at[i];
    } else {
        for (uint i = first; i < p.cols; i += step)
            p.result.at[base + i] = p.x.at[base + i] * scale * p.gain.at[i];
    }
}
