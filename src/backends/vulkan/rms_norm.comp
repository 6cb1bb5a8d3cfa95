#version 460
// norm_row.glsl, one workgroup a row.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;  // D / 8 or more
layout(constant_id = 1) const bool kAdds = false;
layout(constant_id = 2) const uint kForm = 0;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer NormInput { vec4 at[]; };
#include "backends/vulkan/norm_row.glsl"
layout(push_constant) uniform Push { RmsNormParams p; };

void main() { norm_row(p, gl_WorkGroupID.x, gl_LocalInvocationIndex); }
