// Parameters of the shaders that draw tokens: sample_*.comp, in the order adjust, count (once for
// each digit), collect, draw. Each works on all rows: rows of workgroups in y.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
// Tokens are selected by their keys (kernels/draw.h, order_key), digit by digit from the top: 11
// bits each, and 10 in the last.
const UNICORN_UINT kSampleDigits = 5;
const UNICORN_UINT kSampleDigitBits = 11;
const UNICORN_UINT kSampleBins = 2048;
const UNICORN_UINT kSampleGroups = 64;  // workgroups of a row, at most

struct SampleParams {
    UNICORN_ADDRESS(Logits) logits;          // [rows, stride] f32, changed in place
    UNICORN_ADDRESS(States) states;          // [rows]
    UNICORN_ADDRESS(Selections) selections;  // [rows]
    UNICORN_ADDRESS(Ids) ids;                // [rows]
    UNICORN_UINT n;                          // values of a row
    UNICORN_UINT stride;                     // from a row to the next
    UNICORN_UINT digit;                      // for count
    UNICORN_UINT unused;
};

/// What is known of the k-th best key before a digit is looked at.
struct SampleCut {
    UNICORN_UINT key[2];     // its digits so far, low word first; then zeros
    UNICORN_UINT remaining;  // how many of those that share these digits are wanted
    UNICORN_UINT is_all;     // all of them: `key` is at most the k-th best, and above the next
};

/// The scratch memory of a row.
struct SampleSelection {
    UNICORN_UINT bins[kSampleDigits][kSampleBins];
    SampleCut cuts[kSampleDigits];
    UNICORN_UINT n_found;
    UNICORN_UINT unused;
    UNICORN_UINT found[1024][2];  // keys, low word first
};
UNICORN_PARAMS_END
