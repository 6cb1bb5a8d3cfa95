// Any bytes as a .safetensors file, or as model.safetensors.index.json beside a valid shard (when
// the first byte is 'i'): refused with one line, or every tensor lies inside its file.

#include "formats/safetensors.h"
#include "formats/testing.h"
#include "memory_file.h"

namespace {

using namespace unicorn;

/// A folder with "s.safetensors" in it, for the life of the process.
const formats::TempFolder& folder_with_shard() {
    static const formats::TempFolder folder;
    [[maybe_unused]] static const std::string shard = [] {
        formats::SafetensorsBuilder builder;
        builder.add("a", "F32", {1}, "1234");
        return folder.write("s.safetensors", builder.bytes());
    }();
    return folder;
}

void check_file(const Result<formats::Safetensors>& file, const std::string& path) {
    if (!file) {
        UNICORN_CHECK(file.error().message.find('\n') == std::string::npos);
        UNICORN_CHECK(file.error().message.starts_with(path));
        return;
    }
    for (const auto& tensor : file->tensors()) {
        const auto bytes = file->files()[tensor.file].bytes();
        UNICORN_CHECK(tensor.bytes.data() >= bytes.data() &&
                      tensor.bytes.data() + tensor.bytes.size() <= bytes.data() + bytes.size());
        UNICORN_CHECK(file->find(tensor.name) == &tensor);
        if (const auto floats = file->read_floats(tensor.name))
            UNICORN_CHECK(floats->size() == tensor.n_elements());
        if (const auto ints = file->read_ints(tensor.name))
            UNICORN_CHECK(ints->size() == tensor.n_elements());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 0 && data[0] == 'i') {
        const auto& folder = folder_with_shard();
        folder.write("model.safetensors.index.json",
                     {reinterpret_cast<const char*>(data) + 1, size - 1});
        check_file(formats::Safetensors::open(folder.path()), folder.path());
    } else {
        const fuzz::MemoryFile file({data, size});
        check_file(formats::Safetensors::open(file.path()), file.path());
    }
    return 0;
}
