#version 460
// Reads all of `vectors` once, neighbours together, and leaves each workgroup's sum of words.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer Sums { uint at[]; };
#include "backends/vulkan/tier_bandwidth.params.h"
layout(push_constant) uniform Push { TierParams p; };

shared uint group_sum;

void main() {
    if (gl_LocalInvocationIndex == 0) group_sum = 0;
    barrier();

    // Four reads in flight in each invocation.
    uvec4 sum[4] = {uvec4(0), uvec4(0), uvec4(0), uvec4(0)};
    uint i = gl_GlobalInvocationID.x;
    for (; i + 3 * p.n_invocations < p.n_vectors; i += 4 * p.n_invocations) {
        [[unroll]] for (uint j = 0; j < 4; ++j) sum[j] += p.vectors.at[i + j * p.n_invocations];
    }
    for (; i < p.n_vectors; i += p.n_invocations) sum[0] += p.vectors.at[i];

    const uvec4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    const uint subgroup_sum = subgroupAdd(all.x + all.y + all.z + all.w);
    if (subgroupElect()) atomicAdd(group_sum, subgroup_sum);
    barrier();
    if (gl_LocalInvocationIndex == 0) p.sums.at[gl_WorkGroupID.x] = group_sum;
}
