#include "report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "backends/vulkan/matmul.h"
#include "base/check.h"
#include "tensor/dtype.h"

namespace unicorn::shader_report {
namespace {

// VGPRs of a SIMD of the 780M, as its 32 lanes see them: a subgroup of 32 with 256 of them leaves
// room for 4. RADV counts subgroups of 64 twice, so this holds for them, too.
constexpr std::uint32_t kSimdVgprs = 1024;

/// How a specialisation constant is shown.
enum class As { number, type, form, epilogue, flag, hidden };

struct Constant {
    std::string_view name;
    As as = As::number;
};

/// What a shader must have.
struct Shader {
    std::string_view name;
    std::vector<Constant> constants;
    std::string_view instruction = {};  // "v_wmma", "v_dot4", or none
};

const Shader kShaders[] = {
    {"add_norm", {{"workgroup"}, {"adds", As::hidden}, {"also", As::form}}},
    {"attend_matrices",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"E"},
      {"cache", As::type},
      {"heads of a KV head"},
      {"BQ"},
      {"BK"},
      {"chunk"},
      {"WR"},
      {"WC"},
      {"TM"},
      {"TN"},
      {"TK"}},
     "v_wmma"},
    {"attend_rows",
     {{"E"}, {"cache", As::type}, {"heads of a KV head"}, {"int8 out", As::flag}, {"workgroup"}}},
    {"attend_tiles", {{"E"}, {"cache", As::type}, {"heads of a KV head"}}},
    {"embed", {{"workgroup"}, {"type", As::type}}},
    {"gated_gelu", {{"workgroup"}}},
    {"gather_rows", {{"workgroup"}}},
    {"matmul_coopmat",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"epilogue", As::epilogue},
      {"BM"},
      {"BN"},
      {"BK"},
      {"WM"},
      {"WN"},
      {"TM"},
      {"TN"},
      {"TK"},
      {"buffers"},
      {"split", As::flag}},
     "v_wmma"},
    {"matmul_coopmat_int8",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"epilogue", As::epilogue},
      {"BM"},
      {"BN"},
      {"BK"},
      {"WM"},
      {"parts"},
      {"TM"},
      {"TN"},
      {"TK"},
      {"split", As::flag},
      {"int8 out", As::flag}},
     "v_wmma"},
    {"matmul_quantize", {{"workgroup"}, {"form", As::form}}},
    {"matmul_reduce", {{"workgroup"}, {"epilogue", As::epilogue}}},
    {"matvec_dot4",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"T"},
      {"epilogue", As::epilogue},
      {"panels"},
      {"unroll"},
      {"lane rows"},
      {"int8 out", As::flag}},
     "v_dot4"},
    {"matvec_norm",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"T"},
      {"epilogue", As::hidden},
      {"panels"},
      {"unroll"},
      {"lane rows"},
      {"int8 out", As::hidden},
      {"also", As::form}},
     "v_dot4"},
    {"matvec_plain",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"T"},
      {"epilogue", As::epilogue},
      {"panels"},
      {"unroll"},
      {"lane rows"},
      {"int8 out", As::flag}}},
    {"matvec_qkv",
     {{"workgroup"},
      {"subgroup", As::hidden},
      {"type", As::type},
      {"T"},
      {"epilogue", As::hidden},
      {"panels"},
      {"unroll"},
      {"lane rows"},
      {"int8 out", As::hidden},
      {"E"},
      {"cache", As::type}},
     "v_dot4"},
    {"pick_largest", {}},
    {"qkv_to_cache", {{"workgroup"}, {"E"}, {"cache", As::type}}},
    {"rms_norm", {{"workgroup"}, {"adds", As::hidden}, {"also", As::form}}},
    {"sample_adjust", {}},
    {"sample_collect", {}},
    {"sample_count", {}},
    {"sample_draw", {}},
};

/// Variants that have the same floor: subgroups of 32 lanes on a SIMD.
struct Floor {
    std::string_view kind;
    std::uint32_t subgroups;
    std::string_view why;

    /// VGPRs that still leave room for `subgroups`; they are given out in 16s.
    std::uint32_t most_vgprs() const { return std::min(256u, kSimdVgprs / subgroups / 16 * 16); }
};

constexpr Floor kFloors[] = {
    {"matvec_dot4, 1 row", 16,
     "Decoding waits for memory. At 16 subgroups, with one load of 16 bytes a lane, 24 SIMDs have "
     "197 kB in flight: 90 GB/s then stand a latency of 2 us. All that a SIMD holds."},
    {"matvec_plain, 1 row", 12,
     "The same; f32 activations need more registers. 147 kB in flight stand 1.6 us."},
    {"matvec, 2 to 8 rows", 8,
     "Sums and activations of more rows are in registers. An invocation has 2 to 4 rows of weights "
     "(f32: 1), whose loads do not wait for each other: half the subgroups then have as much in "
     "flight as one row's 16."},
    {"matmul, up to 16 rows", 6,
     "The weights are still most of the traffic, so more subgroups than for larger tiles. Shared "
     "memory, not registers, sets the number that most of these have."},
    {"matmul, up to 32 rows", 5, "Between the two beside it."},
    {"matmul, more rows", 4,
     "Each subgroup has 8 sums of 16 x 16 that do not wait for each other, which keeps matrix "
     "units "
     "busy with few subgroups; registers that hold sums save more reads. 256 VGPRs are all that an "
     "instruction can name, so what RADV would have to spill shows as spilled."},
    {"attention", 8,
     "Queries and sums of several heads (attend_rows) or of a tile (attend_tiles) are in "
     "registers, "
     "so that each key is read once for all of them."},
    {"attention, matrices", 4,
     "A workgroup keeps its queries, a block of scores and a part of K or V in shared memory, "
     "which "
     "sets the number; its sums are in registers. As for products, a subgroup has several matrices "
     "that do not wait for each other."},
    {"rows", 16,
     "Norms, embed, RoPE and KV write, quantising, sampling: little arithmetic over "
     "activations, bound by latency."},
};

const Floor& floor_named(std::string_view kind) {
    const auto* found = std::ranges::find(kFloors, kind, &Floor::kind);
    UNICORN_CHECK(found != std::end(kFloors));
    return *found;
}

const Shader* find_shader(const VariantKey& key) {
    const auto* found = std::ranges::find(kShaders, key.shader, &Shader::name);
    if (found == std::end(kShaders) || found->constants.size() != key.constants.size())
        return nullptr;
    return found;
}

std::optional<std::uint32_t> constant(const Shader& shader, const VariantKey& key,
                                      std::string_view name) {
    const auto found = std::ranges::find(shader.constants, name, &Constant::name);
    if (found == shader.constants.end()) return std::nullopt;
    return key.constants[static_cast<std::size_t>(found - shader.constants.begin())];
}

const Floor& floor_of(const Shader& shader, const VariantKey& key) {
    if (shader.name.starts_with("matvec")) {
        if (constant(shader, key, "T") != 1) return floor_named("matvec, 2 to 8 rows");
        return floor_named(shader.instruction == "v_dot4" ? "matvec_dot4, 1 row"
                                                          : "matvec_plain, 1 row");
    }
    if (const auto columns = constant(shader, key, "BN")) {
        return floor_named(*columns <= 16   ? "matmul, up to 16 rows"
                           : *columns <= 32 ? "matmul, up to 32 rows"
                                            : "matmul, more rows");
    }
    if (shader.name == "attend_matrices") return floor_named("attention, matrices");
    return floor_named(shader.name.starts_with("attend") ? "attention" : "rows");
}

std::string text(const Constant& constant, std::uint32_t value) {
    using backends::vulkan::Epilogue;
    using backends::vulkan::InputForm;
    switch (constant.as) {
        case As::number:
        case As::hidden: return fmt::format("{}", value);
        case As::type: {
            const auto type = tensor::dtype_from_id(value);
            return type ? std::string(tensor::name(*type)) : fmt::format("type {}", value);
        }
        case As::form:
            return value == static_cast<std::uint32_t>(InputForm::int8)  ? "int8"
                   : value == static_cast<std::uint32_t>(InputForm::f16) ? "f16"
                                                                         : "f32";
        case As::epilogue:
            return value == static_cast<std::uint32_t>(Epilogue::gelu)   ? "gelu"
                   : value == static_cast<std::uint32_t>(Epilogue::silu) ? "silu"
                                                                         : "-";
        case As::flag: return value != 0 ? "yes" : "-";
    }
    return {};
}

/// "matvec_dot4 (type q4_0, T 4)": for failures.
std::string describe(const Shader* shader, const VariantKey& key) {
    if (shader == nullptr)
        return fmt::format("{} ({})", key.shader, fmt::join(key.constants, ", "));
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < key.constants.size(); ++i) {
        const Constant& c = shader->constants[i];
        if (c.as != As::hidden)
            parts.push_back(fmt::format("{} {}", c.name, text(c, key.constants[i])));
    }
    return fmt::format("{} ({})", key.shader, fmt::join(parts, ", "));
}

/// Columns of the tables, by RADV's names.
constexpr std::array kColumns = {"VGPRs",
                                 "SGPRs",
                                 "LDS size",
                                 "Spilled VGPRs",
                                 "Spilled SGPRs",
                                 "Scratch size",
                                 "Subgroups per SIMD",
                                 "Code size",
                                 "Instructions",
                                 "Inverse Throughput"};

std::string row(std::span<const std::string> cells) {
    return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

std::string header(std::span<const std::string> cells) {
    std::string out = row(cells) + "|";
    for (std::size_t i = 0; i < cells.size(); ++i) out += "---|";
    return out + "\n";
}

/// "32 to 48", or "32".
std::string range(double low, double high) {
    return low == high ? fmt::format("{}", low) : fmt::format("{} to {}", low, high);
}

std::string summary(const Report& report) {
    std::string out = header(std::vector<std::string>{"kind", "variants", "VGPRs", "at most",
                                                      "subgroups per SIMD", "at least", "LDS bytes",
                                                      "spilled, scratch"});
    for (const Floor& floor : kFloors) {
        std::size_t n = 0;
        double vgprs[2] = {1e9, 0}, subgroups[2] = {1e9, 0}, lds[2] = {1e9, 0}, spilled = 0;
        for (const auto& [key, variant] : report.variants) {
            const Shader* shader = find_shader(key);
            if (shader == nullptr || &floor_of(*shader, key) != &floor) continue;
            ++n;
            const auto extend = [&](double(&to)[2], const char* name) {
                to[0] = std::min(to[0], variant.value(name));
                to[1] = std::max(to[1], variant.value(name));
            };
            extend(vgprs, "VGPRs");
            extend(subgroups, "Subgroups per SIMD");
            extend(lds, "LDS size");
            spilled += variant.value("Spilled VGPRs") + variant.value("Spilled SGPRs") +
                       variant.value("Scratch size");
        }
        if (n == 0) continue;
        out += row(std::vector<std::string>{
            std::string(floor.kind), fmt::format("{}", n), range(vgprs[0], vgprs[1]),
            fmt::format("{}", floor.most_vgprs()), range(subgroups[0], subgroups[1]),
            fmt::format("{}", floor.subgroups), range(lds[0], lds[1]), fmt::format("{}", spilled)});
    }
    return out;
}

}  // namespace

std::vector<std::string> find_failures(const Report& report) {
    std::vector<std::string> failures;
    for (const auto& [key, variant] : report.variants) {
        const Shader* shader = find_shader(key);
        const std::string name = describe(shader, key);
        const auto fails = [&]<typename... Args>(fmt::format_string<Args...> format,
                                                 Args&&... args) {
            failures.push_back(name + ": " + fmt::format(format, std::forward<Args>(args)...));
        };
        for (const char* column : kColumns)
            if (!variant.statistics.contains(column)) fails("the driver tells no {}", column);
        for (const char* column : {"Spilled VGPRs", "Spilled SGPRs", "Scratch size"})
            if (const double n = variant.value(column); n > 0) fails("{} {}", column, n);
        if (shader == nullptr) {
            fails(
                "has no entry, or another number of constants, in tools/shader_report/report.cpp");
            continue;
        }
        const std::size_t found = shader->instruction == "v_wmma" ? variant.n_wmma : variant.n_dot4;
        if (!shader->instruction.empty() && found == 0) fails("no {}", shader->instruction);
        const Floor& floor = floor_of(*shader, key);
        if (const double n = variant.value("VGPRs"); n > floor.most_vgprs())
            fails("{} VGPRs, at most {} for {}", n, floor.most_vgprs(), floor.kind);
        if (const double n = variant.value("Subgroups per SIMD"); n < floor.subgroups)
            fails("{} subgroups per SIMD, at least {} for {}", n, floor.subgroups, floor.kind);
    }
    return failures;
}

std::string driver_line(const Report& report) {
    return fmt::format("{}, {}", report.driver, report.device);
}

std::string to_markdown(const Report& report) {
    const std::vector<std::string> failures = find_failures(report);
    std::string out = fmt::format(
        "# Shaders on the Radeon 780M\n\n"
        "<!-- Made by unicorn-shader-report: cmake --build <build folder> --target shader_report "
        "-->"
        "\n\n"
        "What RADV makes of every pipeline that Gemma 3 27B, 4B, 1B and the bundled model use on a "
        "Radeon\n780M (RDNA3, 12 compute units of 2 SIMDs): compiled without the hardware "
        "(`RADV_FORCE_FAMILY=phoenix`),\n**never run**. The numbers are the compiler's, of this "
        "version:\n\n    {}\n\n"
        "A test compiles everything again and fails on anything spilled, on scratch memory, on "
        "matrix kernels\nwithout `v_wmma` (coopmat) or `v_dot4` (dot4), on more VGPRs or fewer "
        "subgroups than the table of\nkinds allows, and when this file is not what it finds. With "
        "another build of Mesa the numbers are not\ncompared. The validation layer is off: Debian "
        "12's knows no cooperative matrices, and would hide them;\nspirv-val has looked at every "
        "shader when it was built.\n\n"
        "Variants: matrices of every type and the recipes `q4_k_m` and `mixed`; the path the "
        "device takes by itself\n(coopmat: matvec_dot4 for up to 8 rows of quantised weights, "
        "matvec_plain for up to 2 of floats) and\nthose that `UNICORN_VK_MATMUL` forces (dot4, "
        "plain); prompts of 1 to 512 rows, 1 to 64 sequences decoding\nat short and long contexts; "
        "KV caches of f16, q8_0 and f32. The bandwidth probe of `doctor` and `tune` has\na test of "
        "its own (radv_null_test). Column names are RADV's; sizes are bytes. \"Subgroups per "
        "SIMD\" counts a\nsubgroup of 64 as two of 32, so 16 is full for subgroups of 32 and 32 "
        "for those of 64. \"Inverse\nThroughput\" is RADV's estimate of cycles, loops counted as "
        "it guesses; it compares variants of one shader.\n\n"
        "## Kinds, and what is asked of them\n\n",
        driver_line(report));
    out += summary(report);
    out += "\n";
    for (const Floor& floor : kFloors)
        out += fmt::format("- **{}**: at least {}. {}\n", floor.kind, floor.subgroups, floor.why);
    out += "\n";
    if (failures.empty()) {
        out += fmt::format("{} variants; none fails.\n", report.variants.size());
    } else {
        out += fmt::format("{} variants; known failures:\n\n", report.variants.size());
        for (const std::string& line : failures) out += fmt::format("- {}\n", line);
    }

    const Shader* last = nullptr;
    for (const auto& [key, variant] : report.variants) {
        const Shader* shader = find_shader(key);
        if (shader == nullptr) continue;
        if (shader != last) {
            std::vector<std::string> cells;
            for (const Constant& c : shader->constants)
                if (c.as != As::hidden) cells.emplace_back(c.name);
            cells.emplace_back("subgroup");
            cells.insert(cells.end(), kColumns.begin(), kColumns.end());
            if (!shader->instruction.empty()) cells.emplace_back(shader->instruction);
            out += fmt::format("\n## {}\n\n{}", shader->name, header(cells));
            last = shader;
        }
        std::vector<std::string> cells;
        for (std::size_t i = 0; i < key.constants.size(); ++i) {
            const Constant& c = shader->constants[i];
            if (c.as != As::hidden) cells.push_back(text(c, key.constants[i]));
        }
        cells.push_back(fmt::format("{}", variant.subgroup_size));
        for (const char* column : kColumns)
            cells.push_back(fmt::format("{}", variant.value(column)));
        if (shader->instruction == "v_wmma") cells.push_back(fmt::format("{}", variant.n_wmma));
        if (shader->instruction == "v_dot4") cells.push_back(fmt::format("{}", variant.n_dot4));
        out += row(cells);
    }
    return out;
}

std::string to_json(const Report& report) {
    nlohmann::ordered_json json = {{"device", report.device}, {"driver", report.driver}};
    auto& variants = json["variants"] = nlohmann::ordered_json::array();
    for (const auto& [key, variant] : report.variants) {
        nlohmann::ordered_json constants;
        const Shader* shader = find_shader(key);
        for (std::size_t i = 0; i < key.constants.size(); ++i) {
            const std::uint32_t value = key.constants[i];
            if (shader == nullptr) {
                constants[fmt::format("{}", i)] = value;
                continue;
            }
            const Constant& c = shader->constants[i];
            auto& shown = constants[std::string(c.name)];
            if (c.as == As::number || c.as == As::hidden) {
                shown = value;
            } else if (c.as == As::flag) {
                shown = value != 0;
            } else {
                shown = text(c, value);
            }
        }
        variants.push_back({{"shader", key.shader},
                            {"constants", std::move(constants)},
                            {"subgroup_size", variant.subgroup_size},
                            {"statistics", variant.statistics},
                            {"v_wmma", variant.n_wmma},
                            {"v_dot4", variant.n_dot4}});
    }
    json["failures"] = find_failures(report);
    return json.dump(1) + "\n";
}

}  // namespace unicorn::shader_report
