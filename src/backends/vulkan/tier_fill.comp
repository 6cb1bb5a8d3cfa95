#version 460
// Word i of `vectors` becomes i: memory that no driver can keep compressed, with a sum that is known.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Sums { uint at[]; };
#include "backends/vulkan/tier_bandwidth.params.h"
layout(push_constant) uniform Push { TierParams p; };

void main() {
    for (uint i = gl_GlobalInvocationID.x; i < p.n_vectors; i += p.n_invocations)
        p.vectors.at[i] = 4 * i + uvec4(0, 1, 2, 3);
}
