// Parameters of tier_copy.comp, tier_fill.comp and tier_read.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct TierParams {
    UNICORN_ADDRESS(Vectors) vectors;  // [n_vectors] of 4 words
    UNICORN_ADDRESS(Sums) sums;        // [workgroups] words
    UNICORN_UINT n_vectors;
    UNICORN_UINT n_invocations;  // of the whole dispatch
};
UNICORN_PARAMS_END
