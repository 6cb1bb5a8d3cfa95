#include "formats/json_walk.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "formats/utf8.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxStringBytes = 1u << 20;
constexpr std::size_t kMaxTableBytes = 4u << 20;
constexpr std::size_t kMaxTableValues = 16384;
constexpr std::size_t kMaxTableKeyBytes = 256;

/// The part of the parser's message that says what is wrong and quotes none of the file's bytes:
/// "... syntax error while parsing value - invalid literal; last read: ..." -> "value - invalid
/// literal".
std::string reason(std::string_view what) {
    constexpr std::string_view kMarker = "while parsing ";
    const std::size_t at = what.find(kMarker);
    if (at == std::string_view::npos) return "a number out of range";
    what.remove_prefix(at + kMarker.size());
    return std::string(what.substr(0, what.find(';')));
}

}  // namespace

/// nlohmann's SAX interface: false ends the walk.
class JsonWalker {
public:
    using json = nlohmann::json;

    JsonWalker(const std::string& name, const JsonHandler& handler)
        : name_(name), handler_(handler) {}

    Status status;

    bool null() { return value(nullptr); }
    bool boolean(bool v) { return value(v); }
    bool number_integer(std::int64_t v) { return value(v); }
    bool number_unsigned(std::uint64_t v) { return value(v); }
    bool number_float(double v, const std::string&) { return value(v); }
    bool string(std::string& v) { return value(std::move(v)); }
    bool binary(json::binary_t&) { return false; }  // not in JSON text
    bool start_object(std::size_t) { return open(JsonObject{}, false); }
    bool start_array(std::size_t) { return open(JsonArray{}, true); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }
    bool key(std::string& v) {
        path_.steps_[path_.depth_ - 1].key.swap(v);
        return true;
    }
    bool parse_error(std::size_t position, const std::string&, const json::exception& error) {
        status = fail(ErrorCode::invalid_file, "{}: byte {}: not valid JSON: {}", name_, position,
                      reason(error.what()));
        return false;
    }

private:
    bool value(JsonValue v) {
        status = handler_(path_, v);
        if (path_.depth_ > 0) ++path_.steps_[path_.depth_ - 1].index;
        return status.has_value();
    }

    bool open(JsonValue v, bool array) {
        status = handler_(path_, v);
        if (!status) return false;
        if (path_.depth_ == kMaxDepth) {
            status = fail(ErrorCode::invalid_file, "{}: JSON nested deeper than {} levels", name_,
                          kMaxDepth);
            return false;
        }
        if (path_.steps_.size() == path_.depth_) path_.steps_.emplace_back();
        JsonPath::Step& step = path_.steps_[path_.depth_++];
        step.element = array;
        step.index = 0;
        step.key.clear();
        return true;
    }

    bool close() {
        --path_.depth_;
        if (path_.depth_ > 0) ++path_.steps_[path_.depth_ - 1].index;
        return true;
    }

    const std::string& name_;
    const JsonHandler& handler_;
    JsonPath path_;
};

std::string JsonPath::text() const {
    std::string out;
    for (std::size_t i = 0; i < depth_; ++i) {
        if (steps_[i].element) {
            out += fmt::format("[{}]", steps_[i].index);
        } else {
            if (i > 0) out += '.';
            out += steps_[i].key;
        }
    }
    return out;
}

Status walk_json(const std::string& name, std::string_view text, const JsonHandler& handler) {
    // The parser holds a string three times over before it hands it to us, so a file that is one
    // long string is refused first: no token is longer than the way to the next quotation mark.
    for (std::size_t at = 0; at < text.size();) {
        const void* quote = std::memchr(text.data() + at, '"', text.size() - at);
        const std::size_t next =
            quote == nullptr
                ? text.size()
                : static_cast<std::size_t>(static_cast<const char*>(quote) - text.data());
        if (next - at > kMaxStringBytes) {
            return fail(ErrorCode::invalid_file,
                        "{}: byte {}: {} bytes without a quotation mark, expected at most {}", name,
                        at, next - at, kMaxStringBytes);
        }
        at = next + 1;
    }
    JsonWalker walker(name, handler);
    nlohmann::json::sax_parse(text.begin(), text.end(), &walker);
    return std::move(walker.status);
}

std::string_view json_kind(const JsonValue& value) {
    constexpr std::string_view kKinds[] = {"an object",  "an array",   "null",     "a boolean",
                                           "an integer", "an integer", "a number", "a string"};
    return kKinds[value.index()];
}

Result<JsonTable> JsonTable::read(const std::string& path) {
    auto text = read_file(path, kMaxTableBytes);
    if (!text) return forward(text);
    return parse(path, *text);
}

Result<JsonTable> JsonTable::parse(const std::string& name, std::string_view text) {
    JsonTable table;
    table.name_ = name;
    auto status =
        walk_json(name, text, [&](const JsonPath& path, const JsonValue& value) -> Status {
            if (path.size() == 0) {
                if (std::holds_alternative<JsonObject>(value)) return {};
                return fail(ErrorCode::invalid_file, "{}: the file is {}, expected an object", name,
                            json_kind(value));
            }
            const JsonPath::Step& last = path[path.size() - 1];
            if (!last.element && last.key.size() > kMaxTableKeyBytes) {
                return fail(ErrorCode::invalid_file,
                            "{}: a member's name has {} bytes, expected at most {}", name,
                            last.key.size(), kMaxTableKeyBytes);
            }
            if (table.values_.size() == kMaxTableValues) {
                return fail(ErrorCode::invalid_file, "{}: more than {} values", name,
                            kMaxTableValues);
            }
            std::string key = path.text();
            if (!table.values_.try_emplace(key, value).second) {
                return fail(ErrorCode::invalid_file, "{}: duplicate key {}", name, shown(key));
            }
            return {};
        });
    if (!status) return forward(status);
    return table;
}

const JsonValue* JsonTable::find(std::string_view path) const {
    const auto it = values_.find(path);
    if (it == values_.end() || std::holds_alternative<std::nullptr_t>(it->second)) return nullptr;
    return &it->second;
}

Result<std::optional<std::uint64_t>> JsonTable::get_uint(std::string_view path) const {
    const JsonValue* value = find(path);
    if (value == nullptr) return std::optional<std::uint64_t>();
    if (const auto* u = std::get_if<std::uint64_t>(value)) return std::optional(*u);
    if (const auto* i = std::get_if<std::int64_t>(value)) {
        return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected 0 or more", name_, path,
                    *i);
    }
    return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected an integer", name_, path,
                json_kind(*value));
}

Result<std::optional<double>> JsonTable::get_float(std::string_view path) const {
    const JsonValue* value = find(path);
    if (value == nullptr) return std::optional<double>();
    if (const auto* d = std::get_if<double>(value))
        return std::optional(*d);  // the parser refuses what overflows
    if (const auto* u = std::get_if<std::uint64_t>(value))
        return std::optional(static_cast<double>(*u));
    if (const auto* i = std::get_if<std::int64_t>(value))
        return std::optional(static_cast<double>(*i));
    return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected a number", name_, path,
                json_kind(*value));
}

Result<std::optional<std::string>> JsonTable::get_string(std::string_view path) const {
    const JsonValue* value = find(path);
    if (value == nullptr) return std::optional<std::string>();
    if (const auto* text = std::get_if<std::string>(value)) return std::optional(*text);
    return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected a string", name_, path,
                json_kind(*value));
}

Result<std::optional<bool>> JsonTable::get_bool(std::string_view path) const {
    const JsonValue* value = find(path);
    if (value == nullptr) return std::optional<bool>();
    if (const auto* flag = std::get_if<bool>(value)) return std::optional(*flag);
    return fail(ErrorCode::invalid_file, "{}: key '{}' is {}, expected a boolean", name_, path,
                json_kind(*value));
}

}  // namespace unicorn::formats
