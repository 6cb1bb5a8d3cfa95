// Parameters of pick_largest.comp.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
struct PickLargestParams {
    UNICORN_ADDRESS(Floats) values;  // [rows, stride]
    UNICORN_ADDRESS(Ids) from;       // where kLast: [rows, stride], the ids of the values
    UNICORN_ADDRESS(Floats) best;    // else: [rows, workgroups of a row]
    UNICORN_ADDRESS(Ids) ids;        // where kLast: [rows], else as `best`
    UNICORN_UINT n;                  // values of a row
    UNICORN_UINT stride;             // from a row to the next
};
UNICORN_PARAMS_END
