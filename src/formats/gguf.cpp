#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "formats/utf8.h"

namespace unicorn::formats {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies");

struct Gguf::State {
    std::string path;
    std::vector<MappedFile> files;
    std::vector<std::vector<std::byte>> headers;  // of each file: what metadata and names point to
    std::uint32_t version = 0;
    std::vector<GgufEntry> metadata;  // of the first file
    std::unordered_map<std::string_view, std::size_t> keys;
    std::vector<GgufTensor> tensors;
    std::unordered_map<std::string_view, std::size_t> names;
    std::uint64_t tensor_bytes = 0;
};

namespace {

// What a hostile file may cost us. Gemma 3's largest has about 40 keys, 808 tensors and 8 MB of
// metadata; these leave room and keep a bad file under 100 MiB of memory.
constexpr std::uint64_t kMaxKeys = 65536;
constexpr std::uint64_t kMaxTensors = 65536;
constexpr std::uint64_t kMaxNameBytes = 65535;  // docs/gguf.md
constexpr std::uint64_t kMaxMetadataBytes = 64u << 20;
constexpr std::uint32_t kMaxDims = 4;  // ggml.h, GGML_MAX_DIMS
constexpr int kMaxArrayDepth = 8;
constexpr std::uint64_t kMaxAlignment = 1u << 20;
constexpr std::uint64_t kDefaultAlignment = 32;  // docs/gguf.md
constexpr std::uint64_t kMaxSplits = 65535;

std::string_view type_name(GgufType type) {
    constexpr std::array<std::string_view, 13> kNames = {
        "uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
        "boolean", "string", "array",  "uint64", "int64",  "float64"};
    return kNames[static_cast<std::size_t>(type)];
}

/// Bytes of a scalar; for a string or an array, the fewest bytes one takes.
std::uint64_t min_bytes(GgufType type) {
    constexpr std::array<std::uint64_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
    return kBytes[static_cast<std::size_t>(type)];
}

bool is_integer(GgufType type) {
    return type <= GgufType::int32 || type == GgufType::uint64 || type == GgufType::int64;
}

template <typename T>
T load(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

/// A scalar of `type`, widened. `at` holds min_bytes(type) bytes; a boolean is 0 or 1.
GgufValue load_scalar(GgufType type, const std::byte* at) {
    switch (type) {
        case GgufType::uint8: return std::uint64_t{load<std::uint8_t>(at)};
        case GgufType::int8: return std::int64_t{load<std::int8_t>(at)};
        case GgufType::uint16: return std::uint64_t{load<std::uint16_t>(at)};
        case GgufType::int16: return std::int64_t{load<std::int16_t>(at)};
        case GgufType::uint32: return std::uint64_t{load<std::uint32_t>(at)};
        case GgufType::int32: return std::int64_t{load<std::int32_t>(at)};
        case GgufType::float32: return static_cast<double>(load<float>(at));
        case GgufType::boolean: return load<std::uint8_t>(at) != 0;
        case GgufType::uint64: return load<std::uint64_t>(at);
        case GgufType::int64: return load<std::int64_t>(at);
        case GgufType::float64: return load<double>(at);
        case GgufType::string:
        case GgufType::array: break;
    }
    UNICORN_CHECK(false && "not a scalar");
    return std::uint64_t{0};
}

/// One file's header as it lies, each number checked against the bytes that are there.
class FileParser {
public:
    /// `header` holds the metadata and the table of tensors: the file itself, or a copy of its
    /// beginning.
    FileParser(const MappedFile& file, std::span<const std::byte> header)
        : path_(file.path()), bytes_(header), file_(file.bytes()) {}

    std::uint32_t version = 0;
    std::vector<GgufEntry> metadata;
    std::vector<GgufTensor> tensors;

    Status parse() {
        if (auto status = parse_header(); !status) return status;
        for (std::uint64_t i = 0; i < n_keys_; ++i) {
            if (auto status = parse_entry(i); !status) return status;
        }
        if (auto status = find_alignment(); !status) return status;
        for (std::uint64_t i = 0; i < n_tensors_; ++i) {
            if (auto status = parse_tensor(i); !status) return status;
        }
        return place_tensors();
    }

    /// Where the table of tensors ends, once parsed.
    std::size_t header_bytes() const { return at_; }

private:
    std::uint64_t remaining() const { return bytes_.size() - at_; }

    template <typename... Args>
    tl::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) const {
        return fail(ErrorCode::invalid_file, "{}: byte {}: {}", path_, at_,
                    fmt::format(format, std::forward<Args>(args)...));
    }

    template <typename T>
    Result<T> read(std::string_view what) {
        if (remaining() < sizeof(T)) {
            return bad("{} needs {} bytes, but the file ends after {} more", what, sizeof(T),
                       remaining());
        }
        const T value = load<T>(bytes_.data() + at_);
        at_ += sizeof(T);
        return value;
    }

    /// A string with its length in front.
    Result<std::string_view> read_string(std::string_view what, std::uint64_t max_bytes) {
        const auto length = read<std::uint64_t>(what);
        if (!length) return tl::unexpected<Error>(length.error());
        if (*length > max_bytes) {
            at_ -= sizeof(std::uint64_t);
            return bad("{} has a length of {} bytes, expected at most {}", what, *length,
                       max_bytes);
        }
        if (*length > remaining()) {
            at_ -= sizeof(std::uint64_t);
            return bad("{} has a length of {} bytes, but {} remain in the file", what, *length,
                       remaining() - sizeof(std::uint64_t));
        }
        const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), *length);
        if (!valid_utf8(text)) return bad("{} is not UTF-8: {}", what, shown(text));
        at_ += *length;
        return text;
    }

    Status parse_header() {
        if (bytes_.size() < 24) {
            return fail(ErrorCode::invalid_file, "{}: {} bytes, too short for a GGUF header of 24",
                        path_, bytes_.size());
        }
        if (std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
            return bad("not a GGUF file: it does not start with 'GGUF'");
        }
        at_ = 4;
        version = *read<std::uint32_t>("version");
        if (version != 2 && version != 3) {
            const bool swapped = version == 0x02000000u || version == 0x03000000u;
            return fail(ErrorCode::unsupported, "{}: byte 4: GGUF version {}, expected 2 or 3{}",
                        path_, version, swapped ? " (the file is big-endian)" : "");
        }
        n_tensors_ = *read<std::uint64_t>("tensor count");
        n_keys_ = *read<std::uint64_t>("key count");
        // A tensor takes at least 8 + 4 + 8 + 4 + 8 bytes, a key 8 + 4 + 1.
        if (n_tensors_ > std::min(kMaxTensors, remaining() / 32)) {
            at_ = 8;
            return bad("{} tensors, but {} bytes can hold at most {}", n_tensors_, bytes_.size(),
                       std::min(kMaxTensors, (bytes_.size() - 24) / 32));
        }
        if (n_keys_ > std::min(kMaxKeys, remaining() / 13)) {
            at_ = 16;
            return bad("{} keys, but {} bytes can hold at most {}", n_keys_, bytes_.size(),
                       std::min(kMaxKeys, (bytes_.size() - 24) / 13));
        }
        metadata.reserve(n_keys_);
        tensors.reserve(n_tensors_);
        return {};
    }

    Result<GgufType> read_type(const std::string& what) {
        auto id = read<std::uint32_t>(what);
        if (!id) return forward(id);
        if (*id > static_cast<std::uint32_t>(GgufType::float64)) {
            at_ -= sizeof(std::uint32_t);
            return bad("{} has value type {}, expected 0 to 12", what, *id);
        }
        return static_cast<GgufType>(*id);
    }

    Status parse_entry(std::uint64_t index) {
        auto key = read_string(fmt::format("key {}", index), kMaxNameBytes);
        if (!key) return forward(key);
        if (key->empty()) return bad("key {} has an empty name", index);
        const std::string what = "key " + shown(*key);
        auto type = read_type(what);
        if (!type) return forward(type);
        GgufEntry entry{*key, *type, {}};
        if (*type == GgufType::string) {
            auto text = read_string(what, kMaxMetadataBytes);
            if (!text) return forward(text);
            entry.value = *text;
        } else if (*type == GgufType::array) {
            auto array = read_array(what, 0);
            if (!array) return forward(array);
            entry.value = *array;
        } else {
            const std::uint64_t size = min_bytes(*type);
            if (remaining() < size) {
                return bad("{} needs {} bytes, but the file ends after {} more", what, size,
                           remaining());
            }
            if (*type == GgufType::boolean && load<std::uint8_t>(bytes_.data() + at_) > 1) {
                return bad("{} is the boolean {}, expected 0 or 1", what,
                           load<std::uint8_t>(bytes_.data() + at_));
            }
            entry.value = load_scalar(*type, bytes_.data() + at_);
            at_ += size;
        }
        if (at_ > kMaxMetadataBytes) {
            return bad("{} ends past {} bytes of metadata", what, kMaxMetadataBytes);
        }
        metadata.push_back(entry);
        return {};
    }

    Result<GgufArray> read_array(const std::string& what, int depth) {
        if (depth == kMaxArrayDepth)
            return bad("{} nests arrays deeper than {}", what, kMaxArrayDepth);
        auto type = read_type(what + " (elements)");
        if (!type) return forward(type);
        auto count = read<std::uint64_t>(what + " (count)");
        if (!count) return forward(count);
        const std::uint64_t room = std::min(remaining(), kMaxMetadataBytes) / min_bytes(*type);
        if (*count > room) {
            at_ -= sizeof(std::uint64_t);
            return bad("{} is an array of {} x {}, but there is room for {} at most", what, *count,
                       type_name(*type), room);
        }
        const std::size_t begin = at_;
        if (*type == GgufType::string) {
            if (auto status = skip_strings(what, *count); !status) return forward(status);
        } else if (*type == GgufType::array) {
            for (std::uint64_t i = 0; i < *count; ++i) {
                if (auto inner = read_array(what, depth + 1); !inner) return inner;
            }
        } else {
            if (*type == GgufType::boolean) {
                for (std::uint64_t i = 0; i < *count; ++i) {
                    const auto value = load<std::uint8_t>(bytes_.data() + at_ + i);
                    if (value > 1)
                        return bad("{}[{}] is the boolean {}, expected 0 or 1", what, i, value);
                }
            }
            at_ += *count * min_bytes(*type);
        }
        return GgufArray{*type, *count, bytes_.subspan(begin, at_ - begin)};
    }

    /// The loop over a vocabulary: no message is built unless it is needed.
    Status skip_strings(const std::string& what, std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            if (remaining() >= 8) {
                const auto length = load<std::uint64_t>(bytes_.data() + at_);
                if (length <= remaining() - 8) {
                    const std::string_view text(
                        reinterpret_cast<const char*>(bytes_.data() + at_ + 8), length);
                    if (valid_utf8(text)) {
                        at_ += 8 + length;
                        continue;
                    }
                }
            }
            auto text = read_string(fmt::format("{}[{}]", what, i), kMaxMetadataBytes);
            return forward(text);
        }
        return {};
    }

    Status find_alignment() {
        for (const GgufEntry& entry : metadata) {
            if (entry.key != "general.alignment") continue;
            if (entry.type != GgufType::uint32) {
                return bad("key 'general.alignment' is {}, expected uint32", type_name(entry.type));
            }
            alignment_ = std::get<std::uint64_t>(entry.value);
            if (alignment_ < 8 || alignment_ > kMaxAlignment || !std::has_single_bit(alignment_)) {
                return bad("key 'general.alignment' is {}, expected a power of two from 8 to {}",
                           alignment_, kMaxAlignment);
            }
        }
        return {};
    }

    Status parse_tensor(std::uint64_t index) {
        auto name = read_string(fmt::format("tensor {}'s name", index), kMaxNameBytes);
        if (!name) return forward(name);
        if (name->empty()) return bad("tensor {} has an empty name", index);
        const std::string what = "tensor " + shown(*name);
        GgufTensor tensor;
        tensor.name = *name;
        auto n_dims = read<std::uint32_t>(what);
        if (!n_dims) return forward(n_dims);
        if (*n_dims < 1 || *n_dims > kMaxDims) {
            at_ -= sizeof(std::uint32_t);
            return bad("{} has {} dimensions, expected 1 to {}", what, *n_dims, kMaxDims);
        }
        for (std::uint32_t d = 0; d < *n_dims; ++d) {
            auto dim = read<std::uint64_t>(what);
            if (!dim) return forward(dim);
            if (*dim == 0) return bad("{} has dimension {} of size 0", what, d);
            tensor.dims.push_back(*dim);
        }
        auto type_id = read<std::uint32_t>(what);
        if (!type_id) return forward(type_id);
        const auto type = tensor::dtype_from_id(*type_id);
        if (!type) {
            return fail(ErrorCode::unsupported,
                        "{}: byte {}: {} has tensor type {}, which is not supported", path_,
                        at_ - 4, what, *type_id);
        }
        tensor.type = *type;
        auto offset = read<std::uint64_t>(what);
        if (!offset) return forward(offset);
        offsets_.push_back(*offset);
        if (at_ > kMaxMetadataBytes) {
            return bad("{} is described past {} bytes of metadata", what, kMaxMetadataBytes);
        }

        const tensor::DTypeInfo& dtype = tensor::info(*type);
        if (tensor.dims[0] % dtype.block_size != 0) {
            return bad("{} has rows of {} weights, not a multiple of the {} in a block of {}", what,
                       tensor.dims[0], dtype.block_size, dtype.name);
        }
        std::uint64_t size = tensor.dims[0] / dtype.block_size;
        bool overflow = __builtin_mul_overflow(size, dtype.block_bytes, &size);
        for (std::size_t d = 1; d < tensor.dims.size(); ++d) {
            overflow = overflow || __builtin_mul_overflow(size, tensor.dims[d], &size);
        }
        if (overflow)
            return bad("{} has dimensions [{}], whose size overflows", what,
                       fmt::join(tensor.dims, ", "));
        sizes_.push_back(size);
        tensors.push_back(std::move(tensor));
        return {};
    }

    /// Turns offsets into views, once the table has been read and the data's start is known.
    Status place_tensors() {
        if (tensors.empty()) return {};
        const std::uint64_t data = (at_ + alignment_ - 1) / alignment_ * alignment_;
        const std::uint64_t room = data <= file_.size() ? file_.size() - data : 0;
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            GgufTensor& tensor = tensors[i];
            if (offsets_[i] % alignment_ != 0) {
                return fail(ErrorCode::invalid_file,
                            "{}: tensor {} is misaligned: offset {}, alignment {}", path_,
                            shown(tensor.name), offsets_[i], alignment_);
            }
            if (offsets_[i] > room || sizes_[i] > room - offsets_[i]) {
                return fail(
                    ErrorCode::invalid_file,
                    "{}: tensor {} ends past the end of the file: offset {} + {} bytes, but the "
                    "data section has {} (from byte {} of {})",
                    path_, shown(tensor.name), offsets_[i], sizes_[i], room, data, file_.size());
            }
            tensor.bytes = file_.subspan(data + offsets_[i], sizes_[i]);
        }
        std::vector<std::size_t> order(tensors.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::ranges::sort(order, {}, [&](std::size_t i) { return offsets_[i]; });
        for (std::size_t k = 1; k < order.size(); ++k) {
            const std::size_t a = order[k - 1];
            const std::size_t b = order[k];
            if (offsets_[a] + sizes_[a] > offsets_[b]) {
                return fail(ErrorCode::invalid_file,
                            "{}: tensors {} (offset {}, {} bytes) and {} (offset {}) overlap",
                            path_, shown(tensors[a].name), offsets_[a], sizes_[a],
                            shown(tensors[b].name), offsets_[b]);
            }
        }
        return {};
    }

    const std::string& path_;
    std::span<const std::byte> bytes_;
    std::span<const std::byte> file_;
    std::size_t at_ = 0;
    std::uint64_t n_keys_ = 0;
    std::uint64_t n_tensors_ = 0;
    std::uint64_t alignment_ = kDefaultAlignment;
    std::vector<std::uint64_t> offsets_;
    std::vector<std::uint64_t> sizes_;
};

/// split.no, split.count and split.tensors.count of one file; count 1 when it is not split.
struct SplitKeys {
    std::uint64_t no = 0;
    std::uint64_t count = 1;
    std::optional<std::uint64_t> tensors;
};

Result<std::optional<std::uint64_t>> split_key(const std::string& path,
                                               std::span<const GgufEntry> metadata,
                                               std::string_view key) {
    for (const GgufEntry& entry : metadata) {
        if (entry.key != key) continue;
        if (const auto* u = std::get_if<std::uint64_t>(&entry.value)) return std::optional(*u);
        if (const auto* i = std::get_if<std::int64_t>(&entry.value); i != nullptr && *i >= 0) {
            return std::optional(static_cast<std::uint64_t>(*i));
        }
        return fail(ErrorCode::invalid_file, "{}: key '{}' is not a count", path, key);
    }
    return std::optional<std::uint64_t>();
}

Result<SplitKeys> read_split_keys(const std::string& path, std::span<const GgufEntry> metadata) {
    SplitKeys keys;
    auto no = split_key(path, metadata, "split.no");
    if (!no) return forward(no);
    auto count = split_key(path, metadata, "split.count");
    if (!count) return forward(count);
    auto tensors = split_key(path, metadata, "split.tensors.count");
    if (!tensors) return forward(tensors);
    keys.no = no->value_or(0);
    keys.count = count->value_or(1);
    keys.tensors = *tensors;
    if (keys.count == 0) keys.count = 1;  // written so for a model that was not split
    if (keys.count > kMaxSplits || keys.no >= keys.count) {
        return fail(ErrorCode::invalid_file, "{}: key 'split.no' is {} and 'split.count' is {}",
                    path, keys.no, keys.count);
    }
    return keys;
}

}  // namespace

tensor::MatrixView GgufTensor::matrix() const {
    tensor::MatrixView view;
    view.type = type;
    view.cols = dims.empty() ? 0 : dims[0];
    view.rows = 1;
    for (std::size_t d = 1; d < dims.size(); ++d) view.rows *= dims[d];
    view.data = bytes.data();
    return view;
}

Gguf::Gguf(std::unique_ptr<State> state) : state_(std::move(state)) {}
Gguf::Gguf(Gguf&&) noexcept = default;
Gguf& Gguf::operator=(Gguf&&) noexcept = default;
Gguf::~Gguf() = default;

Result<Gguf> Gguf::open(const std::string& path) {
    auto state = std::make_unique<State>();
    state->path = path;
    SplitKeys split;
    std::string prefix;  // the path up to "-00001-of-00003.gguf"
    for (std::uint64_t part = 0; part < split.count; ++part) {
        const std::string part_path =
            part == 0 ? path : fmt::format("{}-{:05}-of-{:05}.gguf", prefix, part + 1, split.count);
        auto file = MappedFile::open(part_path);
        if (!file) return forward(file);
        state->files.push_back(std::move(*file));
        const MappedFile& mapped = state->files.back();
        FileParser first_look(mapped, mapped.bytes());
        if (auto status = first_look.parse(); !status) return forward(status);
        // Once more on a copy that nobody can change after it was checked.
        const auto header = mapped.bytes().first(first_look.header_bytes());
        state->headers.emplace_back(header.begin(), header.end());
        FileParser parser(mapped, state->headers.back());
        if (auto status = parser.parse(); !status) return forward(status);
        if (auto status = mapped.unchanged(); !status) return forward(status);
        mapped.drop(header);
        auto keys = read_split_keys(part_path, parser.metadata);
        if (!keys) return forward(keys);
        if (part == 0) {
            split = *keys;
            const std::string suffix =
                fmt::format("-{:05}-of-{:05}.gguf", split.no + 1, split.count);
            if (split.no != 0) {
                return fail(ErrorCode::invalid_file,
                            "{}: part {} of {} of a split model; open the first part instead", path,
                            split.no + 1, split.count);
            }
            if (split.count > 1 && !path.ends_with(suffix)) {
                return fail(
                    ErrorCode::invalid_file,
                    "{}: the first part of a split model, expected a name that ends in '{}'", path,
                    suffix);
            }
            if (split.count > 1) prefix = path.substr(0, path.size() - suffix.size());
            state->version = parser.version;
            state->metadata = std::move(parser.metadata);
        } else if (keys->no != part || keys->count != split.count) {
            return fail(ErrorCode::invalid_file,
                        "{}: says it is part {} of {}, expected part {} of {}", part_path,
                        keys->no + 1, keys->count, part + 1, split.count);
        }
        for (GgufTensor& tensor : parser.tensors) {
            tensor.file = part;
            state->tensor_bytes += tensor.bytes.size();
            if (!state->names.emplace(tensor.name, state->tensors.size()).second) {
                return fail(ErrorCode::invalid_file, "{}: duplicate tensor {}", part_path,
                            shown(tensor.name));
            }
            state->tensors.push_back(std::move(tensor));
        }
        if (state->tensors.size() > kMaxTensors) {
            return fail(ErrorCode::invalid_file, "{}: {} tensors up to here, expected at most {}",
                        part_path, state->tensors.size(), kMaxTensors);
        }
    }
    for (std::size_t i = 0; i < state->metadata.size(); ++i) {
        if (!state->keys.emplace(state->metadata[i].key, i).second) {
            return fail(ErrorCode::invalid_file, "{}: duplicate key {}", path,
                        shown(state->metadata[i].key));
        }
    }
    if (split.count > 1 && split.tensors && *split.tensors != state->tensors.size()) {
        return fail(ErrorCode::invalid_file,
                    "{}: key 'split.tensors.count' is {}, but the {} parts hold {} tensors", path,
                    *split.tensors, split.count, state->tensors.size());
    }
    return Gguf(std::move(state));
}

const std::string& Gguf::path() const { return state_->path; }
std::uint32_t Gguf::version() const { return state_->version; }
std::span<const GgufEntry> Gguf::metadata() const { return state_->metadata; }
std::span<const GgufTensor> Gguf::tensors() const { return state_->tensors; }
std::uint64_t Gguf::tensor_bytes() const { return state_->tensor_bytes; }
std::span<const MappedFile> Gguf::files() const { return state_->files; }

Status Gguf::unchanged() const {
    for (const MappedFile& file : state_->files) {
        if (auto status = file.unchanged(); !status) return status;
    }
    return {};
}

const GgufEntry* Gguf::find(std::string_view key) const {
    const auto it = state_->keys.find(key);
    return it == state_->keys.end() ? nullptr : &state_->metadata[it->second];
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
    const auto it = state_->names.find(name);
    return it == state_->names.end() ? nullptr : &state_->tensors[it->second];
}

namespace {

tl::unexpected<Error> wrong_type(const Gguf& gguf, const GgufEntry& entry,
                                 std::string_view expected) {
    std::string type(type_name(entry.type));
    if (const auto* array = std::get_if<GgufArray>(&entry.value)) {
        type = fmt::format("array of {}", type_name(array->element));
    }
    return fail(ErrorCode::invalid_file, "{}: key {} is {}, expected {}", gguf.path(),
                shown(entry.key), type, expected);
}

Result<const GgufEntry*> required(const Gguf& gguf, std::string_view key) {
    const GgufEntry* entry = gguf.find(key);
    if (entry == nullptr)
        return fail(ErrorCode::invalid_file, "{}: key {} is missing", gguf.path(), shown(key));
    return entry;
}

/// The array under `key`, if its elements satisfy `accepts`.
Result<GgufArray> required_array(const Gguf& gguf, std::string_view key, bool (*accepts)(GgufType),
                                 std::string_view expected) {
    auto entry = required(gguf, key);
    if (!entry) return forward(entry);
    const auto* array = std::get_if<GgufArray>(&(*entry)->value);
    if (array == nullptr || !accepts(array->element)) return wrong_type(gguf, **entry, expected);
    return *array;
}

}  // namespace

Result<std::uint64_t> Gguf::get_uint(std::string_view key) const {
    auto entry = required(*this, key);
    if (!entry) return forward(entry);
    if (const auto* u = std::get_if<std::uint64_t>(&(*entry)->value)) return *u;
    if (const auto* i = std::get_if<std::int64_t>(&(*entry)->value)) {
        if (*i >= 0) return static_cast<std::uint64_t>(*i);
        return fail(ErrorCode::invalid_file, "{}: key {} is {}, expected 0 or more", path(),
                    shown(key), *i);
    }
    return wrong_type(*this, **entry, "an integer");
}

Result<double> Gguf::get_float(std::string_view key) const {
    auto entry = required(*this, key);
    if (!entry) return forward(entry);
    const GgufValue& value = (*entry)->value;
    if (const auto* d = std::get_if<double>(&value)) {
        if (!std::isfinite(*d))
            return fail(ErrorCode::invalid_file, "{}: key {} is {}", path(), shown(key), *d);
        return *d;
    }
    if (const auto* u = std::get_if<std::uint64_t>(&value)) return static_cast<double>(*u);
    if (const auto* i = std::get_if<std::int64_t>(&value)) return static_cast<double>(*i);
    return wrong_type(*this, **entry, "a number");
}

Result<std::string_view> Gguf::get_string(std::string_view key) const {
    auto entry = required(*this, key);
    if (!entry) return forward(entry);
    if (const auto* text = std::get_if<std::string_view>(&(*entry)->value)) return *text;
    return wrong_type(*this, **entry, "string");
}

Result<bool> Gguf::get_bool(std::string_view key) const {
    auto entry = required(*this, key);
    if (!entry) return forward(entry);
    if (const auto* value = std::get_if<bool>(&(*entry)->value)) return *value;
    return wrong_type(*this, **entry, "boolean");
}

Result<std::vector<std::string_view>> Gguf::get_strings(std::string_view key) const {
    auto array = required_array(
        *this, key, [](GgufType t) { return t == GgufType::string; }, "array of string");
    if (!array) return forward(array);
    std::vector<std::string_view> values;
    values.reserve(array->count);
    const std::byte* at = array->bytes.data();
    for (std::uint64_t i = 0; i < array->count; ++i) {  // lengths were checked by open()
        const auto length = load<std::uint64_t>(at);
        values.emplace_back(reinterpret_cast<const char*>(at + 8), length);
        at += 8 + length;
    }
    return values;
}

Result<std::vector<float>> Gguf::get_floats(std::string_view key) const {
    auto array = required_array(
        *this, key, [](GgufType t) { return t == GgufType::float32 || t == GgufType::float64; },
        "array of float32");
    if (!array) return forward(array);
    std::vector<float> values(array->count);
    const std::uint64_t size = min_bytes(array->element);
    for (std::uint64_t i = 0; i < array->count; ++i) {
        values[i] = static_cast<float>(
            std::get<double>(load_scalar(array->element, array->bytes.data() + i * size)));
    }
    return values;
}

Result<std::vector<std::int64_t>> Gguf::get_ints(std::string_view key) const {
    auto array = required_array(
        *this, key, [](GgufType t) { return is_integer(t) || t == GgufType::boolean; },
        "array of integers");
    if (!array) return forward(array);
    std::vector<std::int64_t> values(array->count);
    const std::uint64_t size = min_bytes(array->element);
    for (std::uint64_t i = 0; i < array->count; ++i) {
        const GgufValue value = load_scalar(array->element, array->bytes.data() + i * size);
        if (const auto* u = std::get_if<std::uint64_t>(&value)) {
            if (*u > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
                return fail(ErrorCode::invalid_file, "{}: key {}[{}] is {}, too large", path(),
                            shown(key), i, *u);
            }
            values[i] = static_cast<std::int64_t>(*u);
        } else if (const auto* b = std::get_if<bool>(&value)) {
            values[i] = *b ? 1 : 0;
        } else {
            values[i] = std::get<std::int64_t>(value);
        }
    }
    return values;
}

}  // namespace unicorn::formats
