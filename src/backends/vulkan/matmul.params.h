// Parameters of the matrix shaders (matvec_*.comp, matmul_*.comp, matmul_quantize.comp).
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct MatmulParams {
    UNICORN_ADDRESS(uvec2) weights[3];  // tiles (kernels/gpu_tiles.h)
    UNICORN_ADDRESS(uvec2) outs[3];     // [n_rows, out_rows[i]] f32
    UNICORN_ADDRESS(uvec2) x;           // [n_rows, cols] in the shader's form
    UNICORN_ADDRESS(uvec2) partial;     // sums of parts of the columns, where they are split
    UNICORN_ADDRESS(uvec2) done;        // by workgroup, how many parts of the columns are there
    UNICORN_ADDRESS(uvec2) int8;        // where outs[0] goes as int8, too (matmul.h)
    UNICORN_UINT out_rows[3];           // 0: no such matrix
    UNICORN_UINT n_rows;                // T
    UNICORN_UINT cols;                  // D
    UNICORN_UINT n_parts;               // of the columns
};

struct MatmulQuantizeParams {
    UNICORN_ADDRESS(uvec2) x;  // [n_rows, cols] f32
    UNICORN_ADDRESS(uvec2) to;
    UNICORN_UINT n_rows;
    UNICORN_UINT cols;
};
UNICORN_PARAMS_END
