#version 460
// Sorts the k best and draws one of them: top-p, min-p, temperature, as engine/sampler.cpp does in
// the same integers. Notes it in the row's state. One workgroup a row.
#define LOGITS_ARE readonly
#include "backends/vulkan/sample.glsl"

shared uint64_t keys[kMaxTopK];
shared uint64_t weights[kMaxTopK];

uint apart(uint best, uint i) { return plus(best, key_logit(keys[i]) ^ kSign); }

void main() {
    const uint row = gl_WorkGroupID.y, i = gl_LocalInvocationIndex;
    const uint found = min(p.selections.at[row].n_found, kMaxTopK);
    uint size = 2;
    while (size < found) size *= 2;
    for (uint j = i; j < size; j += kThreads) {
        keys[j] = j < found ? words(p.selections.at[row].found[j][0],
                                    p.selections.at[row].found[j][1])
                            : uint64_t(0);
    }
    // Bitonic, best first.
    for (uint block = 2; block <= size; block *= 2) {
        for (uint reach = block / 2; reach > 0; reach /= 2) {
            barrier();
            for (uint j = i; j < size; j += kThreads) {
                const uint other = j ^ reach;
                if (other <= j) continue;
                const uint64_t a = keys[j], b = keys[other];
                if ((a < b) == ((j & block) == 0)) {
                    keys[j] = b;
                    keys[other] = a;
                }
            }
        }
    }
    barrier();

    const uint best = key_logit(keys[0]);
    const bool any = found > 0 && best != kNever;
    const bool is_greedy = p.states.at[row].is_greedy != 0;
    uint n = found;
    if (any && !is_greedy && p.states.at[row].has_top_p != 0) {
        const uint mantissa = p.states.at[row].base_mantissa;
        const int exponent = p.states.at[row].base_exponent;
        for (uint j = i; j < found; j += kThreads)
            weights[j] = weight(distance(apart(best, j), mantissa, exponent));
        barrier();
        uint64_t total = uint64_t(0), sum = uint64_t(0);
        for (uint j = 0; j < found; ++j) total += weights[j];
        const uint64_t enough =
            share_of(total, words(p.states.at[row].top_p[0], p.states.at[row].top_p[1]));
        n = 0;
        do {
            sum += weights[n];
            ++n;
        } while (n < found && sum < enough);
        barrier();
    }
    const uint64_t most_distant =
        words(p.states.at[row].most_distant[0], p.states.at[row].most_distant[1]);
    for (uint j = i; any && !is_greedy && j < n; j += kThreads) {
        const uint share = apart(best, j);
        const uint64_t unscaled =
            distance(share, p.states.at[row].base_mantissa, p.states.at[row].base_exponent);
        const bool stays = key_logit(keys[j]) != kNever && unscaled <= most_distant;
        weights[j] = stays ? weight(distance(share, p.states.at[row].scale_mantissa,
                                             p.states.at[row].scale_exponent))
                           : uint64_t(0);
    }
    barrier();
    if (i != 0) return;
    if (!any) {
        p.ids.at[row] = -1;
        return;
    }
    uint at = 0;
    if (!is_greedy) {
        const uint64_t counter =
            words(p.states.at[row].random[0], p.states.at[row].random[1]) + random_step();
        p.states.at[row].random[0] = uint(counter);
        p.states.at[row].random[1] = uint(counter >> 32);
        uint64_t total = uint64_t(0);
        for (uint j = 0; j < n; ++j) total += weights[j];
        const uint64_t drawn = share_of(random_mix(counter), total);
        uint64_t sum = weights[0];
        while (sum <= drawn) sum += weights[++at];
    }
    const uint id = key_id(keys[at]);
    p.ids.at[row] = int(id);

    const uint history_size = p.states.at[row].history_size;
    if (history_size == 0) return;
    const uint n_history = p.states.at[row].n_history;
    if (n_history < history_size) {
        p.states.at[row].history[n_history] = id;
        p.states.at[row].n_history = n_history + 1;
    } else {
        const uint next = p.states.at[row].next_history;
        p.states.at[row].history[next] = id;
        p.states.at[row].next_history = (next + 1) % history_size;
    }
}
