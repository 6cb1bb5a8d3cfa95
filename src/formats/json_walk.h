#pragma once
// JSON from untrusted files, value by value: nothing is kept but the way to the current value, so
// the memory used depends on what the caller keeps.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace unicorn::formats {

struct JsonObject {};  // an object begins here; its members follow
struct JsonArray {};   // an array begins here; its elements follow
using JsonValue = std::variant<JsonObject, JsonArray, std::nullptr_t, bool, std::int64_t,
                               std::uint64_t, double, std::string>;

/// Where a value stands: the members and elements that lead to it.
class JsonPath {
public:
    struct Step {
        std::string key;        // of an object's member
        std::size_t index = 0;  // of an array's element
        bool element = false;
    };

    std::size_t size() const { return depth_; }
    const Step& operator[](std::size_t i) const { return steps_[i]; }
    /// Whether step `i` is the member called `key`.
    bool is(std::size_t i, std::string_view key) const {
        return i < depth_ && !steps_[i].element && steps_[i].key == key;
    }
    /// "text_config.layer_types[3]"
    std::string text() const;

private:
    friend class JsonWalker;
    std::vector<Step> steps_;  // grows only, so that its strings are reused
    std::size_t depth_ = 0;
};

using JsonHandler = std::function<Status(const JsonPath&, const JsonValue&)>;

/// Calls `handler` for each value of `text`, the root included, in the order of the file; its first
/// error ends the walk. `name` (a file's path) opens every message.
/// Errors: invalid_file for text that is not JSON, nests deeper than 64 or has a string of more
/// than 1 MiB; what `handler` returns.
Status walk_json(const std::string& name, std::string_view text, const JsonHandler& handler);

/// A small JSON file as a table from "text_config.head_dim" to its value (containers included).
class JsonTable {
public:
    /// Errors: not_found, io; invalid_file for anything walk_json() refuses, a duplicate member, a
    /// member's name of more than 256 bytes, and more than 16,384 values.
    static Result<JsonTable> read(const std::string& path);
    static Result<JsonTable> parse(const std::string& name, std::string_view text);

    /// The value at `path`, unless it is missing or null.
    const JsonValue* find(std::string_view path) const;

    // Errors: invalid_file when the value is of another type. Nothing when it is missing or null.
    Result<std::optional<std::uint64_t>> get_uint(std::string_view path) const;
    Result<std::optional<double>> get_float(std::string_view path) const;  // finite
    Result<std::optional<std::string>> get_string(std::string_view path) const;
    Result<std::optional<bool>> get_bool(std::string_view path) const;

    const std::string& name() const { return name_; }

private:
    std::string name_;
    std::map<std::string, JsonValue, std::less<>> values_;
};

/// "a string", "an object", ... for messages.
std::string_view json_kind(const JsonValue& value);

}  // namespace unicorn::formats
