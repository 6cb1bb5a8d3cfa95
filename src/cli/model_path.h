#pragma once
// Which model is meant when none is named.

#include <string>

#include "base/result.h"

namespace unicorn::cli {

/// `given`, or when that is empty the bundled model: what $UNICORN_MODEL names; else the first
/// *.gguf, by name, in <folder of the program>/../share/unicorn/models (the build folder has the
/// same layout). Errors: not_found, saying where it looked.
Result<std::string> resolve_model(const std::string& given);

}  // namespace unicorn::cli
