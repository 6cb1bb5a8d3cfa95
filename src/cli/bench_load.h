#pragma once
// What unicorn bench --load measures: loading, against the disk's own speed.

#include <string>

#include "engine/engine.h"

namespace unicorn::cli {

/// Loads the model `repetitions` times cold and warm, and reads its files raw in between.
/// The result is text for standard output: a table, or JSON.
/// Errors: those of Engine::open(); cancelled.
Result<std::string> bench_load(const std::string& path, const engine::EngineOptions& options,
                               std::size_t repetitions, bool json);

}  // namespace unicorn::cli
