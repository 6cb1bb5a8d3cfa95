// Any bytes as one of a folder's small files, by the first byte: 'm' tokenizer.model, 'j'
// tokenizer.json, 't' tokenizer_config.json, 'c' config.json.

#include "formats/hf_config.h"
#include "formats/testing.h"
#include "formats/tokenizer_files.h"

namespace {

using namespace unicorn;

void check_error(const Error& error) {
    UNICORN_CHECK(error.message.find('\n') == std::string::npos);
}

void check_vocabulary(const Result<formats::Vocabulary>& vocabulary) {
    if (!vocabulary) return check_error(vocabulary.error());
    const auto in_range = [&](std::int32_t id) {
        return id >= 0 && static_cast<std::size_t>(id) < vocabulary->pieces.size();
    };
    for (const auto& id : {vocabulary->bos, vocabulary->eos, vocabulary->unk, vocabulary->pad})
        UNICORN_CHECK(!id || in_range(*id));
    for (const std::int32_t id : vocabulary->stop_ids) UNICORN_CHECK(in_range(id));
}

/// A folder with a valid tokenizer.model in it, for the life of the process.
const formats::TempFolder& folder_with_vocabulary() {
    static const formats::TempFolder folder;
    [[maybe_unused]] static const std::string model =
        folder.write("tokenizer.model", formats::sentencepiece_bytes(formats::tiny_vocabulary()));
    return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0]) {
        case 'm':
            check_vocabulary(formats::parse_sentencepiece_model("tokenizer.model",
                                                                std::as_bytes(std::span(text))));
            break;
        case 'j': check_vocabulary(formats::parse_tokenizer_json("tokenizer.json", text)); break;
        case 't': {
            const auto& folder = folder_with_vocabulary();
            folder.write("tokenizer_config.json", text);
            check_vocabulary(formats::read_hf_vocabulary(folder.path()));
            break;
        }
        case 'c': {
            const auto config = formats::parse_hf_config("config.json", text);
            if (!config) check_error(config.error());
            if (config) UNICORN_CHECK(config->is_global.size() == config->num_hidden_layers);
            break;
        }
        default: break;
    }
    return 0;
}
