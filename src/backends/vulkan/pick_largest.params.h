// Parameters of pick_largest.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct PickLargestParams {
    UNICORN_ADDRESS(Floats) values;    // [rows, stride]
    UNICORN_ADDRESS(Tops) best;        // [rows, workgroups]: the largest of each part
    UNICORN_ADDRESS(TopIds) best_ids;  // [rows, workgroups]: and which that is
    UNICORN_ADDRESS(Ids) ids;          // [rows]: the result
    UNICORN_ADDRESS(Counters) done;    // [rows]
    UNICORN_UINT n;                    // values of a row
    UNICORN_UINT stride;
};
UNICORN_PARAMS_END
