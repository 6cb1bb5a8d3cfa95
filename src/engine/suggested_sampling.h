#pragma once

#include "engine/sampler.h"
#include "formats/gguf.h"

namespace unicorn::engine {

/// The sampling that a model's makers suggest, as far as its file says: the keys
/// "general.sampling.temp", "top_k", "top_p", "min_p", "penalty_repeat" and "penalty_last_n" (as
/// llama.cpp names them); Gemma 3's defaults for the rest. A negative top_k means off, a negative
/// penalty_last_n the whole context of `context` tokens.
/// Errors: invalid_file, naming the file and the value that no sampler takes.
Result<SamplerOptions> suggested_sampling(const formats::Gguf& file, std::size_t context);

}  // namespace unicorn::engine
