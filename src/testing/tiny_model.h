#pragma once
// Small random models for tests, made by the same code as `unicorn synth`.

#include <string>
#include <string_view>

#include "quant/synth.h"

namespace unicorn::testing {

/// A folder of this process's own that is gone when the object is.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string path(std::string_view name) const;

private:
    std::string folder_;
};

/// 7 layers (one global), D 256, F 512, H 4, K 2, E 64, window 48, context 1024, 600 pieces:
/// K-quants fit, and prompts of a hundred tokens cross windows and pages.
quant::SynthShape tiny_shape();

/// Writes a model of that shape, its matrices by `recipe` ("f32", "q4_0", "mixed", ...); checks
/// that it worked.
void write_tiny_model(const std::string& path, std::string_view recipe,
                      const quant::SynthShape& shape = tiny_shape());

}  // namespace unicorn::testing
