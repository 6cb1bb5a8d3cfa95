#include "backends/vulkan/tuned_shapes.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/file.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
constexpr std::string_view kFirstLine = "unicorn matmul shapes 1";
constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325, kFnvPrime = 0x100000001b3;

std::uint64_t hash_text(std::string_view text) {
    std::uint64_t hash = kFnvBasis;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
    return hash;
}

std::vector<std::string_view> split(std::string_view text, char by) {
    std::vector<std::string_view> parts;
    for (;;) {
        const std::size_t end = text.find(by);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// `count` numbers with `by` between them.
std::optional<std::vector<std::uint32_t>> numbers(std::string_view text, char by,
                                                  std::size_t count) {
    std::vector<std::uint32_t> out;
    for (const std::string_view part : split(text, by)) {
        const auto n = number(part);
        if (!n) return std::nullopt;
        out.push_back(*n);
    }
    if (out.size() != count) return std::nullopt;
    return out;
}

/// The one of `all` that is called `text`.
template <typename T>
std::optional<T> named(std::string_view text, std::initializer_list<T> all) {
    const auto* found = std::find_if(all.begin(), all.end(), [&](T t) { return name(t) == text; });
    return found == all.end() ? std::nullopt : std::optional<T>(*found);
}

std::optional<std::pair<ProductKey, ProductShape>> parse_line(std::string_view line) {
    const auto parts = split(line, ' ');
    if (parts.size() != 6) return std::nullopt;
    const auto shader = named(parts[0], {ProductShader::matvec_plain, ProductShader::matvec_dot4,
                                         ProductShader::matmul_coopmat});
    const auto type = tensor::dtype_from_name(parts[1]);
    const auto use =
        named(parts[2], {ProductUse::single, ProductUse::gated, ProductUse::gated_int8});
    const auto size = numbers(parts[3], 'x', 2);
    const auto n_rows = parts[4] == "more" ? std::optional(UINT32_MAX) : number(parts[4]);
    if (!shader || !type || !use || !size || !n_rows || row_class(*n_rows) != *n_rows)
        return std::nullopt;
    const ProductKey key = {.shader = *shader,
                            .type = *type,
                            .use = *use,
                            .rows = (*size)[0],
                            .cols = (*size)[1],
                            .n_rows = *n_rows};
    if (*shader != ProductShader::matmul_coopmat) {
        const auto n = numbers(parts[5], '/', 4);
        if (!n) return std::nullopt;
        return std::pair{key, ProductShape(MatvecShape{(*n)[0], (*n)[1], (*n)[2], (*n)[3]})};
    }
    const auto n = numbers(parts[5], '/', 7);
    if (!n) return std::nullopt;
    return std::pair{key, ProductShape(MatmulShape{(*n)[0], (*n)[1], (*n)[2], (*n)[3], (*n)[4],
                                                   (*n)[5], (*n)[6]})};
}

}  // namespace

std::string hexadecimal(std::span<const std::uint8_t> bytes) {
    return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::uint64_t hash_words(std::span<const std::uint32_t> words, std::uint64_t hash) {
    if (hash == 0) hash = kFnvBasis;
    for (const std::uint32_t word : words) hash = (hash ^ word) * kFnvPrime;
    return hash;
}

std::string format_shape(const ProductShape& shape) {
    if (const auto* v = std::get_if<MatvecShape>(&shape))
        return fmt::format("{}/{}/{}/{}", v->invocations, v->panels, v->unroll, v->lane_rows);
    const auto& m = std::get<MatmulShape>(shape);
    return fmt::format("{}/{}/{}/{}/{}/{}/{}", m.bm, m.bn, m.bk, m.wm, m.wn, m.buffers, m.splits);
}

std::string format_row_class(std::uint32_t n_rows) {
    return n_rows == UINT32_MAX ? "more" : fmt::format("{}", n_rows);
}

std::string format_tuned_shapes(const TunedFor& whom, const TunedShapes& shapes) {
    std::string text = fmt::format("{}\ndevice {}\ndriver {}\nshaders {:016x}\n", kFirstLine,
                                   whom.device, whom.driver, whom.shaders);
    for (const auto& [key, shape] : shapes) {
        text += fmt::format("{} {} {} {}x{} {} {}\n", name(key.shader), tensor::name(key.type),
                            name(key.use), key.rows, key.cols, format_row_class(key.n_rows),
                            format_shape(shape));
    }
    return text + fmt::format("sum {:016x}\n", hash_text(text));
}

Result<TunedShapes> parse_tuned_shapes(std::string_view text, const TunedFor& whom,
                                       const ShapeLimits& limits) {
    const auto refuse = [](std::string_view why) {
        return fail(ErrorCode::invalid_file, "{}", why);
    };
    const std::size_t last = text.rfind("\nsum ");
    if (last == std::string_view::npos ||
        text.substr(last + 1) != fmt::format("sum {:016x}\n", hash_text(text.substr(0, last + 1))))
        return refuse("is damaged");
    const auto lines = split(text.substr(0, last), '\n');
    if (lines.size() < 4 || lines[0] != kFirstLine) return refuse("is of another version");
    if (lines[1] != "device " + whom.device) return refuse("was made on another GPU");
    if (lines[2] != "driver " + whom.driver) return refuse("was made with another driver");
    if (lines[3] != fmt::format("shaders {:016x}", whom.shaders))
        return refuse("was made with other shaders");
    TunedShapes shapes;
    for (std::size_t i = 4; i < lines.size(); ++i) {
        const auto entry = parse_line(lines[i]);
        if (!entry) return refuse(fmt::format("has a line that says nothing: '{}'", lines[i]));
        if (const auto valid = check_shape(limits, entry->first, entry->second); !valid) {
            return refuse(fmt::format("has a shape that this GPU cannot use ({}): '{}'",
                                      valid.error().message, lines[i]));
        }
        shapes.insert_or_assign(entry->first, entry->second);
    }
    return shapes;
}

std::string tuned_shapes_path(const std::string& folder,
                              std::span<const std::uint8_t> device_uuid) {
    return folder.empty() ? "" : folder + "/matmul-" + hexadecimal(device_uuid) + ".shapes";
}

Result<TunedShapes> load_tuned_shapes(const std::string& path, const TunedFor& whom,
                                      const ShapeLimits& limits) {
    const auto text = read_file(path, kMaxBytes);
    if (!text && text.error().code == ErrorCode::not_found) return TunedShapes();
    auto shapes = text ? parse_tuned_shapes(*text, whom, limits)
                       : Result<TunedShapes>(tl::unexpected(text.error()));
    if (shapes) return shapes;
    const std::string& why = shapes.error().message;
    return fail(shapes.error().code, "{}{}; not used: unicorn tune --gpu --apply makes it anew",
                text ? path + " " : "", why);
}

Status store_tuned_shapes(const std::string& path, const TunedFor& whom,
                          const TunedShapes& shapes) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    auto writer = FileWriter::create(path);  // says what is wrong with the folder
    if (!writer) return forward(writer);
    if (auto s = writer->write(format_tuned_shapes(whom, shapes)); !s) return s;
    return writer->commit();
}

}  // namespace unicorn::backends::vulkan
