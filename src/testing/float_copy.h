#pragma once
// A copy of a model whose weights are f32: for tests in which nothing but the order of sums differs
// between two devices.

#include <string>

namespace unicorn::testing {

/// Writes `from`, a GGUF model of any weight types, to `to` with each weight as the f32 that it
/// stands for. Metadata of the kinds that models have is kept. Checks that it worked.
void write_float_copy(const std::string& from, const std::string& to);

}  // namespace unicorn::testing
