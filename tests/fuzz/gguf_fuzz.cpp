// Any bytes as a GGUF file: open() and the look-ups either refuse it with one line or give values
// that lie inside the file.

#include "formats/gguf.h"
#include "memory_file.h"

namespace {

using namespace unicorn;

/// A message is one line and names the file.
void check_error(const Error& error, const std::string& path) {
    UNICORN_CHECK(error.message.starts_with(path));
    UNICORN_CHECK(error.message.find('\n') == std::string::npos);
}

void check_tensor(const formats::Gguf& gguf, const formats::GgufTensor& tensor) {
    const auto file = gguf.files()[tensor.file].bytes();
    UNICORN_CHECK(tensor.bytes.data() >= file.data() &&
                  tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size());
    UNICORN_CHECK(tensor.matrix().bytes() == tensor.bytes.size());
    UNICORN_CHECK(gguf.find_tensor(tensor.name) == &tensor);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const fuzz::MemoryFile file({data, size});
    const auto gguf = formats::Gguf::open(file.path());
    if (!gguf) {
        check_error(gguf.error(), file.path());
        return 0;
    }
    std::uint64_t n_bytes = 0;
    for (const auto& tensor : gguf->tensors()) {
        check_tensor(*gguf, tensor);
        n_bytes += tensor.bytes.size();
    }
    UNICORN_CHECK(n_bytes == gguf->tensor_bytes() && n_bytes <= size);
    for (const auto& entry : gguf->metadata()) {
        UNICORN_CHECK(gguf->find(entry.key) == &entry);
        // Every key through every look-up: the wrong ones are errors, never crashes.
        const auto as_strings = gguf->get_strings(entry.key);
        if (as_strings)
            UNICORN_CHECK(as_strings->size() == std::get<formats::GgufArray>(entry.value).count);
        if (const auto value = gguf->get_floats(entry.key); !value)
            check_error(value.error(), file.path());
        if (const auto value = gguf->get_ints(entry.key); !value)
            check_error(value.error(), file.path());
        if (const auto value = gguf->get_uint(entry.key); !value)
            check_error(value.error(), file.path());
        if (const auto value = gguf->get_float(entry.key); !value)
            check_error(value.error(), file.path());
        if (const auto value = gguf->get_string(entry.key); !value)
            check_error(value.error(), file.path());
        if (const auto value = gguf->get_bool(entry.key); !value)
            check_error(value.error(), file.path());
    }
    const auto vocabulary = formats::read_vocabulary(*gguf);
    if (!vocabulary) {
        check_error(vocabulary.error(), file.path());
        return 0;
    }
    for (const std::int32_t id : vocabulary->stop_ids) {
        UNICORN_CHECK(id >= 0 && static_cast<std::size_t>(id) < vocabulary->pieces.size());
    }
    return 0;
}
