#version 460
// qkv_head.glsl: one workgroup for each head vector of a row.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;                // E/2 or more
layout(constant_id = 1) const uint kDim = 64;  // E
layout(constant_id = 2) const uint kType = 0;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer HeadFloats { float at[]; };
#include "backends/vulkan/qkv_head.glsl"
layout(push_constant) uniform Push { QkvToCacheParams p; };

void main() { finish_head(p, gl_WorkGroupID.y, gl_WorkGroupID.x, gl_LocalInvocationIndex); }
