// Finds the bin of the k-th best key from the counts of one digit after the other.
#define LOGITS_ARE readonly
#include "backends/vulkan/sample.glsl"

const uint kBinsPerThread = kSampleBins / kThreads;

shared uint sums[kThreads];
shared SampleCut cut;

uint digit_shift(uint digit) { return digit + 1 == kSampleDigits ? 0 : 43 - kSampleDigitBits * digit; }

/// Sets `cut` to what is known once the digits before `digit` are counted. All invocations.
void find_cut(uint row, uint digit) {
    const uint i = gl_LocalInvocationIndex;
    if (digit == 0) {
        if (i == 0) cut = SampleCut(uint[2](0, 0), p.states.at[row].top_k, 0);
        barrier();
        return;
    }
    const uint last = digit - 1;
    if (i == 0) cut = p.selections.at[row].cuts[last];
    // Bins from the highest down, a few each.
    const uint first = kSampleBins - 1 - i * kBinsPerThread;
    uint sum = 0;
    for (uint j = 0; j < kBinsPerThread; ++j) sum += p.selections.at[row].bins[last][first - j];
    sums[i] = sum;
    for (uint reach = 1; reach < kThreads; reach *= 2) {
        barrier();
        const uint before = i >= reach ? sums[i - reach] : 0;
        barrier();
        sums[i] += before;
    }
    barrier();
    const bool known = cut.is_all != 0;
    const uint wanted = cut.remaining;
    barrier();
    uint above = sums[i] - sum;
    if (!known && above < wanted && wanted <= sums[i]) {
        uint bin = first;
        uint count = p.selections.at[row].bins[last][bin];
        while (above + count < wanted) {
            above += count;
            --bin;
            count = p.selections.at[row].bins[last][bin];
        }
        const uint64_t key =
            words(cut.key[0], cut.key[1]) | (uint64_t(bin) << digit_shift(last));
        cut.key[0] = uint(key);
        cut.key[1] = uint(key >> 32);
        cut.remaining = wanted - above;
        cut.is_all = count == wanted - above ? 1 : 0;
    }
    barrier();
}
