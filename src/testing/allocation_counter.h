#pragma once
// Linking this counts what a test program takes from the heap.

#include <cstddef>

namespace unicorn::testing {

/// Calls of operator new so far, on all threads.
std::size_t allocation_count();

}  // namespace unicorn::testing
