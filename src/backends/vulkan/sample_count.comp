#version 460
// Counts one digit of the keys that share the digits above it with the k-th best.
#include "backends/vulkan/sample_cut.glsl"

shared uint counts[kSampleBins];

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex;
    for (uint j = i; j < kSampleBins; j += kThreads) counts[j] = 0;
    find_cut(row, p.digit);
    if (gl_WorkGroupID.x == 0 && i == 0) p.selections.at[row].cuts[p.digit] = cut;
    if (cut.is_all != 0) return;
    const uint64_t so_far = words(cut.key[0], cut.key[1]);
    const uint shift = digit_shift(p.digit);
    const uint above = p.digit == 0 ? 54 : digit_shift(p.digit - 1);
    for (uint id = gl_WorkGroupID.x * kThreads + i; id < p.n; id += gl_NumWorkGroups.x * kThreads) {
        const uint64_t key = key_of(row, id);
        if ((key >> above) == (so_far >> above))
            atomicAdd(counts[uint(key >> shift) & ((1u << (above - shift)) - 1)], 1);
    }
    barrier();
    for (uint j = i; j < kSampleBins; j += kThreads) {
        if (counts[j] != 0) atomicAdd(p.selections.at[row].bins[p.digit][j], counts[j]);
    }
}
