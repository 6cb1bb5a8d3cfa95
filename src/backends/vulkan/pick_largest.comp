#version 460
// The largest value of each row, the first of those that are; a NaN counts as nothing, +inf as the
// largest float. Twice: workgroups (part, row) over the logits, then one (kLast) over their results.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require

layout(local_size_x = 256) in;
layout(constant_id = 0) const bool kLast = false;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Ids { int at[]; };
#include "backends/vulkan/pick_largest.params.h"
layout(push_constant) uniform Push { PickLargestParams p; };

shared float tops[256];
shared int top_ids[256];

const int kNone = 0x7FFFFFFF;

/// Whether (a, id a) comes before (b, id b).
bool better(float a, int id_a, float b, int id_b) { return a > b || (a == b && id_a < id_b); }

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex;
    const float nothing = uintBitsToFloat(0xFF800000u), largest = uintBitsToFloat(0x7F7FFFFFu);
    float top = nothing;
    int id = kNone;
    for (uint j = gl_WorkGroupID.x * 256 + i; j < p.n; j += gl_NumWorkGroups.x * 256) {
        float value = p.values.at[row * p.stride + j];
        const uint bits = floatBitsToUint(value);
        if (bits == 0x7F800000u) value = largest;
        const int value_id = kLast ? p.from.at[row * p.stride + j] : int(j);
        const bool is_number = (bits & 0x7FFFFFFFu) <= 0x7F800000u;
        if (is_number && value > nothing && better(value, value_id, top, id)) {
            top = value;
            id = value_id;
        }
    }
    tops[i] = top;
    top_ids[i] = id;
    for (uint half_size = 128; half_size > 0; half_size /= 2) {
        barrier();
        if (i < half_size &&
            better(tops[i + half_size], top_ids[i + half_size], tops[i], top_ids[i])) {
            tops[i] = tops[i + half_size];
            top_ids[i] = top_ids[i + half_size];
        }
    }
    if (i != 0) return;
    if (kLast) {
        p.ids.at[row] = top_ids[0] == kNone ? -1 : top_ids[0];
    } else {
        p.best.at[row * gl_NumWorkGroups.x + gl_WorkGroupID.x] = tops[0];
        p.ids.at[row * gl_NumWorkGroups.x + gl_WorkGroupID.x] = top_ids[0];
    }
}
