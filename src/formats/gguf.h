#pragma once
// GGUF v2 and v3: a typed, checked view of a mapped file (single or split), and a writer.
// The bytes are untrusted: every size is checked before it is used or multiplied.
// Source: github.com/ggml-org/ggml, docs/gguf.md.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/vocabulary.h"
#include "tensor/dtype.h"

namespace unicorn::formats {

enum class GgufType : std::uint32_t {
    uint8,
    int8,
    uint16,
    int16,
    uint32,
    int32,
    float32,
    boolean,
    string,
    array,
    uint64,
    int64,
    float64,
};

/// An array in the metadata, not copied: `count` elements starting at `bytes` (strings with their
/// lengths in front). Nested arrays are checked but not offered.
struct GgufArray {
    GgufType element = GgufType::uint8;
    std::uint64_t count = 0;
    std::span<const std::byte> bytes;
};

using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

struct GgufEntry {
    std::string_view key;
    GgufType type = GgufType::uint32;
    GgufValue value;  // integers widened; float32 widened to double
};

struct GgufTensor {
    std::string_view name;
    tensor::DType type = tensor::DType::f32;
    std::vector<std::uint64_t> dims;   // fastest axis first, as in the file; 1 to 4 of them
    std::span<const std::byte> bytes;  // inside the mapped file
    std::size_t file = 0;              // index of the split file that holds it

    /// [rows, cols] with cols the fastest axis; a vector is one row.
    tensor::MatrixView matrix() const;
};

/// A GGUF model: one file, or all the files of a split model opened by the name of the first
/// ("...-00001-of-00003.gguf"). Views stay valid as long as the Gguf lives (moves included).
class Gguf {
public:
    /// Errors: not_found, io; invalid_file with the file, the place and the reason;
    /// unsupported for a tensor type that is none of ours.
    static Result<Gguf> open(const std::string& path);

    const std::string& path() const;
    std::uint32_t version() const;
    std::span<const GgufEntry> metadata() const;
    std::span<const GgufTensor> tensors() const;
    std::uint64_t tensor_bytes() const;  // the sum over all tensors
    std::span<const MappedFile> files() const;
    /// Whether the files still are what was opened; metadata and names are copies and stay valid.
    /// Asked before anything is trusted that was made from the tensors' bytes. Errors: io.
    Status unchanged() const;

    const GgufEntry* find(std::string_view key) const;
    const GgufTensor* find_tensor(std::string_view name) const;

    // Typed look-ups. Errors: invalid_file, when the key is missing or of another type (any integer
    // type serves an integer that fits; integers and floats serve a float).
    Result<std::uint64_t> get_uint(std::string_view key) const;
    Result<double> get_float(std::string_view key) const;
    Result<std::string_view> get_string(std::string_view key) const;
    Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
    Result<std::vector<float>> get_floats(std::string_view key) const;
    Result<std::vector<std::int64_t>> get_ints(std::string_view key) const;
    Result<bool> get_bool(std::string_view key) const;

private:
    struct State;
    explicit Gguf(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;

public:
    Gguf(Gguf&&) noexcept;
    Gguf& operator=(Gguf&&) noexcept;
    ~Gguf();
};

/// The tokenizer.* keys as a Vocabulary. Errors: invalid_file; unsupported for a tokenizer model
/// other than "llama" (SentencePiece).
Result<Vocabulary> read_vocabulary(const Gguf& gguf);

}  // namespace unicorn::formats
