#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "formats/json_walk.h"
#include "formats/utf8.h"
#include "tensor/half.h"

namespace unicorn::formats {
namespace {

// What a hostile file may cost us. Gemma 3 27B has 1,247 tensors with 12 shards.
constexpr std::uint64_t kMaxHeaderBytes = 16u << 20;  // the format itself allows 100 MB
constexpr std::size_t kMaxIndexBytes = 16u << 20;
constexpr std::size_t kMaxTensors = 65536;
constexpr std::size_t kMaxShards = 4096;
constexpr std::size_t kMaxDims = 8;

struct TypeEntry {
    std::string_view name;
    SafetensorsType type;
    std::uint64_t bytes;
};
constexpr TypeEntry kTypes[] = {
    {"F64", SafetensorsType::f64, 8},     {"F32", SafetensorsType::f32, 4},
    {"F16", SafetensorsType::f16, 2},     {"BF16", SafetensorsType::bf16, 2},
    {"I64", SafetensorsType::i64, 8},     {"I32", SafetensorsType::i32, 4},
    {"I16", SafetensorsType::i16, 2},     {"I8", SafetensorsType::i8, 1},
    {"U64", SafetensorsType::u64, 8},     {"U32", SafetensorsType::u32, 4},
    {"U16", SafetensorsType::u16, 2},     {"U8", SafetensorsType::u8, 1},
    {"BOOL", SafetensorsType::boolean, 1}};

const TypeEntry* find_type(SafetensorsType type) {
    const auto* it = std::ranges::find(kTypes, type, &TypeEntry::type);
    return it == std::end(kTypes) ? nullptr : it;
}

template <typename T>
T load(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

/// The header's JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
/// "__metadata__": {"key": "text", ...}}.
class HeaderReader {
public:
    struct Entry {
        SafetensorsTensor tensor;
        std::vector<std::uint64_t> offsets;
        bool has_shape = false;
    };

    explicit HeaderReader(const std::string& path) : path_(path) {}

    std::vector<Entry> entries;

    Status operator()(const JsonPath& path, const JsonValue& value) {
        if (path.size() == 0) {
            if (std::holds_alternative<JsonObject>(value)) return {};
            return bad("the header is {}, expected an object", json_kind(value));
        }
        if (path.is(0, "__metadata__")) {
            const bool fits = path.size() == 1
                                  ? std::holds_alternative<JsonObject>(value)
                                  : path.size() == 2 && std::holds_alternative<std::string>(value);
            return fits ? Status() : bad("__metadata__ is not an object of strings");
        }
        const std::string& name = path[0].key;
        if (path.size() == 1) {
            if (!std::holds_alternative<JsonObject>(value)) {
                return bad("tensor {} is {}, expected an object", shown(name), json_kind(value));
            }
            if (entries.size() == kMaxTensors) return bad("more than {} tensors", kMaxTensors);
            entries.emplace_back();
            entries.back().tensor.name = name;
            return {};
        }
        Entry& entry = entries.back();
        if (path.is(1, "dtype")) {
            const auto* text = std::get_if<std::string>(&value);
            if (text == nullptr || path.size() != 2)
                return bad("tensor {}: dtype is {}, expected a string", shown(name),
                           json_kind(value));
            if (!entry.tensor.type_name.empty())
                return bad("tensor {} has two of dtype", shown(name));
            if (text->empty() || text->size() > 32)
                return bad("tensor {}: dtype is {}", shown(name), shown(*text));
            entry.tensor.type_name = *text;
            const auto* known = std::ranges::find(kTypes, *text, &TypeEntry::name);
            entry.tensor.type = known == std::end(kTypes) ? SafetensorsType::other : known->type;
            return {};
        }
        if (path.is(1, "shape")) {
            if (path.size() == 2 && entry.has_shape)
                return bad("tensor {} has two of shape", shown(name));
            entry.has_shape = true;
            return add_number(path, value, entry.tensor.shape, kMaxDims);
        }
        if (path.is(1, "data_offsets")) {
            if (path.size() == 2 && !entry.offsets.empty())
                return bad("tensor {} has two of data_offsets", shown(name));
            return add_number(path, value, entry.offsets, 2);
        }
        return bad("tensor {} has the unknown member {}", shown(name), shown(path[1].key));
    }

private:
    template <typename... Args>
    tl::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) const {
        return fail(ErrorCode::invalid_file, "{}: {}", path_,
                    fmt::format(format, std::forward<Args>(args)...));
    }

    Status add_number(const JsonPath& path, const JsonValue& value,
                      std::vector<std::uint64_t>& list, std::size_t max_size) const {
        if (path.size() == 2) {
            if (std::holds_alternative<JsonArray>(value)) return {};
            return bad("tensor {}: {} is {}, expected an array", shown(path[0].key), path[1].key,
                       json_kind(value));
        }
        const auto* number = std::get_if<std::uint64_t>(&value);
        if (path.size() != 3 || number == nullptr) {
            return bad("tensor {}: {} holds {}, expected integers from 0 to 2^64-1",
                       shown(path[0].key), path[1].key, json_kind(value));
        }
        if (list.size() == max_size) {
            return bad("tensor {}: {} has more than {} elements", shown(path[0].key), path[1].key,
                       max_size);
        }
        list.push_back(*number);
        return {};
    }

    const std::string& path_;
};

/// Bytes of all elements, or nothing when the product overflows.
std::optional<std::uint64_t> byte_size(const std::vector<std::uint64_t>& shape,
                                       std::uint64_t element_bytes) {
    std::uint64_t size = element_bytes;
    for (const std::uint64_t dim : shape) {
        if (__builtin_mul_overflow(size, dim, &size)) return {};
    }
    return size;
}

/// Checks `entry` against its own shape and the `room` bytes of data.
Status check_entry(const std::string& path, const HeaderReader::Entry& entry, std::uint64_t room) {
    const SafetensorsTensor& tensor = entry.tensor;
    if (tensor.type_name.empty() || !entry.has_shape || entry.offsets.size() != 2) {
        return fail(ErrorCode::invalid_file, "{}: tensor {} lacks {}", path, shown(tensor.name),
                    tensor.type_name.empty() ? "dtype"
                    : !entry.has_shape       ? "shape"
                                             : "data_offsets (two integers)");
    }
    const std::uint64_t begin = entry.offsets[0];
    const std::uint64_t end = entry.offsets[1];
    if (begin > end || end > room) {
        return fail(ErrorCode::invalid_file,
                    "{}: tensor {} has data_offsets [{}, {}], but there are {} bytes of data", path,
                    shown(tensor.name), begin, end, room);
    }
    const TypeEntry* type = find_type(tensor.type);
    if (type == nullptr) return {};
    const auto size = byte_size(tensor.shape, type->bytes);
    if (!size) {
        return fail(ErrorCode::invalid_file, "{}: tensor {} has shape [{}], whose size overflows",
                    path, shown(tensor.name), fmt::join(tensor.shape, ", "));
    }
    if (*size != end - begin) {
        return fail(ErrorCode::invalid_file,
                    "{}: tensor {} of shape [{}] and dtype {} takes {} bytes, but data_offsets "
                    "[{}, {}] hold {}",
                    path, shown(tensor.name), fmt::join(tensor.shape, ", "), tensor.type_name,
                    *size, begin, end, end - begin);
    }
    return {};
}

/// The tensors must fill the data from end to end, as the format asks: no hole, no overlap.
Status check_layout(const std::string& path, std::span<const HeaderReader::Entry> entries,
                    std::uint64_t room) {
    std::vector<const HeaderReader::Entry*> order;
    order.reserve(entries.size());
    for (const auto& entry : entries) order.push_back(&entry);
    std::ranges::sort(order, {}, [](const HeaderReader::Entry* e) {
        return std::pair(e->offsets[0], e->offsets[1]);
    });
    std::uint64_t end = 0;
    for (const HeaderReader::Entry* entry : order) {
        if (entry->offsets[0] != end) {
            return fail(ErrorCode::invalid_file,
                        "{}: tensor {} starts at byte {} of the data, but the one before it ends "
                        "at {} ({})",
                        path, shown(entry->tensor.name), entry->offsets[0], end,
                        entry->offsets[0] < end ? "they overlap" : "a hole");
        }
        end = entry->offsets[1];
    }
    if (end != room) {
        return fail(ErrorCode::invalid_file,
                    "{}: the tensors end at byte {} of the data, but there are {} bytes", path, end,
                    room);
    }
    return {};
}

/// The shard file names in weight_map, and which tensor each should hold.
Result<std::vector<std::pair<std::string, std::string>>> read_weight_map(
    const std::string& index_path) {
    auto file = MappedFile::open(index_path);
    if (!file) return forward(file);
    if (file->bytes().size() > kMaxIndexBytes) {
        return fail(ErrorCode::invalid_file, "{}: {} bytes, expected at most {}", index_path,
                    file->bytes().size(), kMaxIndexBytes);
    }
    const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()),
                                file->bytes().size());
    std::vector<std::pair<std::string, std::string>> map;
    bool found = false;
    auto status =
        walk_json(index_path, text, [&](const JsonPath& path, const JsonValue& value) -> Status {
            if (path.size() == 0 && !std::holds_alternative<JsonObject>(value)) {
                return fail(ErrorCode::invalid_file, "{}: the file is {}, expected an object",
                            index_path, json_kind(value));
            }
            if (!path.is(0, "weight_map")) return {};
            if (path.size() == 1) {
                if (!std::holds_alternative<JsonObject>(value) || found) {
                    return fail(ErrorCode::invalid_file,
                                "{}: weight_map is {}, expected one object", index_path,
                                found ? "there twice" : json_kind(value));
                }
                found = true;
                return {};
            }
            const auto* shard = std::get_if<std::string>(&value);
            const std::string& tensor = path[1].key;
            if (shard == nullptr) {
                return fail(ErrorCode::invalid_file,
                            "{}: weight_map: tensor {} is in {}, expected a file name", index_path,
                            shown(tensor), json_kind(value));
            }
            if (shard->empty() || *shard == "." || *shard == ".." ||
                shard->find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
                return fail(ErrorCode::invalid_file,
                            "{}: weight_map: tensor {} is in {}, expected the name of a file in "
                            "the same folder",
                            index_path, shown(tensor), shown(*shard));
            }
            if (map.size() == kMaxTensors) {
                return fail(ErrorCode::invalid_file, "{}: weight_map has more than {} tensors",
                            index_path, kMaxTensors);
            }
            map.emplace_back(tensor, *shard);
            return {};
        });
    if (!status) return forward(status);
    if (map.empty())
        return fail(ErrorCode::invalid_file, "{}: weight_map is missing or empty", index_path);
    return map;
}

}  // namespace

std::uint64_t SafetensorsTensor::n_elements() const {
    std::uint64_t n = 1;
    for (const std::uint64_t dim : shape) n *= dim;
    return n;
}

Status Safetensors::add_file(const std::string& path) {
    auto file = MappedFile::open(path);
    if (!file) return forward(file);
    const auto bytes = file->bytes();
    if (bytes.size() < 8) {
        return fail(ErrorCode::invalid_file, "{}: {} bytes, too short for a safetensors header",
                    path, bytes.size());
    }
    const auto header_bytes = load<std::uint64_t>(bytes.data());
    if (header_bytes > kMaxHeaderBytes) {
        return fail(ErrorCode::invalid_file,
                    "{}: byte 0: a header of {} bytes, expected at most {}", path, header_bytes,
                    kMaxHeaderBytes);
    }
    if (header_bytes > bytes.size() - 8) {
        return fail(ErrorCode::invalid_file,
                    "{}: byte 0: a header of {} bytes, but {} remain in the file", path,
                    header_bytes, bytes.size() - 8);
    }
    const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
    const auto data = bytes.subspan(8 + header_bytes);
    HeaderReader reader(path);
    if (auto status = walk_json(path, header, std::ref(reader)); !status) return status;
    for (const auto& entry : reader.entries) {
        if (auto status = check_entry(path, entry, data.size()); !status) return status;
        if (!names_.emplace(entry.tensor.name, names_.size()).second) {
            return fail(ErrorCode::invalid_file, "{}: duplicate tensor {}", path,
                        shown(entry.tensor.name));
        }
    }
    if (names_.size() > kMaxTensors) {
        return fail(ErrorCode::invalid_file, "{}: {} tensors up to here, expected at most {}", path,
                    names_.size(), kMaxTensors);
    }
    if (auto status = check_layout(path, reader.entries, data.size()); !status) return status;
    for (auto& entry : reader.entries) {
        entry.tensor.bytes = data.subspan(entry.offsets[0], entry.offsets[1] - entry.offsets[0]);
        entry.tensor.file = files_.size();
        tensors_.push_back(std::move(entry.tensor));
    }
    files_.push_back(std::move(*file));
    return {};
}

Status Safetensors::open_shards(const std::string& index_path) {
    auto map = read_weight_map(index_path);
    if (!map) return forward(map);
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : *map) shards.insert(shard);
    if (shards.size() > kMaxShards) {
        return fail(ErrorCode::invalid_file, "{}: weight_map names {} files, expected at most {}",
                    index_path, shards.size(), kMaxShards);
    }
    const auto folder = std::filesystem::path(index_path).parent_path();
    for (const std::string& shard : shards) {
        if (auto status = add_file((folder / shard).string()); !status) return status;
    }
    std::set<std::string_view> seen;
    for (const auto& [name, shard] : *map) {
        const SafetensorsTensor* tensor = find(name);
        if (tensor == nullptr || std::filesystem::path(path_of(*tensor)).filename() != shard) {
            return fail(ErrorCode::invalid_file, "{}: weight_map: tensor {} is not in {}",
                        index_path, shown(name), shown(shard));
        }
        if (!seen.insert(name).second) {
            return fail(ErrorCode::invalid_file, "{}: weight_map: duplicate tensor {}", index_path,
                        shown(name));
        }
    }
    return {};
}

Result<Safetensors> Safetensors::open(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code ignored;  // whatever cannot be looked at is reported by the open below
    fs::path file = path;
    if (fs::is_directory(file, ignored)) {
        file = fs::path(path) / "model.safetensors.index.json";
        if (!fs::exists(file, ignored)) file = fs::path(path) / "model.safetensors";
        if (!fs::exists(file, ignored)) {
            return fail(ErrorCode::not_found,
                        "{}: holds neither model.safetensors nor model.safetensors.index.json",
                        path);
        }
    }
    Safetensors result;
    auto status = file.string().ends_with(".index.json") ? result.open_shards(file.string())
                                                         : result.add_file(file.string());
    if (!status) return forward(status);
    return result;
}

const SafetensorsTensor* Safetensors::find(std::string_view name) const {
    const auto it = names_.find(std::string(name));
    return it == names_.end() ? nullptr : &tensors_[it->second];
}

bool is_float(SafetensorsType type) {
    return type == SafetensorsType::f64 || type == SafetensorsType::f32 ||
           type == SafetensorsType::f16 || type == SafetensorsType::bf16;
}

void decode_floats(const SafetensorsTensor& tensor, std::uint64_t first, std::span<float> out) {
    UNICORN_CHECK(is_float(tensor.type));
    const std::uint64_t size = find_type(tensor.type)->bytes;
    UNICORN_CHECK(first + out.size() <= tensor.bytes.size() / size);
    const std::byte* at = tensor.bytes.data() + first * size;
    switch (tensor.type) {
        case SafetensorsType::f32:
            if (!out.empty()) std::memcpy(out.data(), at, out.size_bytes());
            break;
        case SafetensorsType::f16:
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] = tensor::f16_to_f32(load<std::uint16_t>(at + 2 * i));
            break;
        case SafetensorsType::bf16:
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] = tensor::bf16_to_f32(load<std::uint16_t>(at + 2 * i));
            break;
        default:
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] = static_cast<float>(load<double>(at + 8 * i));
    }
}

Result<std::vector<float>> Safetensors::read_floats(std::string_view name) const {
    const SafetensorsTensor* tensor = find(name);
    if (tensor == nullptr)
        return fail(ErrorCode::not_found, "{}: no tensor {}", files_[0].path(), shown(name));
    if (!is_float(tensor->type)) {
        return fail(ErrorCode::unsupported, "{}: tensor {} has dtype {}, expected a float",
                    path_of(*tensor), shown(name), tensor->type_name);
    }
    std::vector<float> values(tensor->n_elements());
    decode_floats(*tensor, 0, values);
    return values;
}

Result<std::vector<std::int64_t>> Safetensors::read_ints(std::string_view name) const {
    const SafetensorsTensor* tensor = find(name);
    if (tensor == nullptr)
        return fail(ErrorCode::not_found, "{}: no tensor {}", files_[0].path(), shown(name));
    const auto convert = [&]<typename T>(T) {
        std::vector<std::int64_t> values(tensor->n_elements());
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = static_cast<std::int64_t>(load<T>(tensor->bytes.data() + i * sizeof(T)));
        }
        return values;
    };
    switch (tensor->type) {
        case SafetensorsType::i64: return convert(std::int64_t{});
        case SafetensorsType::i32: return convert(std::int32_t{});
        case SafetensorsType::i16: return convert(std::int16_t{});
        case SafetensorsType::i8: return convert(std::int8_t{});
        case SafetensorsType::u64: return convert(std::uint64_t{});
        case SafetensorsType::u32: return convert(std::uint32_t{});
        case SafetensorsType::u16: return convert(std::uint16_t{});
        case SafetensorsType::u8:
        case SafetensorsType::boolean: return convert(std::uint8_t{});
        default:
            return fail(ErrorCode::unsupported, "{}: tensor {} has dtype {}, expected integers",
                        path_of(*tensor), shown(name), tensor->type_name);
    }
}

}  // namespace unicorn::formats
