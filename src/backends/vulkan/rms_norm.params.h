// Parameters of rms_norm.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct RmsNormParams {
    UNICORN_ADDRESS(Floats) x;         // [T, D]
    UNICORN_ADDRESS(Floats) gain;      // [D]
    UNICORN_ADDRESS(Floats) result;    // [T, D]
    UNICORN_ADDRESS(Floats) residual;  // [T, D], where kAdds: added to
    UNICORN_ADDRESS(Floats) add_gain;  // [D], where kAdds: of what is added
    UNICORN_UINT cols;                 // D
    UNICORN_FLOAT eps;
};
UNICORN_PARAMS_END
