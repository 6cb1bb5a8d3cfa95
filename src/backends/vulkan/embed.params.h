// Parameters of embed.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct EmbedParams {
    UNICORN_ADDRESS(uvec2) weights;   // [V, D] in tiles (kernels/gpu_tiles.h)
    UNICORN_ADDRESS(Ids) tokens;      // [T]
    UNICORN_ADDRESS(Vectors) result;  // [T, D]
    UNICORN_UINT cols;                // D
    UNICORN_FLOAT scale;
};
UNICORN_PARAMS_END
