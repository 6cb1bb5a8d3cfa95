// unicorn inspect: what is in a GGUF file.

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "formats/gguf.h"
#include "formats/tensor_sums.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;
using formats::GgufArray;
using formats::GgufType;

constexpr std::size_t kShownElements = 8;     // of an array, unless --full
constexpr std::size_t kShownCharacters = 60;  // of a text in the table

const char* type_name(GgufType type) {
    constexpr const char* kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                      "int32",  "float32", "bool",   "string", "array",
                                      "uint64", "int64",   "float64"};
    return kNames[static_cast<std::size_t>(type)];
}

template <typename T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
    T value{};
    if (offset + sizeof value <= bytes.size())
        std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

// The double that JSON prints as `value` itself: 0.8, where widening gives 0.800000011920929.
double shortest(float value) {
    const std::string text = fmt::format("{}", value);
    double wide = value;  // stays what it is for an infinity or a NaN
    std::from_chars(text.data(), text.data() + text.size(), wide);
    return wide;
}

// The first elements of an array. The reader has checked that they lie inside the file.
Json array_values(const GgufArray& array, std::size_t limit) {
    Json values = Json::array();
    std::size_t offset = 0;
    const auto take = [&]<typename T>(T) {
        const T value = read_at<T>(array.bytes, offset);
        offset += sizeof value;
        return value;
    };
    for (std::uint64_t i = 0; i < array.count && values.size() < limit; ++i) {
        switch (array.element) {
            case GgufType::uint8: values.push_back(take(std::uint8_t{})); break;
            case GgufType::int8: values.push_back(take(std::int8_t{})); break;
            case GgufType::uint16: values.push_back(take(std::uint16_t{})); break;
            case GgufType::int16: values.push_back(take(std::int16_t{})); break;
            case GgufType::uint32: values.push_back(take(std::uint32_t{})); break;
            case GgufType::int32: values.push_back(take(std::int32_t{})); break;
            case GgufType::float32: values.push_back(shortest(take(float{}))); break;
            case GgufType::boolean: values.push_back(take(std::uint8_t{}) != 0); break;
            case GgufType::uint64: values.push_back(take(std::uint64_t{})); break;
            case GgufType::int64: values.push_back(take(std::int64_t{})); break;
            case GgufType::float64: values.push_back(take(double{})); break;
            case GgufType::string: {
                const auto length = take(std::uint64_t{});
                if (length > array.bytes.size() - std::min(offset, array.bytes.size()))
                    return values;
                values.push_back(std::string(
                    reinterpret_cast<const char*>(array.bytes.data()) + offset, length));
                offset += length;
                break;
            }
            case GgufType::array: return values;  // nested arrays are not offered by the reader
        }
    }
    return values;
}

Json json_value(const formats::GgufEntry& entry, std::size_t limit) {
    if (const auto* array = std::get_if<GgufArray>(&entry.value)) {
        Json value;
        value["element"] = type_name(array->element);
        value["count"] = array->count;
        value["values"] = array_values(*array, limit);
        return value;
    }
    const bool is_float = entry.type == GgufType::float32;
    return std::visit(
        [is_float](const auto& value) -> Json {
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, std::string_view>)
                return std::string(value);
            else if constexpr (std::is_same_v<T, GgufArray>)
                return nullptr;
            else if constexpr (std::is_same_v<T, double>)
                return is_float ? shortest(static_cast<float>(value)) : value;
            else
                return value;
        },
        entry.value);
}

std::string dump(const Json& json, int indent = -1) {
    return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// One line of at most kShownCharacters bytes, cut between characters.
std::string table_value(const formats::GgufEntry& entry) {
    const auto* array = std::get_if<GgufArray>(&entry.value);
    std::string text =
        dump(array != nullptr ? array_values(*array, kShownElements) : json_value(entry, 0));
    if (array != nullptr && array->count > kShownElements && text.size() > 1)
        text.insert(text.size() - 1, ",...");
    if (text.size() > kShownCharacters) {
        std::size_t cut = kShownCharacters;
        while (cut > 0 && (text[cut] & 0xC0) == 0x80) --cut;
        text = text.substr(0, cut) + "...";
    }
    return text;
}

std::uint64_t parameters(const formats::GgufTensor& tensor) {
    std::uint64_t n = 1;
    for (const std::uint64_t dim : tensor.dims) n *= dim;
    return n;
}

std::uint64_t file_bytes(const formats::Gguf& model) {
    std::uint64_t bytes = 0;
    for (const MappedFile& file : model.files()) bytes += file.bytes().size();
    return bytes;
}

struct TypeShare {
    std::uint64_t tensors = 0, parameters = 0, bytes = 0;
};

class InspectCommand : public Command {
public:
    explicit InspectCommand(CLI::App& parent) {
        app = parent.add_subcommand("inspect",
                                    "Show the metadata and tensors of a GGUF file\n\n"
                                    "Three tables: metadata, tensors with their shapes (fastest "
                                    "axis first) and types, and\n"
                                    "how the bytes divide over the types. Nothing is loaded; a "
                                    "file of any size takes no time.");
        app->add_option("FILE", positional_, "GGUF file; default: the bundled model");
        add_model_option(*app, model_);
        app->add_flag("--json", json_,
                      "Print one JSON object: file, version, metadata, tensors, types");
        app->add_flag("--full", full_,
                      "With --json: arrays of any length whole, such as a vocabulary");
        app->add_flag("--verify", verify_,
                      "First compare the tensors with the sums that unicorn convert and\nsynth "
                      "store in the file; this reads all of it");
        app->footer(
            "Examples:\n"
            "  unicorn inspect gemma-3-1b-it-q4_0.gguf\n"
            "  unicorn inspect --json model.gguf | jq '.types'\n"
            "  unicorn inspect --json --full model.gguf | jq "
            "'.metadata[\"tokenizer.ggml.tokens\"].values[:20]'");
    }

    Result<int> run() override {
        if (auto s = at_most_one({{!positional_.empty(), "FILE"}, {!model_.empty(), "--model"}});
            !s)
            return forward(s);
        auto path = resolve_model(positional_.empty() ? model_ : positional_);
        if (!path) return forward(path);
        auto file = formats::Gguf::open(*path);
        if (!file) return forward(file);
        if (verify_) {
            if (auto status = verify(*file); !status) return forward(status);
        }
        for (const auto& tensor : file->tensors()) {
            TypeShare& share = types_[std::string(tensor::name(tensor.type))];
            share.tensors += 1;
            share.parameters += parameters(tensor);
            share.bytes += tensor.bytes.size();
        }
        if (auto status = write_out(json_ ? as_json(*file) : as_tables(*file)); !status)
            return forward(status);
        return kSuccess;
    }

private:
    static Status verify(const formats::Gguf& file) {
        const InterruptScope interrupt;
        Progress progress("verify", file.tensor_bytes(), ProgressUnit::bytes);
        return formats::verify_tensors(file, available_cpus(), [&](std::uint64_t done) {
            progress.update(done);
            return !InterruptScope::requested();
        });
    }

    std::string as_json(const formats::Gguf& file) const {
        Json out;
        out["file"] = file.path();
        out["version"] = file.version();
        out["metadata"] = Json::object();
        const std::size_t limit = full_ ? static_cast<std::size_t>(-1) : kShownElements;
        for (const auto& entry : file.metadata())
            out["metadata"][std::string(entry.key)] = json_value(entry, limit);
        out["tensors"] = Json::array();
        std::uint64_t total = 0;
        for (const auto& tensor : file.tensors()) {
            total += parameters(tensor);
            Json row;
            row["name"] = std::string(tensor.name);
            row["type"] = std::string(tensor::name(tensor.type));
            row["shape"] = tensor.dims;
            row["bytes"] = tensor.bytes.size();
            out["tensors"].push_back(std::move(row));
        }
        out["types"] = Json::object();
        for (const auto& [name, share] : types_)
            out["types"][name] = {{"tensors", share.tensors},
                                  {"parameters", share.parameters},
                                  {"bytes", share.bytes}};
        out["parameters"] = total;
        out["tensor_bytes"] = file.tensor_bytes();
        out["file_bytes"] = file_bytes(file);
        return dump(out, 2) + "\n";
    }

    std::string as_tables(const formats::Gguf& file) const {
        const bool colour = colour_wanted(1);
        std::vector<std::vector<std::string>> metadata{{"key", "type", "value"}};
        for (const auto& entry : file.metadata()) {
            std::string type = type_name(entry.type);
            if (const auto* array = std::get_if<GgufArray>(&entry.value))
                type = fmt::format("{}[{}]", type_name(array->element), array->count);
            metadata.push_back({std::string(entry.key), type, table_value(entry)});
        }
        std::vector<std::vector<std::string>> tensors{{"tensor", "type", "shape", "size"}};
        std::uint64_t total = 0;
        for (const auto& tensor : file.tensors()) {
            total += parameters(tensor);
            tensors.push_back({std::string(tensor.name), std::string(tensor::name(tensor.type)),
                               fmt::format("{}", fmt::join(tensor.dims, " x ")),
                               human_bytes(static_cast<double>(tensor.bytes.size()))});
        }
        std::vector<std::vector<std::string>> types{
            {"type", "tensors", "parameters", "size", "bits a weight"}};
        for (const auto& [name, share] : types_) {
            const double n = static_cast<double>(std::max<std::uint64_t>(share.parameters, 1));
            types.push_back({name, fmt::format("{}", share.tensors),
                             fmt::format("{}", share.parameters),
                             human_bytes(static_cast<double>(share.bytes)),
                             fmt::format("{:.2f}", static_cast<double>(share.bytes) * 8 / n)});
        }
        using enum Align;
        return fmt::format(
            "{}: GGUF v{}, {} parameters in {} tensors; tensors {}, file {}\n\n{}\n{}\n{}",
            file.path(), file.version(), total, file.tensors().size(),
            human_bytes(static_cast<double>(file.tensor_bytes())),
            human_bytes(static_cast<double>(file_bytes(file))),
            aligned_table(metadata, {left, left, left}, colour),
            aligned_table(tensors, {left, left, left, right}, colour),
            aligned_table(types, {left, right, right, right, right}, colour));
    }

    std::string positional_, model_;
    bool json_ = false, full_ = false, verify_ = false;
    std::map<std::string, TypeShare> types_;
};

}  // namespace

std::unique_ptr<Command> add_inspect(CLI::App& parent) {
    return std::make_unique<InspectCommand>(parent);
}

}  // namespace unicorn::cli
