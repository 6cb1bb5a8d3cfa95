#pragma once
// Shapes of the matrix shaders that a search on this device has found, on disk: a text file beside
// the compiled pipelines.
//
//   unicorn matmul shapes 1
//   device 00112233445566778899aabbccddeeff
//   driver radv Mesa 25.0.7
//   shaders 0123456789abcdef
//   matvec_dot4 q4_0 single 5376x21504 1 256/1/1/4
//   matmul_coopmat q4_0 gated 43008x5376 more 128/128/64/64/64/1/0
//   sum fedcba9876543210
//
// A line is shader, type of the weights, use, their rows x columns, rows of activations, and the
// shape: invocations/panels/unroll/lane_rows, or bm/bn/bk/wm/wn/buffers/splits.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "backends/vulkan/matmul_shapes.h"
#include "base/result.h"

namespace unicorn::backends::vulkan {

using TunedShapes = std::map<ProductKey, ProductShape>;

/// What shapes were found on. With another of these they are no longer the best.
struct TunedFor {
    std::string device;         // UUID, in hexadecimal
    std::string driver;         // name and version, one line
    std::uint64_t shaders = 0;  // hash of the SPIR-V
    bool operator==(const TunedFor&) const = default;
};

std::string hexadecimal(std::span<const std::uint8_t> bytes);
/// FNV-1a of the words, going on from `hash` (0: begins).
std::uint64_t hash_words(std::span<const std::uint32_t> words, std::uint64_t hash = 0);

/// "256/1/1/4": how a shape is written.
std::string format_shape(const ProductShape& shape);
/// "8", or "more".
std::string format_row_class(std::uint32_t n_rows);

std::string format_tuned_shapes(const TunedFor& whom, const TunedShapes& shapes);
/// Errors: invalid_file, saying what is wrong, when the text is damaged, was made for something
/// else than `whom`, or has a shape that is not valid there (check_shape()).
Result<TunedShapes> parse_tuned_shapes(std::string_view text, const TunedFor& whom,
                                       const ShapeLimits& limits);

/// "<folder>/matmul-<uuid>.shapes"; "" when `folder` is.
std::string tuned_shapes_path(const std::string& folder, std::span<const std::uint8_t> device_uuid);
/// Empty where there is no file. Errors: as parse_tuned_shapes(), or io; one line that names the
/// file and says what to do.
Result<TunedShapes> load_tuned_shapes(const std::string& path, const TunedFor& whom,
                                      const ShapeLimits& limits);
/// Replaces the file, and makes its folder. Errors: io.
Status store_tuned_shapes(const std::string& path, const TunedFor& whom, const TunedShapes& shapes);

}  // namespace unicorn::backends::vulkan
