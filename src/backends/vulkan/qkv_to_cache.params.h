// Parameters of qkv_to_cache.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct QkvToCacheParams {
    UNICORN_ADDRESS(Floats) q;            // [T, H*E], in place
    UNICORN_ADDRESS(Floats) k;            // [T, K*E]
    UNICORN_ADDRESS(Floats) v;            // [T, K*E]
    UNICORN_ADDRESS(Floats) q_gain;       // [E]
    UNICORN_ADDRESS(Floats) k_gain;       // [E]
    UNICORN_ADDRESS(Floats) frequencies;  // [E/2]
    UNICORN_ADDRESS(Ids) positions;       // [T]
    UNICORN_ADDRESS(Ids) tables;          // [T]: where in `pages` the row's page table begins
    UNICORN_ADDRESS(Ids) pages;           // page of each position / 32
    UNICORN_ADDRESS(Words) k_pool;        // [pages, K] pages of kernels/kv_page.h
    UNICORN_ADDRESS(Words) v_pool;
    UNICORN_UINT n_heads;     // H
    UNICORN_UINT n_kv_heads;  // K
    UNICORN_FLOAT eps;
    UNICORN_UINT pad;
};
UNICORN_PARAMS_END
