#version 460
// gate = gelu_tanh(gate) * up (kernels/gated_gelu.h), for gates and ups of different types; those of
// one type are multiplied in one dispatch that does this at its end.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
#include "backends/vulkan/gated_gelu.params.h"
layout(push_constant) uniform Push { GatedGeluParams p; };

void main() {
    for (uint i = gl_GlobalInvocationID.x; i < p.n; i += gl_NumWorkGroups.x * gl_WorkGroupSize.x) {
        const float x = p.gate.at[i];
        // tanh() of some drivers overflows; beyond 15 it is 1 in f32.
        const float t = tanh(clamp(0.7978845608 * (x + 0.044715 * x * x * x), -15.0, 15.0));
        p.gate.at[i] = 0.5 * x * (1.0 + t) * p.up.at[i];
    }
}
