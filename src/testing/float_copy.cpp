#include "testing/float_copy.h"

#include <memory>
#include <variant>
#include <vector>

#include "base/check.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/tensor_sums.h"
#include "kernels/dequantize.h"

namespace unicorn::testing {
namespace {

using formats::GgufType;

void copy_array(const formats::Gguf& gguf, std::string_view key, GgufType element,
                formats::GgufWriter& to) {
    if (element == GgufType::string) {
        to.set_strings(key, *gguf.get_strings(key));
    } else if (element == GgufType::float32) {
        to.set_floats(key, *gguf.get_floats(key));
    } else if (element == GgufType::int32) {
        const auto values = *gguf.get_ints(key);
        to.set_ints(key, std::vector<std::int32_t>(values.begin(), values.end()));
    } else {
        UNICORN_CHECK(key == formats::kTensorSumsKey);  // the writer makes its own
    }
}

void copy_entry(const formats::Gguf& gguf, const formats::GgufEntry& entry,
                formats::GgufWriter& to) {
    const std::string_view key = entry.key;
    switch (entry.type) {
        case GgufType::uint32:
            to.set_uint32(key, static_cast<std::uint32_t>(*gguf.get_uint(key)));
            return;
        case GgufType::int32:
            to.set_int32(key, static_cast<std::int32_t>(std::get<std::int64_t>(entry.value)));
            return;
        case GgufType::float32:
            to.set_float32(key, static_cast<float>(*gguf.get_float(key)));
            return;
        case GgufType::boolean: to.set_bool(key, *gguf.get_bool(key)); return;
        case GgufType::string: to.set_string(key, *gguf.get_string(key)); return;
        case GgufType::array:
            copy_array(gguf, key, std::get<formats::GgufArray>(entry.value).element, to);
            return;
        default: UNICORN_CHECK(key.empty());  // no model of ours has one
    }
}

}  // namespace

void write_float_copy(const std::string& from, const std::string& to) {
    const auto gguf = formats::Gguf::open(from);
    UNICORN_CHECK(gguf);
    formats::GgufWriter writer;
    for (const auto& entry : gguf->metadata()) copy_entry(*gguf, entry, writer);
    for (const auto& tensor : gguf->tensors())
        writer.add_tensor(tensor.name, tensor::DType::f32, tensor.dims);
    UNICORN_CHECK(writer.begin(to));
    for (const auto& tensor : gguf->tensors()) {
        const tensor::MatrixView matrix = tensor.matrix();
        const std::size_t row_bytes = tensor::row_bytes(tensor.type, matrix.cols);
        std::vector<float> row(matrix.cols);
        for (std::size_t r = 0; r < matrix.rows; ++r) {
            kernels::dequantize_row(tensor.type, tensor.bytes.data() + r * row_bytes, row);
            UNICORN_CHECK(writer.write(std::as_bytes(std::span(row))));
        }
    }
    UNICORN_CHECK(writer.finish());
}

}  // namespace unicorn::testing
