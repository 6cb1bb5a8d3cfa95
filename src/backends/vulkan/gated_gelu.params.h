// Parameters of gated_gelu.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct GatedGeluParams {
    UNICORN_ADDRESS(Floats) gate;  // [n], overwritten
    UNICORN_ADDRESS(Floats) up;    // [n]
    UNICORN_UINT n;
    UNICORN_UINT unused;
};
UNICORN_PARAMS_END
