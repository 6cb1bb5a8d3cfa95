#include "formats/gguf_writer.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "formats/gguf.h"
#include "formats/tensor_sums.h"

namespace unicorn::formats {
namespace {

constexpr std::uint64_t kAlignment = 32;  // the default: no general.alignment key is written
constexpr std::array<std::byte, kAlignment> kZeros{};

template <typename T>
void append(std::string& out, T value) {
    static_assert(std::is_arithmetic_v<T>);
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    out.append(bytes, sizeof value);
}

void append_string(std::string& out, std::string_view text) {
    append(out, std::uint64_t{text.size()});
    out += text;
}

void append_type(std::string& out, GgufType type) { append(out, static_cast<std::uint32_t>(type)); }

void append_key(std::string& out, std::string_view key, GgufType type) {
    append_string(out, key);
    append_type(out, type);
}

void append_array_key(std::string& out, std::string_view key, GgufType element, std::size_t count) {
    append_key(out, key, GgufType::array);
    append_type(out, element);
    append(out, std::uint64_t{count});
}

std::uint64_t padding(std::uint64_t at) { return (kAlignment - at % kAlignment) % kAlignment; }

}  // namespace

struct GgufWriter::Hash {
    Hash() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
    ~Hash() { XXH3_freeState(state); }
    Hash(const Hash&) = delete;
    Hash& operator=(const Hash&) = delete;
    XXH3_state_t* state;
};

GgufWriter::GgufWriter() : hash_(std::make_unique<Hash>()) {}
GgufWriter::GgufWriter(GgufWriter&&) noexcept = default;
GgufWriter& GgufWriter::operator=(GgufWriter&&) noexcept = default;
GgufWriter::~GgufWriter() = default;

void GgufWriter::set_uint32(std::string_view key, std::uint32_t value) {
    append_key(metadata_, key, GgufType::uint32);
    append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_int32(std::string_view key, std::int32_t value) {
    append_key(metadata_, key, GgufType::int32);
    append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_uint64(std::string_view key, std::uint64_t value) {
    append_key(metadata_, key, GgufType::uint64);
    append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_float32(std::string_view key, float value) {
    append_key(metadata_, key, GgufType::float32);
    append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_bool(std::string_view key, bool value) {
    append_key(metadata_, key, GgufType::boolean);
    append(metadata_, static_cast<std::uint8_t>(value));
    ++n_metadata_;
}

void GgufWriter::set_string(std::string_view key, std::string_view value) {
    append_key(metadata_, key, GgufType::string);
    append_string(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_strings(std::string_view key, std::span<const std::string_view> values) {
    append_array_key(metadata_, key, GgufType::string, values.size());
    for (const std::string_view value : values) append_string(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_floats(std::string_view key, std::span<const float> values) {
    append_array_key(metadata_, key, GgufType::float32, values.size());
    for (const float value : values) append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_ints(std::string_view key, std::span<const std::int32_t> values) {
    append_array_key(metadata_, key, GgufType::int32, values.size());
    for (const std::int32_t value : values) append(metadata_, value);
    ++n_metadata_;
}

void GgufWriter::set_bools(std::string_view key, std::span<const bool> values) {
    append_array_key(metadata_, key, GgufType::boolean, values.size());
    for (const bool value : values) append(metadata_, static_cast<std::uint8_t>(value));
    ++n_metadata_;
}

void GgufWriter::add_tensor(std::string_view name, tensor::DType type,
                            std::span<const std::uint64_t> dims) {
    UNICORN_CHECK(!file_ && !dims.empty() && dims.size() <= 4);
    TensorEntry entry{std::string(name), type, {dims.begin(), dims.end()}};
    const std::uint64_t end = tensors_.empty() ? 0 : tensors_.back().offset + tensors_.back().bytes;
    entry.offset = end + padding(end);
    entry.bytes = tensor::row_bytes(type, dims[0]);
    for (const std::uint64_t dim : dims.subspan(1)) entry.bytes *= dim;
    UNICORN_CHECK(entry.bytes > 0);
    tensors_.push_back(std::move(entry));
}

std::uint64_t GgufWriter::tensor_bytes() const {
    std::uint64_t bytes = 0;
    for (const TensorEntry& tensor : tensors_) bytes += tensor.bytes;
    return bytes;
}

Status GgufWriter::begin(const std::string& path) {
    UNICORN_CHECK(!file_);
    auto file = FileWriter::create(path);
    if (!file) return forward(file);
    std::string table = "GGUF";
    append(table, std::uint32_t{3});
    append(table, std::uint64_t{tensors_.size()});
    append(table, n_metadata_ + 1);
    table += metadata_;
    append_array_key(table, kTensorSumsKey, GgufType::uint64, tensors_.size());
    sums_offset_ = table.size();
    table.append(tensors_.size() * sizeof(std::uint64_t), '\0');  // filled in by finish()
    for (const TensorEntry& tensor : tensors_) {
        append_string(table, tensor.name);
        append(table, static_cast<std::uint32_t>(tensor.dims.size()));
        for (const std::uint64_t dim : tensor.dims) append(table, dim);
        append(table, static_cast<std::uint32_t>(tensor.type));
        append(table, tensor.offset);
    }
    table.append(padding(table.size()), '\0');
    if (auto status = file->reserve(table.size() + tensor_bytes()); !status) return status;
    file_.emplace(std::move(*file));
    return file_->write(table);
}

Status GgufWriter::write(std::span<const std::byte> bytes) {
    UNICORN_CHECK(file_.has_value());
    while (!bytes.empty()) {
        UNICORN_CHECK(current_ < tensors_.size());
        const std::uint64_t wanted = tensors_[current_].bytes - current_bytes_;
        const auto part = bytes.first(std::min<std::uint64_t>(wanted, bytes.size()));
        if (auto status = file_->write(part); !status) return status;
        XXH3_64bits_update(hash_->state, part.data(), part.size());
        bytes = bytes.subspan(part.size());
        current_bytes_ += part.size();
        if (part.size() < wanted) continue;
        const auto zeros = std::span(kZeros).first(padding(tensors_[current_].bytes));
        if (auto status = file_->write(zeros); !status) return status;
        sums_.push_back(XXH3_64bits_digest(hash_->state));
        XXH3_64bits_reset(hash_->state);
        ++current_;
        current_bytes_ = 0;
    }
    return {};
}

Status GgufWriter::finish() {
    UNICORN_CHECK(file_.has_value() && current_ == tensors_.size() && current_bytes_ == 0);
    if (auto status = file_->overwrite(sums_offset_, std::as_bytes(std::span(sums_))); !status)
        return status;
    return file_->commit();
}

}  // namespace unicorn::formats
