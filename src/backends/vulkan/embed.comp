#version 460
// result[t] = scale * row tokens[t] of the matrix, which lies in tiles: that of a tied head serves.
// One workgroup a row; a NaN in a tile's padding is never read.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint TYPE = 2;  // tensor::DType

#include "backends/vulkan/matmul_weights.glsl"
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ids { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) writeonly buffer Vectors { vec4 at[]; };
#include "backends/vulkan/embed.params.h"
layout(push_constant) uniform Push { EmbedParams p; };

void main() {
    // -1, where the pass before found no number to pick, stays within the matrix.
    const uint t = gl_WorkGroupID.x, token = uint(max(p.tokens.at[t], 0));
    const Tile tile = tile_at(p.weights, p.cols, token / ROWS);
    const uint quads = UNIT_COLS / 4;  // of a unit
    for (uint i = gl_LocalInvocationIndex; i < p.cols / 4; i += gl_WorkGroupSize.x)
        p.result.at[t * p.cols / 4 + i] =
            p.scale * weight_quad(tile, i / quads, token % ROWS, i % quads);
}
