#version 460
// Lists the keys of the k best, in any order.
#include "backends/vulkan/sample_cut.glsl"

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex;
    find_cut(row, kSampleDigits);
    const uint64_t least = words(cut.key[0], cut.key[1]);
    for (uint id = gl_WorkGroupID.x * kThreads + i; id < p.n; id += gl_NumWorkGroups.x * kThreads) {
        const uint64_t key = key_of(row, id);
        if (key < least) continue;
        const uint place = atomicAdd(p.selections.at[row].n_found, 1);
        if (place >= kMaxTopK) continue;
        p.selections.at[row].found[place][0] = uint(key);
        p.selections.at[row].found[place][1] = uint(key >> 32);
    }
}
