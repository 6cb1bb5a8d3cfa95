// Parameters of qkv_head.glsl.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct QkvToCacheParams {
    UNICORN_ADDRESS(HeadFloats) q;        // [T, H*E], in place
    UNICORN_ADDRESS(HeadFloats) k;        // [T, K*E]
    UNICORN_ADDRESS(HeadFloats) v;        // [T, K*E]
    UNICORN_ADDRESS(Floats) q_gain;       // [E]
    UNICORN_ADDRESS(Floats) k_gain;       // [E]
    UNICORN_ADDRESS(Floats) frequencies;  // [E/2]
    UNICORN_ADDRESS(Ids) positions;       // [T]
    UNICORN_ADDRESS(Ids) tables;          // [T]: where in `pages` the row's page table begins
    UNICORN_ADDRESS(Ids) pages;           // page of each position / 32
    UNICORN_ADDRESS(uvec2) k_pool;        // [pages, K] pages of kernels/kv_page.h
    UNICORN_ADDRESS(uvec2) v_pool;
    UNICORN_UINT n_heads;     // H
    UNICORN_UINT n_kv_heads;  // K
    UNICORN_FLOAT eps;
    UNICORN_UINT pad;
};
UNICORN_PARAMS_END
