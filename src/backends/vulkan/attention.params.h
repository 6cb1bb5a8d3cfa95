// Parameters of attend_rows.comp, attend_tiles.comp and attend_matrices.comp, and the lists of work
// that the CPU writes for each pass, to their full length: what is not an item has a row of -1.
#include "backends/vulkan/shader_types.h"

UNICORN_PARAMS_BEGIN
/// One row's keys first_key..last_key. `part` < 0: all that the row sees, so `to` gets the result.
struct RowItem {
    UNICORN_INT row;
    UNICORN_INT table;      // where in `pages` the sequence's page table begins
    UNICORN_INT first_key;  // positions, both included
    UNICORN_INT last_key;
    UNICORN_INT part;        // number of the partial result
    UNICORN_INT first_part;  // the row's
    UNICORN_INT n_parts;
    UNICORN_INT unused;
};

/// Consecutive rows of one sequence, with everything they see.
struct TileItem {
    UNICORN_INT first_row;
    UNICORN_INT n_rows;
    UNICORN_INT first_position;
    UNICORN_INT table;
};

struct AttentionParams {
    UNICORN_ADDRESS(Floats) q;      // [T, H*E]
    UNICORN_ADDRESS(Floats) to;     // [T, H*E]
    UNICORN_ADDRESS(uvec2) k_pool;  // [pages, K] pages of kernels/kv_page.h
    UNICORN_ADDRESS(uvec2) v_pool;
    UNICORN_ADDRESS(Ids) pages;  // page tables
    UNICORN_ADDRESS(Items) items;
    UNICORN_ADDRESS(Counters)
    done;  // [parts, K]: by a row's first part, how many are done; 0 between
    UNICORN_ADDRESS(Parts) parts;  // [parts, H, E + 2]: weighted sum of V, max, sum of weights
    UNICORN_FLOAT scale;
    UNICORN_UINT n_kv_heads;      // K
    UNICORN_UINT window;          // 0: all
    UNICORN_UINT n_rows;          // T
    UNICORN_ADDRESS(uvec2) int8;  // where kQuantizes: [T, H*E] as int8, too (matmul.h)
};
UNICORN_PARAMS_END
