// What the shaders that draw tokens share. LOGITS_ARE: `coherent` for the one that changes them.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#include "kernels/draw.h"

layout(local_size_x = 256) in;

layout(buffer_reference, std430, buffer_reference_align = 4) LOGITS_ARE buffer Logits { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer States { DrawState at[]; };
layout(buffer_reference) buffer Selections;
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Ids { int at[]; };
#include "backends/vulkan/sample.params.h"
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Selections { SampleSelection at[]; };
layout(push_constant) uniform Push { SampleParams p; };

const uint kThreads = 256;

uint64_t key_of(uint row, uint id) { return order_key(clean(p.logits.at[row * p.stride + id]), id); }
