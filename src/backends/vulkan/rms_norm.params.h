// Parameters of norm_row.glsl.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct RmsNormParams {
    UNICORN_ADDRESS(NormInput) x;       // [T, D]
    UNICORN_ADDRESS(Vectors) gain;      // [D]
    UNICORN_ADDRESS(Vectors) result;    // [T, D]
    UNICORN_ADDRESS(Vectors) residual;  // [T, D], where kAdds: added to
    UNICORN_ADDRESS(Vectors) add_gain;  // [D], where kAdds: of what is added
    UNICORN_ADDRESS(uvec2) input_to;    // the result in the form kForm, too (matmul.h)
    UNICORN_UINT cols;                  // D
    UNICORN_FLOAT eps;
    UNICORN_UINT n_rows;  // T
    UNICORN_UINT unused;
};
UNICORN_PARAMS_END
