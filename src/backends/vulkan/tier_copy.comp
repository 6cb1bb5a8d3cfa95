#version 460
// Copies the first half of `vectors` to the second, neighbours together.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Sums { uint at[]; };
#include "backends/vulkan/tier_bandwidth.params.h"
layout(push_constant) uniform Push { TierParams p; };

void main() {
    const uint half_vectors = p.n_vectors / 2;
    // Four reads in flight in each invocation.
    uint i = gl_GlobalInvocationID.x;
    for (; i + 3 * p.n_invocations < half_vectors; i += 4 * p.n_invocations) {
        uvec4 words[4];
        [[unroll]] for (uint j = 0; j < 4; ++j) words[j] = p.vectors.at[i + j * p.n_invocations];
        [[unroll]] for (uint j = 0; j < 4; ++j)
            p.vectors.at[half_vectors + i + j * p.n_invocations] = words[j];
    }
    for (; i < half_vectors; i += p.n_invocations)
        p.vectors.at[half_vectors + i] = p.vectors.at[i];
}
