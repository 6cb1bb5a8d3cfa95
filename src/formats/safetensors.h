#pragma once
// safetensors, single file or sharded: a checked view of the mapped files.
// The bytes are untrusted: every size is checked before it is used or multiplied.
// Source: github.com/huggingface/safetensors, README.md, "Format".

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace unicorn::formats {

/// What a tensor's elements are. `other` is a type without a name of its own here (8-bit floats
/// and such): its bytes are offered, but not decoded.
enum class SafetensorsType {
    f64,
    f32,
    f16,
    bf16,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    boolean,
    other
};

struct SafetensorsTensor {
    std::string name;
    SafetensorsType type = SafetensorsType::f32;
    std::string type_name;             // as the file writes it: "BF16"
    std::vector<std::uint64_t> shape;  // slowest axis first; a scalar has none
    std::span<const std::byte> bytes;  // inside the mapped file, of any alignment
    std::size_t file = 0;              // index into files()

    std::uint64_t n_elements() const;
};

/// A checkpoint: "model.safetensors", or the shards that "model.safetensors.index.json" names.
/// Views stay valid as long as the Safetensors lives (moves included).
class Safetensors {
public:
    /// `path` is a .safetensors file, a .index.json file or a folder that holds either.
    /// Errors: not_found, io; invalid_file with the file, the tensor and the reason.
    static Result<Safetensors> open(const std::string& path);

    std::span<const SafetensorsTensor> tensors() const { return tensors_; }
    std::span<const MappedFile> files() const { return files_; }
    /// The path of the file that holds `tensor`.
    const std::string& path_of(const SafetensorsTensor& tensor) const {
        return files_[tensor.file].path();
    }
    const SafetensorsTensor* find(std::string_view name) const;

    /// The tensor called `name` with its elements converted. Errors: not_found; unsupported when
    /// they are of another kind (floats: f64, f32, f16, bf16; ints: the integers and boolean).
    Result<std::vector<float>> read_floats(std::string_view name) const;
    Result<std::vector<std::int64_t>> read_ints(std::string_view name) const;

private:
    Status add_file(const std::string& path);
    Status open_shards(const std::string& index_path);

    std::vector<MappedFile> files_;
    std::vector<SafetensorsTensor> tensors_;
    std::unordered_map<std::string, std::size_t> names_;
};

/// Whether decode_floats() takes elements of `type`.
bool is_float(SafetensorsType type);

/// Elements first, first + 1, ... of `tensor` as f32 (f64 rounded), as many as `out` holds.
/// Requires is_float(tensor.type) and first + out.size() <= tensor.n_elements().
void decode_floats(const SafetensorsTensor& tensor, std::uint64_t first, std::span<float> out);

}  // namespace unicorn::formats
