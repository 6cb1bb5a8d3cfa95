#pragma once
// Writes GGUF v3, streaming: metadata and the tensor table first, then each tensor's bytes in
// order.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/vocabulary.h"
#include "tensor/dtype.h"

namespace unicorn::formats {

/// Collects metadata and the tensor table, then streams tensor data. Nothing large is held. Sums of
/// the tensors are computed on the way and stored under kTensorSumsKey (formats/tensor_sums.h).
///   GgufWriter writer; writer.set_string("general.architecture", "gemma3"); ...
///   writer.add_tensor("token_embd.weight", DType::q8_0, {D, V}); ...
///   writer.begin(path); for each tensor in order: writer.write(bytes)...; writer.finish();
class GgufWriter {
public:
    GgufWriter();
    GgufWriter(GgufWriter&&) noexcept;
    GgufWriter& operator=(GgufWriter&&) noexcept;
    ~GgufWriter();

    void set_uint32(std::string_view key, std::uint32_t value);
    void set_int32(std::string_view key, std::int32_t value);
    void set_uint64(std::string_view key, std::uint64_t value);
    void set_float32(std::string_view key, float value);
    void set_bool(std::string_view key, bool value);
    void set_string(std::string_view key, std::string_view value);
    void set_strings(std::string_view key, std::span<const std::string_view> values);
    void set_floats(std::string_view key, std::span<const float> values);
    void set_ints(std::string_view key, std::span<const std::int32_t> values);
    void set_bools(std::string_view key, std::span<const bool> values);

    /// `dims`: fastest axis first. The order of calls is the order of the data.
    void add_tensor(std::string_view name, tensor::DType type, std::span<const std::uint64_t> dims);

    /// Bytes of tensor data added so far, padding not counted.
    std::uint64_t tensor_bytes() const;

    /// Writes everything before the data to "<path>.part". Errors: io.
    Status begin(const std::string& path);
    /// The next bytes of tensor data; a tensor may come in pieces. Padding is added between
    /// tensors.
    Status write(std::span<const std::byte> bytes);
    /// Flushes and renames; every tensor must be complete. Errors: io.
    Status finish();

private:
    struct TensorEntry {
        std::string name;
        tensor::DType type;
        std::vector<std::uint64_t> dims;
        std::uint64_t bytes = 0;
        std::uint64_t offset = 0;
    };
    std::string metadata_;
    std::uint64_t n_metadata_ = 0;
    std::vector<TensorEntry> tensors_;
    std::optional<FileWriter> file_;  // from begin() on
    std::size_t current_ = 0;         // tensor being written
    std::uint64_t current_bytes_ = 0;
    struct Hash;
    std::unique_ptr<Hash> hash_;       // of the tensor being written
    std::vector<std::uint64_t> sums_;  // of those written
    std::uint64_t sums_offset_ = 0;    // in the file
};

/// Writes the tokenizer.* keys of `vocabulary`.
void write_vocabulary(GgufWriter& writer, const Vocabulary& vocabulary);

}  // namespace unicorn::formats
