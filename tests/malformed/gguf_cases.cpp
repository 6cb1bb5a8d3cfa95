// Lies of a GGUF container: counts, lengths, types, offsets, names, split files.

#include <cstdint>
#include <functional>
#include <optional>

#include "cases.h"
#include "formats/gguf.h"
#include "formats/testing.h"

namespace unicorn::malformed {
namespace {

using formats::GgufType;
using formats::raw;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 61;
constexpr std::uint64_t kMax = ~std::uint64_t{0};

std::string text(std::string_view bytes) {
    return raw(std::uint64_t{bytes.size()}) + std::string(bytes);
}
std::string type_id(GgufType type) { return raw(static_cast<std::uint32_t>(type)); }
std::string key(std::string_view name, GgufType type, std::string_view value) {
    return text(name) + type_id(type) + std::string(value);
}
std::string key_u32(std::string_view name, std::uint32_t value) {
    return key(name, GgufType::uint32, raw(value));
}
std::string array_of(GgufType element, std::uint64_t count, std::string_view bytes) {
    return type_id(element) + raw(count) + std::string(bytes);
}

struct RawTensor {
    std::string name;
    std::vector<std::uint64_t> dims = {4};
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
    std::optional<std::uint32_t> n_dims = {};
};

/// A GGUF file in parts, any of which may be changed before bytes() puts them together.
struct RawGguf {
    std::string magic = "GGUF";
    std::uint32_t version = 3;
    std::optional<std::uint64_t> n_tensors = {},
                                 n_keys = {};  // what the header claims; the truth if empty
    std::vector<std::string> keys = {key_u32("answer", 42),
                                     key("name", GgufType::string, text("tiny"))};
    std::vector<RawTensor> tensors = {{.name = "a", .offset = 0}, {.name = "b", .offset = 32}};
    std::string data = std::string(48, '\1');

    std::string table() const {
        std::string out;
        for (const RawTensor& t : tensors) {
            out += text(t.name) + raw(t.n_dims.value_or(static_cast<std::uint32_t>(t.dims.size())));
            for (const std::uint64_t dim : t.dims) out += raw(dim);
            out += raw(t.type) + raw(t.offset);
        }
        return out;
    }
    std::string head() const {
        std::string out = magic + raw(version) + raw(n_tensors.value_or(tensors.size())) +
                          raw(n_keys.value_or(keys.size()));
        for (const std::string& k : keys) out += k;
        return out;
    }
    std::string bytes() const {
        std::string out = head() + table();
        out.append((32 - out.size() % 32) % 32, '\0');
        return out + data;
    }
};

using Change = std::function<void(RawGguf&)>;

Case changed(std::string name, const Change& change, std::string message) {
    RawGguf file;
    change(file);
    return {std::move(name), Kind::container, {{"m.gguf", file.bytes()}}, std::move(message)};
}

/// The valid file, cut after `size` bytes.
Case cut(std::string name, std::size_t size, std::string message) {
    return {std::move(name),
            Kind::container,
            {{"m.gguf", RawGguf().bytes().substr(0, size)}},
            std::move(message)};
}

/// A valid file of two keys and no tensors, cut after `size` bytes.
Case cut_in_keys(std::string name, std::size_t size, std::string message) {
    RawGguf file;
    file.tensors.clear();
    return {std::move(name),
            Kind::container,
            {{"m.gguf", file.bytes().substr(0, size)}},
            std::move(message)};
}

Case with_key(std::string name, std::string bytes, std::string message) {
    return changed(
        std::move(name), [&](RawGguf& f) { f.keys.push_back(std::move(bytes)); },
        std::move(message));
}

Case with_tensor(std::string name, RawTensor tensor, std::string message) {
    return changed(
        std::move(name), [&](RawGguf& f) { f.tensors[1] = std::move(tensor); }, std::move(message));
}

std::string part(std::uint16_t no, std::uint16_t count, std::int32_t n_tensors,
                 std::string tensor) {
    RawGguf file;
    file.keys.push_back(key("split.no", GgufType::uint16, raw(no)));
    file.keys.push_back(key("split.count", GgufType::uint16, raw(count)));
    file.keys.push_back(key("split.tensors.count", GgufType::int32, raw(n_tensors)));
    file.tensors = {{.name = std::move(tensor)}};
    return file.bytes();
}

}  // namespace

std::vector<Case> gguf_cases() {
    const RawGguf valid;
    const std::size_t second_at = 24 + 8 + 6 + 4 + 4;  // the key "name", behind "answer"
    const std::size_t table_at = valid.head().size();
    std::string nested = array_of(GgufType::uint8, 0, "");
    for (int i = 0; i < 8; ++i) nested = array_of(GgufType::array, 1, nested);
    const std::string part1 = "m-00001-of-00002.gguf";
    const std::string part2 = "m-00002-of-00002.gguf";

    return {
        cut("gguf-empty", 0, "0 bytes, too short for a GGUF header of 24"),
        cut("gguf-cut-in-header", 20, "20 bytes, too short for a GGUF header of 24"),
        changed(
            "gguf-magic", [](RawGguf& f) { f.magic = "GGML"; }, "not a GGUF file"),
        changed(
            "gguf-version-1", [](RawGguf& f) { f.version = 1; },
            "byte 4: GGUF version 1, expected 2 or 3"),
        changed(
            "gguf-big-endian", [](RawGguf& f) { f.version = 0x03000000; },
            "(the file is big-endian)"),
        changed(
            "gguf-tensor-count-overflows", [](RawGguf& f) { f.n_tensors = kMax; },
            "byte 8: 18446744073709551615 tensors"),
        changed(
            "gguf-key-count-overflows", [](RawGguf& f) { f.n_keys = kHuge; },
            "byte 16: 2305843009213693952 keys"),
        changed(
            "gguf-one-key-too-many", [](RawGguf& f) { f.n_keys = 3; },
            "tensor 0 has an empty name"),
        changed(
            "gguf-one-tensor-too-many", [](RawGguf& f) { f.n_tensors = 3; }, "tensor 2"),
        cut_in_keys("gguf-cut-in-key-length", second_at + 5,
                    "key 1 needs 8 bytes, but the file ends after 5 more"),
        cut_in_keys("gguf-cut-in-key-name", second_at + 8 + 3,
                    "key 1 has a length of 4 bytes, but 3 remain in the file"),
        cut_in_keys("gguf-cut-in-value-type", second_at + 8 + 4 + 2,
                    "key 'name' needs 4 bytes, but the file ends after 2 more"),
        cut_in_keys("gguf-cut-in-string-length", second_at + 8 + 4 + 4 + 7,
                    "key 'name' needs 8 bytes, but the file ends after 7 more"),
        cut_in_keys("gguf-cut-in-string", second_at + 8 + 4 + 4 + 8 + 1,
                    "key 'name' has a length of 4 bytes, but 1 remain in the file"),
        cut("gguf-cut-in-tensor-name", table_at + 34, "tensor 1's name needs 8 bytes"),
        cut("gguf-cut-in-tensor-dims", table_at + 33 + 15, "tensor 'b' needs 8 bytes"),
        cut("gguf-cut-in-tensor-offset", table_at + 62, "tensor 'b' needs 8 bytes"),
        cut("gguf-cut-in-padding", table_at + 67, "tensor 'a' ends past the end of the file"),
        cut("gguf-cut-in-data", valid.bytes().size() - 1,
            "tensor 'b' ends past the end of the file: offset 32 + 16 bytes, but the data section "
            "has 47"),
        with_key("gguf-key-length-overflows", raw(kMax) + "key" + std::string(64, 'x'),
                 "has a length of 18446744073709551615 bytes, expected at most 65535"),
        with_key("gguf-key-too-long",
                 text(std::string(70000, 'k')) + type_id(GgufType::uint8) + "x",
                 "has a length of 70000 bytes, expected at most 65535"),
        with_key("gguf-key-empty", key("", GgufType::uint32, raw(1u)), "key 2 has an empty name"),
        with_key("gguf-key-not-utf8", key("bad\xFF", GgufType::uint32, raw(1u)),
                 "key 2 is not UTF-8: 'bad\\xFF'"),
        with_key("gguf-key-twice", key_u32("answer", 1), "duplicate key 'answer'"),
        with_key("gguf-value-type", text("odd") + raw(std::uint32_t{13}) + std::string(64, '\0'),
                 "key 'odd' has value type 13, expected 0 to 12"),
        with_key("gguf-boolean-2", key("flag", GgufType::boolean, "\2"),
                 "key 'flag' is the boolean 2, expected 0 or 1"),
        with_key("gguf-boolean-array-7",
                 key("flags", GgufType::array, array_of(GgufType::boolean, 2, "\1\7")),
                 "key 'flags'[1] is the boolean 7"),
        with_key("gguf-string-length-overflows",
                 key("s", GgufType::string, raw(std::uint64_t{1} << 40)),
                 "key 's' has a length of 1099511627776 bytes"),
        with_key("gguf-string-not-utf8", key("s", GgufType::string, text("\xED\xA0\x80")),
                 "key 's' is not UTF-8: '\\xED\\xA0\\x80'"),
        with_key("gguf-array-element-type",
                 key("a", GgufType::array,
                     raw(std::uint32_t{99}) + raw(std::uint64_t{1}) + std::string(64, '\0')),
                 "key 'a' (elements) has value type 99"),
        with_key("gguf-array-count-overflows",
                 key("a", GgufType::array, array_of(GgufType::uint64, kHuge, "")),
                 "key 'a' is an array of 2305843009213693952 x uint64"),
        with_key("gguf-array-count-of-strings",
                 key("a", GgufType::array, array_of(GgufType::string, 1u << 30, "")),
                 "key 'a' is an array of 1073741824 x string"),
        with_key("gguf-array-cut", key("a", GgufType::array, array_of(GgufType::uint8, 5000, "")),
                 "key 'a' is an array of 5000 x uint8, but there is room for"),
        with_key("gguf-array-string-too-long",
                 key("a", GgufType::array, array_of(GgufType::string, 2, text("x") + raw(kMax))),
                 "key 'a'[1] has a length of 18446744073709551615"),
        with_key(
            "gguf-array-string-not-utf8",
            key("a", GgufType::array, array_of(GgufType::string, 2, text("x") + text("\xC0\x80"))),
            "key 'a'[1] is not UTF-8"),
        with_key("gguf-arrays-nested", key("a", GgufType::array, nested),
                 "key 'a' nests arrays deeper than 8"),
        with_key("gguf-arrays-of-arrays-count",
                 key("a", GgufType::array, array_of(GgufType::array, kMax / 2, "")), "x array"),
        with_key("gguf-alignment-0", key_u32("general.alignment", 0),
                 "key 'general.alignment' is 0, expected a power of two"),
        with_key("gguf-alignment-24", key_u32("general.alignment", 24),
                 "key 'general.alignment' is 24"),
        with_key("gguf-alignment-2-to-31", key_u32("general.alignment", 1u << 31),
                 "key 'general.alignment' is 2147483648"),
        with_key("gguf-alignment-type", key("general.alignment", GgufType::string, text("32")),
                 "key 'general.alignment' is string, expected uint32"),
        with_tensor("gguf-tensor-name-empty", {.name = "", .offset = 32},
                    "tensor 1 has an empty name"),
        with_tensor("gguf-tensor-name-not-utf8", {.name = "b\x80", .offset = 32},
                    "tensor 1's name is not UTF-8"),
        with_tensor("gguf-tensor-name-newline", {.name = "b\nc", .dims = {0}, .offset = 32},
                    "tensor 'b\\x0Ac' has dimension 0 of size 0"),
        with_tensor("gguf-tensor-twice", {.name = "a", .offset = 32}, "duplicate tensor 'a'"),
        with_tensor("gguf-no-dimensions", {.name = "b", .dims = {}, .offset = 32},
                    "tensor 'b' has 0 dimensions, expected 1 to 4"),
        with_tensor("gguf-five-dimensions", {.name = "b", .dims = {1, 1, 1, 1, 1}, .offset = 32},
                    "tensor 'b' has 5 dimensions"),
        with_tensor("gguf-dimension-count-overflows",
                    {.name = "b", .offset = 32, .n_dims = 0xFFFFFFFF},
                    "tensor 'b' has 4294967295 dimensions"),
        with_tensor("gguf-dimension-0", {.name = "b", .dims = {4, 0}, .offset = 32},
                    "tensor 'b' has dimension 1 of size 0"),
        with_tensor("gguf-dimensions-overflow",
                    {.name = "b", .dims = {1ull << 32, 1ull << 32, 4}, .offset = 32},
                    "whose size overflows"),
        with_tensor("gguf-size-overflows-in-bytes",
                    {.name = "b", .dims = {1ull << 62}, .offset = 32},
                    "tensor 'b' has dimensions [4611686018427387904], whose size overflows"),
        with_tensor("gguf-tensor-type", {.name = "b", .type = 99, .offset = 32},
                    "tensor 'b' has tensor type 99, which is not supported"),
        with_tensor(
            "gguf-row-not-whole-blocks", {.name = "b", .dims = {33}, .type = 2, .offset = 32},
            "tensor 'b' has rows of 33 weights, not a multiple of the 32 in a block of q4_0"),
        with_tensor("gguf-offset-misaligned", {.name = "b", .offset = 16},
                    "tensor 'b' is misaligned: offset 16, alignment 32"),
        with_tensor("gguf-offset-past-end", {.name = "b", .offset = 4096},
                    "tensor 'b' ends past the end of the file: offset 4096 + 16 bytes"),
        with_tensor("gguf-offset-overflows", {.name = "b", .offset = kMax - 31},
                    "tensor 'b' ends past the end of the file: offset 18446744073709551584"),
        with_tensor("gguf-tensors-overlap", {.name = "b", .dims = {4}, .offset = 0},
                    "(offset 0) overlap"),
        with_tensor("gguf-size-past-end", {.name = "b", .dims = {1ull << 40}, .offset = 32},
                    "tensor 'b' ends past the end of the file"),
        {"gguf-split-no-too-large",
         Kind::container,
         {{part1, part(2, 2, 2, "a")}},
         "key 'split.no' is 2 and 'split.count' is 2"},
        {"gguf-split-second-part-missing",
         Kind::container,
         {{part1, part(0, 2, 2, "a")}},
         "m-00002-of-00002.gguf: cannot open"},
        {"gguf-split-opened-at-the-second",
         Kind::container,
         {{part2, part(1, 2, 2, "b")}},
         "part 2 of 2 of a split model; open the first part instead"},
        {"gguf-split-parts-disagree",
         Kind::container,
         {{part1, part(0, 2, 2, "a")}, {part2, part(1, 3, 2, "b")}},
         "says it is part 2 of 3, expected part 2 of 2"},
        {"gguf-split-tensor-twice",
         Kind::container,
         {{part1, part(0, 2, 2, "a")}, {part2, part(1, 2, 2, "a")}},
         "duplicate tensor 'a'"},
        {"gguf-split-tensor-count",
         Kind::container,
         {{part1, part(0, 2, 9, "a")}, {part2, part(1, 2, 9, "b")}},
         "key 'split.tensors.count' is 9, but the 2 parts hold 2 tensors"},
        {"gguf-split-tensor-count-negative",
         Kind::container,
         {{part1, part(0, 2, -1, "a")}},
         "key 'split.tensors.count' is not a count"},
        {"gguf-split-second-part-cut",
         Kind::container,
         {{part1, part(0, 2, 2, "a")}, {part2, part(1, 2, 2, "b").substr(0, 100)}},
         "m-00002-of-00002.gguf: byte"},
    };
}

}  // namespace unicorn::malformed
