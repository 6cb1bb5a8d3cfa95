#version 460
// Biases and penalises a row's logits, and clears what the next shaders count in. One workgroup a
// row.
#define LOGITS_ARE coherent
#include "backends/vulkan/sample.glsl"

shared uint history[kMaxHistory];

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex;
    for (uint j = i; j < kSampleDigits * kSampleBins; j += kThreads)
        p.selections.at[row].bins[j / kSampleBins][j % kSampleBins] = 0;
    if (i == 0) p.selections.at[row].n_found = 0;

    const uint n_bias = p.states.at[row].n_bias;
    for (uint j = i; j < n_bias; j += kThreads) {
        const uint at = row * p.stride + p.states.at[row].bias_ids[j];
        p.logits.at[at] = biased(clean(p.logits.at[at]), p.states.at[row].bias[j]);
    }
    // A token may be both biased and penalised.
    memoryBarrierBuffer();
    barrier();
    // Read once: it lies in the CPU's memory, and each token is compared with all others.
    const uint n_history = p.states.at[row].n_history;
    for (uint j = i; j < n_history; j += kThreads) history[j] = p.states.at[row].history[j];
    barrier();
    for (uint j = i; j < n_history; j += kThreads) {
        const uint id = history[j];
        uint count = 0;
        bool is_first = true;
        for (uint other = 0; other < n_history; ++other) {
            if (history[other] != id) continue;
            ++count;
            if (other < j) is_first = false;
        }
        if (!is_first) continue;
        const uint at = row * p.stride + id;
        p.logits.at[at] =
            penalised(clean(p.logits.at[at]), count, p.states.at[row].repeat_penalty,
                      p.states.at[row].presence_penalty, p.states.at[row].frequency_penalty);
    }
}
