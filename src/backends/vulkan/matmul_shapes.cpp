#include "backends/vulkan/matmul_shapes.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string>

#include "kernels/gpu_tiles.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::uint32_t kTile = kernels::kTileRows;

bool is_matvec(ProductShader shader) { return shader != ProductShader::matmul_coopmat; }

// ---- families

std::string upper(std::string_view text) {
    std::string out(text);
    std::ranges::transform(out, out.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return out;
}

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

/// Whether a word of `text` begins with `start`, `digits` digits and no digit more.
bool has_word(std::string_view text, std::string_view start, std::size_t digits) {
    for (std::size_t at = text.find(start); at != std::string_view::npos;
         at = text.find(start, at + 1)) {
        if (at > 0 && std::isalnum(static_cast<unsigned char>(text[at - 1])) != 0) continue;
        const std::string_view rest = text.substr(at + start.size());
        const auto end = std::ranges::find_if_not(rest, is_digit);
        if (static_cast<std::size_t>(end - rest.begin()) == digits) return true;
    }
    return false;
}

/// A word of a device's name, with so many digits after it. Mesa puts the chip's name behind the
/// product's ("AMD Radeon 780M (RADV PHOENIX)"), AMD's own drivers give the product's alone.
struct NameWord {
    std::string_view start;
    std::size_t digits;
    GpuFamily family;
};

constexpr NameWord kAmdNames[] = {
    {"PHOENIX", 0, GpuFamily::rdna3},   {"PHOENIX", 1, GpuFamily::rdna3},
    {"GFX110", 1, GpuFamily::rdna3},    {"NAVI3", 1, GpuFamily::rdna3},
    {"740M", 0, GpuFamily::rdna3},      {"760M", 0, GpuFamily::rdna3},
    {"780M", 0, GpuFamily::rdna3},      {"RX 7", 3, GpuFamily::rdna3},
    {"PRO W7", 3, GpuFamily::rdna3},    {"GFX115", 1, GpuFamily::rdna3_5},
    {"STRIX", 0, GpuFamily::rdna3_5},   {"STRIX", 1, GpuFamily::rdna3_5},
    {"KRACKAN", 1, GpuFamily::rdna3_5}, {"840M", 0, GpuFamily::rdna3_5},
    {"860M", 0, GpuFamily::rdna3_5},    {"880M", 0, GpuFamily::rdna3_5},
    {"890M", 0, GpuFamily::rdna3_5},    {"8040S", 0, GpuFamily::rdna3_5},
    {"8050S", 0, GpuFamily::rdna3_5},   {"8060S", 0, GpuFamily::rdna3_5},
};

// ---- defaults

enum class Weights : std::uint8_t { any, f32, floats, q8_0, q6_k, two_bits };

bool is_of(Weights weights, tensor::DType type) {
    switch (weights) {
        case Weights::any: return true;
        case Weights::f32: return type == tensor::DType::f32;
        case Weights::floats: return !tensor::info(type).quantized;
        case Weights::q8_0: return type == tensor::DType::q8_0;
        case Weights::q6_k: return type == tensor::DType::q6_k;
        case Weights::two_bits: return kernels::gpu_tile(type).unit_cols > 32;
    }
    return false;
}

/// Which products a shape is for. The first rule of a table that fits is taken.
struct MatvecRule {
    Weights weights;
    ProductUse use;
    bool any_use;
    std::uint32_t most_rows;   // of activations
    std::uint32_t from_units;  // of columns
    MatvecShape shape;
    std::uint32_t from_rows = 0;  // of weights
};
constexpr std::uint32_t kAny = UINT32_MAX;
constexpr std::uint32_t kHead = 65536;  // rows that only a head has

// By search on an H200 at Gemma 3 27B's shapes; others may differ by 10 %. More floats than these
// leave the registers. Two panels make a group of int8.
constexpr MatvecRule kNvidiaMatvec[] = {
    {Weights::f32, ProductUse::single, true, kAny, 0, {.lane_rows = 1}},
    {Weights::floats, ProductUse::single, false, kAny, 0, {.lane_rows = 2}},
    {Weights::floats, ProductUse::gated, true, kAny, 0, {.lane_rows = 1}},
    {Weights::two_bits, ProductUse::gated_int8, false, kAny, 0, {128, 2, 1, 1}},
    {Weights::any, ProductUse::gated_int8, false, 1, 128, {512, 2, 1, 1}},
    {Weights::any, ProductUse::gated_int8, false, kAny, 0, {256, 2, 1, 1}},
    {Weights::any, ProductUse::gated, false, 1, 128, {512, 1, 1, 2}},
    {Weights::any, ProductUse::gated, false, 4, 0, {256, 1, 1, 2}},
    {Weights::any, ProductUse::gated, false, kAny, 0, {128, 1, 1, 2}},
    {Weights::q8_0, ProductUse::single, false, 2, 0, {256, 1, 1, 2}},
    {Weights::q6_k, ProductUse::single, false, 1, 0, {256, 1, 1, 2}},
    {Weights::q6_k, ProductUse::single, false, 4, 128, {256, 1, 1, 2}, kHead},
    {Weights::q6_k, ProductUse::single, false, 4, 0, {128, 1, 1, 2}, kHead},
    {Weights::any, ProductUse::single, false, 1, 128, {256, 1, 1, 4}},
    {Weights::any, ProductUse::single, false, 1, 0, {256, 1, 1, 2}},
    {Weights::any, ProductUse::single, false, 4, 160, {256, 1, 1, 4}},
    {Weights::any, ProductUse::single, false, 4, 128, {256, 1, 1, 2}},
    {Weights::any, ProductUse::single, true, kAny, 0, {256, 1, 1, 4}},
};

// RDNA3 and RDNA3.5: NVIDIA's. They have not run on one; docs/shader-report.md says of each that it
// fits the registers of a 780M, and how many subgroups a SIMD then holds.

// Intel: has not run. A thread has 4 KiB of registers, so 32 words for each of 32 lanes: half of
// the sums that the others keep.
constexpr MatvecRule kIntelMatvec[] = {
    {Weights::floats, ProductUse::single, true, kAny, 0, {.lane_rows = 1}},
    {Weights::any, ProductUse::gated_int8, false, kAny, 0, {128, 2, 1, 1}},
    {Weights::any, ProductUse::gated, false, kAny, 0, {128, 1, 1, 1}},
    {Weights::any, ProductUse::single, false, 4, 0, {128, 1, 1, 2}},
    {Weights::any, ProductUse::single, true, kAny, 0, {128, 1, 1, 1}},
};

// By measurement on lavapipe, where a workgroup is a thread's.
constexpr MatvecRule kSoftwareMatvec[] = {
    {Weights::any, ProductUse::gated_int8, false, kAny, 0, {64, 2, 1, 1}},
    {Weights::any, ProductUse::single, true, 2, 0, {64, 1, 1, 2}},
    {Weights::any, ProductUse::single, true, kAny, 0, {64, 1, 1, 1}},
};

/// Up to so many rows of activations.
struct MatmulRule {
    std::uint32_t most_rows;
    MatmulShape shape;
    bool gated_only = false;
};

// By search on an H200.
constexpr MatmulRule kNvidiaMatmul[] = {
    {16, {.bm = 128, .bn = 16, .wm = 32, .wn = 16}},
    {32, {.bm = 128, .bn = 32, .wm = 32, .wn = 32}},
    {64, {.bm = 128, .bn = 64, .bk = 32, .wm = 64, .wn = 32}, true},
    {64, {.bm = 128, .bn = 64, .wm = 64, .wn = 32}},
    {kAny, {.bm = 128, .bn = 128, .wm = 64, .wn = 64}},
};

// Has not run on RDNA3: 64 x 64 of the result in a subgroup spills there.
constexpr MatmulRule kOtherMatmul[] = {
    {16, {.bm = 128, .bn = 16, .wm = 32, .wn = 16}},
    {32, {.bm = 128, .bn = 32, .wm = 32, .wn = 32}},
    {kAny, {.bm = 128, .bn = 64, .wm = 64, .wn = 32}},
};

// Has not run: 32 x 32 of the result take a thread's 4 KiB, or half of what Xe2 can have.
constexpr MatmulRule kIntelMatmul[] = {
    {16, {.bm = 64, .bn = 16, .wm = 32, .wn = 16}},
    {32, {.bm = 64, .bn = 32, .wm = 32, .wn = 32}},
    {kAny, {.bm = 64, .bn = 64, .wm = 32, .wn = 32}},
};

constexpr MatmulRule kSoftwareMatmul[] = {
    {kAny, {.bm = 32, .bn = 16, .wm = 32, .wn = 16}},
};

struct FamilyDefaults {
    GpuFamily family;
    std::string_view name;
    std::span<const MatvecRule> matvec;
    std::span<const MatmulRule> matmul;
    // Rows that matvec takes: of types of 4 bits, and of other quantised ones. On an H200 packed
    // dot products have a quarter of the rate they need for more than 4 rows.
    std::uint32_t nibble_rows, other_rows;
};

// Only NVIDIA's (on an H200) and the software device's have been measured.
constexpr FamilyDefaults kDefaults[] = {
    {GpuFamily::rdna3, "RDNA3", kNvidiaMatvec, kOtherMatmul, 8, 8},
    {GpuFamily::rdna3_5, "RDNA3.5", kNvidiaMatvec, kOtherMatmul, 8, 8},
    {GpuFamily::nvidia, "NVIDIA", kNvidiaMatvec, kNvidiaMatmul, 8, 6},
    {GpuFamily::intel, "Intel", kIntelMatvec, kIntelMatmul, 8, 8},
    {GpuFamily::software, "software", kSoftwareMatvec, kSoftwareMatmul, 8, 8},
    {GpuFamily::other, "other", kNvidiaMatvec, kOtherMatmul, 8, 8},
};

const FamilyDefaults& defaults_of(GpuFamily family) {
    return kDefaults[static_cast<std::size_t>(family)];
}

// ---- validity

bool power_of_two_up_to(std::uint32_t n, std::uint32_t most) {
    return n > 0 && n <= most && (n & (n - 1)) == 0;
}

Status check_matvec(const ShapeLimits& limits, const ProductKey& key, const MatvecShape& s) {
    const auto wrong = [](std::string_view what) {
        return fail(ErrorCode::invalid_argument, "{}", what);
    };
    if (s.invocations == 0 || s.invocations > limits.invocations)
        return wrong("more invocations than a workgroup has, or none");
    if (s.invocations % kTile != 0 || s.invocations % limits.subgroup != 0)
        return wrong("invocations are no multiple of 16 and of the subgroup");
    if (s.panels == 0 || s.panels > 4 || s.unroll == 0 || s.unroll > 4)
        return wrong("panels and unroll are 1 to 4");
    if (!power_of_two_up_to(s.lane_rows, 4)) return wrong("rows of an invocation are 1, 2 or 4");
    const bool int8 = key.use == ProductUse::gated_int8;
    if (int8 && s.panels != 2) return wrong("a group of int8 takes two panels");
    const std::uint32_t t = std::min(key.n_rows, kMostMatvecRows);
    if (int8 && s.invocations < 4 * t) return wrong("too few invocations to write int8");
    const std::uint32_t tiles = key.use == ProductUse::single ? s.panels : 2 * s.panels;
    const std::uint32_t sums = tiles * s.lane_rows * t;
    const std::uint32_t row_lanes = kTile / s.lane_rows;
    const std::uint32_t parts = s.invocations / std::max(limits.subgroup, row_lanes);
    const std::uint32_t words = parts * sums * row_lanes + (int8 ? 2 * kTile * t : 1);
    if (4 * words > limits.shared_bytes) return wrong("more shared memory than a workgroup has");
    return {};
}

Status check_matmul(const ShapeLimits& limits, const ProductKey& key, const MatmulShape& s) {
    const auto wrong = [](std::string_view what) {
        return fail(ErrorCode::invalid_argument, "{}", what);
    };
    const MatrixShape& matrix = limits.matrix;
    if (matrix.m == 0) return wrong("this device has no matrix units");
    const std::uint32_t rows = key.use == ProductUse::single ? kTile : 2 * kTile;
    constexpr std::uint32_t kMost = 512;  // keeps the products below small
    for (const std::uint32_t n : {s.bm, s.bn, s.bk, s.wm, s.wn})
        if (n == 0 || n > kMost) return wrong("sizes are 1 to 512");
    if (s.wm % rows != 0 || s.wm % matrix.m != 0 || s.bm % s.wm != 0)
        return wrong("rows of weights do not divide evenly");
    if (s.wn % matrix.n != 0 || s.bn % s.wn != 0)
        return wrong("rows of activations do not divide evenly");
    if (s.bk % 32 != 0 || s.bk % matrix.k != 0) return wrong("columns do not divide evenly");
    if (s.buffers != 1 && s.buffers != 2) return wrong("there are 1 or 2 buffers");
    if (s.splits > kMostSplits) return wrong("too many parts of the columns");
    const std::uint32_t invocations = s.bm / s.wm * (s.bn / s.wn) * limits.subgroup;
    if (invocations > limits.invocations) return wrong("more invocations than a workgroup has");
    // Each decodes 8 or 16 columns of a row, or as many times 32.
    const std::uint32_t each = s.bm * s.bk / invocations;
    if (s.bm * s.bk % invocations != 0 || (each != 8 && each != 16 && each % 32 != 0) || each == 0)
        return wrong("weights do not divide evenly among the invocations");
    const std::uint32_t staged = s.buffers * (s.bm + s.bn) * (s.bk / 8 + 1);
    const std::uint32_t results = invocations / limits.subgroup * s.wm * matrix.n / 4;
    if (16 * std::max(staged, results) > limits.shared_bytes)
        return wrong("more shared memory than a workgroup has");
    return {};
}

}  // namespace

std::string_view name(ProductShader shader) {
    switch (shader) {
        case ProductShader::matvec_plain: return "matvec_plain";
        case ProductShader::matvec_dot4: return "matvec_dot4";
        case ProductShader::matmul_coopmat: return "matmul_coopmat";
    }
    return "";
}

std::string_view name(ProductUse use) {
    switch (use) {
        case ProductUse::single: return "single";
        case ProductUse::gated: return "gated";
        case ProductUse::gated_int8: return "gated_int8";
    }
    return "";
}

std::string_view name(GpuFamily family) { return defaults_of(family).name; }

std::uint32_t row_class(std::uint32_t n_rows) {
    return *std::ranges::find_if(kRowClasses, [&](std::uint32_t most) { return n_rows <= most; });
}

Status check_shape(const ShapeLimits& limits, const ProductKey& key, const ProductShape& shape) {
    const auto* matvec = std::get_if<MatvecShape>(&shape);
    if ((matvec != nullptr) != is_matvec(key.shader))
        return fail(ErrorCode::invalid_argument, "a shape of another shader");
    if (matvec != nullptr) return check_matvec(limits, key, *matvec);
    return check_matmul(limits, key, std::get<MatmulShape>(shape));
}

GpuFamily family_of(const DeviceDescription& device) {
    constexpr std::uint32_t kAmd = 0x1002, kNvidia = 0x10DE, kIntel = 0x8086;
    if (device.is_software()) return GpuFamily::software;
    if (device.vendor_id == kNvidia) return GpuFamily::nvidia;
    if (device.vendor_id == kIntel) return GpuFamily::intel;
    if (device.vendor_id != kAmd) return GpuFamily::other;
    const std::string text = upper(device.name);
    const auto* found = std::ranges::find_if(
        kAmdNames, [&](const NameWord& word) { return has_word(text, word.start, word.digits); });
    return found == std::end(kAmdNames) ? GpuFamily::other : found->family;
}

MatvecShape default_matvec_shape(GpuFamily family, const ProductKey& key) {
    const std::uint32_t units =
        key.cols / static_cast<std::uint32_t>(kernels::gpu_tile(key.type).unit_cols);
    const auto fits = [&](const MatvecRule& rule) {
        return is_of(rule.weights, key.type) && (rule.any_use || rule.use == key.use) &&
               key.n_rows <= rule.most_rows && units >= rule.from_units &&
               key.rows >= rule.from_rows;
    };
    // The last rule of each table fits everything.
    return std::ranges::find_if(defaults_of(family).matvec, fits)->shape;
}

MatmulShape default_matmul_shape(GpuFamily family, const ProductKey& key) {
    const auto fits = [&](const MatmulRule& rule) {
        return key.n_rows <= rule.most_rows && (!rule.gated_only || key.use != ProductUse::single);
    };
    return std::ranges::find_if(defaults_of(family).matmul, fits)->shape;
}

std::uint32_t default_matvec_rows(GpuFamily family, tensor::DType type) {
    if (!tensor::info(type).quantized) return 2;
    const bool nibbles = type == tensor::DType::q4_0 || type == tensor::DType::q4_k;
    return nibbles ? defaults_of(family).nibble_rows : defaults_of(family).other_rows;
}

}  // namespace unicorn::backends::vulkan
