// Parameters of gather_rows.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct GatherRowsParams {
    UNICORN_ADDRESS(Floats) x;       // [T, D]
    UNICORN_ADDRESS(Ids) rows;       // [n]
    UNICORN_ADDRESS(Floats) result;  // [n, D]
    UNICORN_UINT cols;               // D
    UNICORN_UINT pad;
};
UNICORN_PARAMS_END
