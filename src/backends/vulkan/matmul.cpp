#include "backends/vulkan/matmul.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "backends/vulkan/matmul.params.h"
#include "backends/vulkan/matmul_coopmat.comp.h"
#include "backends/vulkan/matmul_quantize.comp.h"
#include "backends/vulkan/matmul_reduce.comp.h"
#include "backends/vulkan/matvec_dot4.comp.h"
#include "backends/vulkan/matvec_norm.comp.h"
#include "backends/vulkan/matvec_plain.comp.h"
#include "backends/vulkan/matvec_qkv.comp.h"
#include "base/check.h"
#include "kernels/gpu_tiles.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::uint32_t kTile = kernels::kTileRows;
constexpr std::uint32_t kMostMatvecRows = 8;
// With more, a workgroup of two panels takes longer than a dispatch that quantises (on an H200).
constexpr std::uint32_t kMostInt8Rows = 4;
constexpr std::uint32_t kMostSplits = 12;
constexpr std::size_t kPartialBytes = std::size_t{32} << 20;

/// What matvec.glsl reads where it finishes.
template <typename Finish>
struct FinishParams {
    MatmulParams product;
    Finish finish;
    std::uint64_t done;
};

bool is_float(tensor::DType type) { return !tensor::info(type).quantized; }

std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }

Result<MatmulPath> path_named(std::string_view text) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat})
        if (text == name(path)) return path;
    return fail(ErrorCode::invalid_argument,
                "UNICORN_VK_MATMUL is \"{}\"; it can be coopmat, dot4 or plain", text);
}

/// The parameters that do not depend on the kernel.
MatmulParams params_of(const MatmulCall& call, InputForm form) {
    MatmulParams params = {};
    for (std::uint32_t i = 0; i < call.count; ++i) {
        params.weights[i] = call.weights[i].address;
        params.outs[i] = call.outs[i];
        params.out_rows[i] = call.weights[i].rows;
    }
    params.x = call.x[static_cast<std::size_t>(form)];
    params.int8 = call.int8_out;
    params.n_rows = call.n_rows;
    params.cols = call.cols;
    return params;
}

/// Workgroups that take `rows_each` rows each, all matrices'.
std::uint32_t row_groups(const MatmulCall& call, std::uint32_t rows_each) {
    if (call.epilogue != Epilogue::none) return ceil_div(call.weights[0].rows, rows_each / 2);
    std::uint32_t groups = 0;
    for (std::uint32_t i = 0; i < call.count; ++i)
        groups += ceil_div(call.weights[i].rows, rows_each);
    return groups;
}

}  // namespace

std::string_view name(MatmulPath path) {
    switch (path) {
        case MatmulPath::plain: return "plain";
        case MatmulPath::dot4: return "dot4";
        case MatmulPath::coopmat: return "coopmat";
    }
    return "";
}

Result<std::unique_ptr<Matmul>> Matmul::create(VulkanDevice& device) {
    if (const char* forced = std::getenv("UNICORN_VK_MATMUL"); forced != nullptr && *forced != 0) {
        const auto path = path_named(forced);
        if (!path) return tl::unexpected(path.error());
        return create(device, *path);
    }
    // A software device has matrices and packed dot products too, and is no faster with them.
    const Capabilities& c = device.capabilities();
    if (c.description.is_software()) return create(device, MatmulPath::dot4);
    auto matrices = create(device, MatmulPath::coopmat);
    if (matrices || matrices.error().code != ErrorCode::unsupported) return matrices;
    return create(device, c.dot4_accelerated ? MatmulPath::dot4 : MatmulPath::plain);
}

Result<std::unique_ptr<Matmul>> Matmul::create(VulkanDevice& device, MatmulPath path) {
    std::unique_ptr<Matmul> self(new Matmul(device, path));
    const Capabilities& c = device.capabilities();
    // 32 where there is a choice: RDNA computes 32 at a time.
    self->subgroup_ = std::clamp<std::uint32_t>(32, c.min_subgroup_size, c.max_subgroup_size);
    if (path == MatmulPath::coopmat) {
        if (auto s = self->find_matrices(); !s) return forward(s);
        if (!c.compiles_only) {
            auto partial =
                VulkanBuffer::create(device, kPartialBytes, *c.tier(memory::Tier::vram), false);
            if (!partial) return forward(partial);
            self->partial_ = std::move(*partial);
        }
    }
    return self;
}

Status Matmul::find_matrices() {
    const auto size = [](const MatrixShape& s) { return s.m * s.n * s.k; };
    for (const MatrixShape& s : device_.capabilities().matrix_shapes) {
        if (s.a != VK_COMPONENT_TYPE_FLOAT16_KHR || s.b != s.a ||
            s.c != VK_COMPONENT_TYPE_FLOAT32_KHR || s.result != s.c)
            continue;
        if (s.m % 4 != 0 || s.k % 8 != 0 || 16 % s.m != 0 || 16 % s.n != 0 || 32 % s.k != 0)
            continue;
        if (size(s) > size(matrix_)) matrix_ = s;
    }
    if (size(matrix_) == 0) {
        return fail(ErrorCode::unsupported, "{}: has no cooperative matrices of f16 with f32 sums",
                    device_.name());
    }
    return {};
}

// How many rows the matvec shaders take before matrix units are faster. On an H200, where packed
// dot products have a quarter of the rate they need for more than 4 rows: by measurement.
std::uint32_t Matmul::most_matvec_rows(tensor::DType type) const {
    if (overrides.most_matvec_rows) return *overrides.most_matvec_rows;
    if (is_float(type)) return 2;
    if (device_.capabilities().description.type != DeviceType::discrete) return kMostMatvecRows;
    const bool nibbles = type == tensor::DType::q4_0 || type == tensor::DType::q4_k;
    return nibbles ? kMostMatvecRows : 6;
}

InputForm Matmul::input_form(tensor::DType type, std::size_t n_rows) const {
    if (path_ == MatmulPath::coopmat && n_rows > most_matvec_rows(type)) return InputForm::f16;
    if (path_ == MatmulPath::plain || is_float(type)) return InputForm::f32;
    return InputForm::int8;
}

bool Matmul::writes_int8(const MatmulCall& call) const {
    return call.epilogue != Epilogue::none && call.weights[0].rows % 32 == 0 &&
           call.n_rows <= kMostInt8Rows &&
           input_form(call.weights[0].type, call.n_rows) == InputForm::int8;
}

// On an H200 each of the two makes decoding of one row by Gemma 3 1B 2 % faster. With more rows the
// last workgroup has them one after the other: 2 rows were 5 % slower than with dispatches of their
// own, 4 rows 16 %.
bool Matmul::finishes(const MatmulCall& call) const {
    const MatmulWeights& w = call.weights[0];
    const Capabilities& c = device_.capabilities();
    if (call.n_rows != 1 || call.epilogue != Epilogue::none ||
        input_form(w.type, call.n_rows) != InputForm::int8)
        return false;
    for (std::uint32_t i = 1; i < call.count; ++i)
        if (call.weights[i].type != w.type) return false;
    if (call.norm) {
        // More, and the workgroup would have to take a row in turns: 27B's 5,376 columns so cost
        // more than a dispatch, 2 % of a token.
        return call.count == 1 && w.rows % 32 == 0 &&
               w.rows <= 8 * matvec_shape(call).invocations &&
               sizeof(FinishParams<RmsNormParams>) <= c.max_push_constant_bytes;
    }
    const MatvecShape shape = matvec_shape(call);
    return call.cache && call.count == 3 && call.cache->head_dim % (shape.panels * kTile) == 0 &&
           call.cache->head_dim <= 2 * shape.invocations &&
           sizeof(FinishParams<QkvToCacheParams>) <= c.max_push_constant_bytes;
}

std::size_t Matmul::input_bytes(InputForm form, std::size_t n_rows, std::size_t cols) {
    switch (form) {
        case InputForm::f32: return n_rows * cols * 4;
        case InputForm::int8: return (n_rows * (cols + cols / 32 * 8) + 15) / 16 * 16;
        case InputForm::f16: return (n_rows * (cols * 2 + 4) + 15) / 16 * 16;
    }
    return 0;
}

Result<const Pipeline*> Matmul::pipeline(std::string_view name,
                                         std::span<const std::uint32_t> spirv,
                                         std::span<const std::uint32_t> constants,
                                         std::size_t params_bytes, std::uint32_t subgroup_size) {
    Key key = {std::string(name), {constants.begin(), constants.end()}};
    if (const auto found = pipelines_.find(key); found != pipelines_.end()) return &found->second;
    auto made = Pipeline::create(device_, {.name = name,
                                           .spirv = spirv,
                                           .push_constant_bytes = params_bytes,
                                           .constants = constants,
                                           .subgroup_size = subgroup_size,
                                           .keep_statistics = keep_statistics});
    if (!made) return forward(made);
    return &pipelines_.emplace(std::move(key), std::move(*made)).first->second;
}

void Matmul::each_pipeline(
    const std::function<void(std::string_view, std::span<const std::uint32_t>, const Pipeline&)>&
        use) const {
    for (const auto& [key, made] : pipelines_) use(key.name, key.constants, made);
}

Status Matmul::record_quantize(VkCommandBuffer commands, std::uint64_t x, std::uint32_t n_rows,
                               std::uint32_t cols, InputForm form, std::uint64_t to) {
    UNICORN_CHECK(cols % 32 == 0 && n_rows > 0 && form != InputForm::f32);
    // The scale of f16 is a row's: one workgroup has the row, as many invocations as it has work
    // for.
    const std::uint32_t octets = cols / 8;
    const std::uint32_t invocations =
        form == InputForm::int8 ? 256
                                : std::min(std::clamp(std::bit_ceil(octets), 256U, 1024U),
                                           device_.capabilities().max_workgroup_invocations);
    const std::uint32_t parts = form == InputForm::int8 ? ceil_div(octets, invocations) : 1;
    const std::uint32_t constants[] = {invocations, static_cast<std::uint32_t>(form)};
    const auto shader = pipeline("matmul_quantize", shaders::kMatmulQuantize, constants,
                                 sizeof(MatmulQuantizeParams), subgroup_);
    if (!shader) return tl::unexpected(shader.error());
    if (commands == VK_NULL_HANDLE) return {};
    const MatmulQuantizeParams params = {.x = x, .to = to, .n_rows = n_rows, .cols = cols};
    (*shader)->dispatch(commands, params, {n_rows, parts, 1});
    return {};
}

Status Matmul::record(VkCommandBuffer commands, const MatmulCall& call) {
    UNICORN_CHECK(call.n_rows > 0 && call.count >= 1 && call.count <= 3);
    if (call.epilogue != Epilogue::none) {
        UNICORN_CHECK(call.count == 2 && call.weights[0].type == call.weights[1].type &&
                      call.weights[0].rows == call.weights[1].rows);
        UNICORN_CHECK(call.int8_out == 0 || writes_int8(call));
        return record_same_type(commands, call);
    }
    if (call.norm || call.cache) {
        UNICORN_CHECK(finishes(call) && call.done != 0);
        return record_matvec(commands, call);
    }
    // Matrices of one type share a dispatch.
    for (std::uint32_t first = 0; first < call.count;) {
        // partial_ is used again.
        if (first > 0 && commands != VK_NULL_HANDLE) memory_barrier(device_, commands);
        MatmulCall part = call;
        part.count = 0;
        const tensor::DType type = call.weights[first].type;
        for (; first < call.count && call.weights[first].type == type; ++first) {
            part.weights[part.count] = call.weights[first];
            part.outs[part.count++] = call.outs[first];
        }
        if (auto s = record_same_type(commands, part); !s) return s;
    }
    return {};
}

Status Matmul::record_same_type(VkCommandBuffer commands, const MatmulCall& call) {
    UNICORN_CHECK(call.cols % kernels::gpu_tile_columns(call.weights[0].type) == 0);
    if (input_form(call.weights[0].type, call.n_rows) == InputForm::f16)
        return record_matmul(commands, call);
    return record_matvec(commands, call);
}

MatvecShape Matmul::matvec_shape(const MatmulCall& call) const {
    if (overrides.matvec) return *overrides.matvec;
    const tensor::DType type = call.weights[0].type;
    const bool gated = call.epilogue != Epilogue::none;
    if (device_.capabilities().description.is_software())
        return {.invocations = 64,
                .panels = call.int8_out != 0 ? 2U : 1U,
                .lane_rows = call.n_rows > 2 || call.int8_out != 0 ? 1U : 2U};
    // Found by search on an H200 at Gemma 3 27B's shapes; others may differ by 10 %.
    // More of these leave the registers.
    if (is_float(type)) return {.lane_rows = gated || type == tensor::DType::f32 ? 1U : 2U};
    const bool many_units = call.cols / kernels::gpu_tile(type).unit_cols >= 128;
    if (call.int8_out != 0) {
        // Two panels make a group of int8.
        const bool two_bit = kernels::gpu_tile(type).unit_cols > 32;
        const std::uint32_t nibbles = call.n_rows == 1 && many_units ? 512 : 256;
        return {.invocations = two_bit ? 128 : nibbles, .panels = 2, .lane_rows = 1};
    }
    if (call.n_rows == 1) {
        if (gated) return {.invocations = many_units ? 512U : 256U, .lane_rows = 2};
        return {.lane_rows = many_units && type != tensor::DType::q8_0 ? 4U : 2U};
    }
    if (gated) return {.invocations = call.n_rows > 4 ? 128U : 256U, .lane_rows = 2};
    return {.lane_rows = 4};
}

Status Matmul::record_matvec(VkCommandBuffer commands, const MatmulCall& call) {
    const tensor::DType type = call.weights[0].type;
    const InputForm form = input_form(type, call.n_rows);
    const std::uint32_t t = std::min(call.n_rows, kMostMatvecRows);
    MatvecShape shape = matvec_shape(call);
    if (call.int8_out != 0) shape.panels = 2;
    const bool gated = call.epilogue != Epilogue::none;
    const std::uint32_t invocations = std::max(shape.invocations, subgroup_);
    std::vector<std::uint32_t> constants = {invocations,
                                            subgroup_,
                                            static_cast<std::uint32_t>(type),
                                            t,
                                            static_cast<std::uint32_t>(call.epilogue),
                                            shape.panels,
                                            shape.unroll,
                                            shape.lane_rows,
                                            call.int8_out != 0 ? 1U : 0U};
    const MatmulParams product = params_of(call, form);
    const auto dispatch = [&](std::string_view shader_name, std::span<const std::uint32_t> spirv,
                              const auto& params) -> Status {
        const auto shader = pipeline(shader_name, spirv, constants, sizeof(params), subgroup_);
        if (!shader) return tl::unexpected(shader.error());
        if (commands == VK_NULL_HANDLE) return {};
        const std::uint32_t groups = row_groups(call, shape.panels * kTile * (gated ? 2 : 1));
        (*shader)->dispatch(commands, params, {groups, ceil_div(call.n_rows, t), 1});
        return {};
    };
    if (call.norm) {
        constants.push_back(static_cast<std::uint32_t>(call.norm->form));
        return dispatch("matvec_norm", shaders::kMatvecNorm,
                        FinishParams<RmsNormParams>{product, call.norm->params, call.done});
    }
    if (call.cache) {
        constants.push_back(call.cache->head_dim);
        constants.push_back(static_cast<std::uint32_t>(call.cache->type));
        return dispatch("matvec_qkv", shaders::kMatvecQkv,
                        FinishParams<QkvToCacheParams>{product, call.cache->params, call.done});
    }
    if (form == InputForm::int8) return dispatch("matvec_dot4", shaders::kMatvecDot4, product);
    return dispatch("matvec_plain", shaders::kMatvecPlain, product);
}

MatmulShape Matmul::matmul_shape(std::uint32_t n_rows) const {
    if (overrides.matmul) return *overrides.matmul;
    if (device_.capabilities().description.is_software())
        return {.bm = 32, .bn = 16, .wm = 32, .wn = 16};
    // Found by search on an H200; 64 x 64 of the result in a subgroup spills on RDNA3.
    if (n_rows <= 16) return {.bm = 128, .bn = 16, .wm = 32, .wn = 16};
    if (n_rows <= 32) return {.bm = 128, .bn = 32, .wm = 32, .wn = 32};
    constexpr std::uint32_t kNvidia = 0x10DE;
    if (n_rows > 64 && device_.capabilities().description.vendor_id == kNvidia)
        return {.bm = 128, .bn = 128, .wm = 64, .wn = 64};
    return {.bm = 128, .bn = 64, .wm = 64, .wn = 32};
}

Status Matmul::record_matmul(VkCommandBuffer commands, const MatmulCall& call) {
    const tensor::DType type = call.weights[0].type;
    const MatmulShape s = matmul_shape(call.n_rows);
    MatmulParams params = params_of(call, InputForm::f16);
    const std::uint32_t row_tiles = row_groups(call, s.bm);
    const std::uint32_t col_tiles = ceil_div(call.n_rows, s.bn);

    // Few workgroups leave a large GPU idle: then several share a result, each with some columns.
    const std::uint32_t all_rows = params.out_rows[0] + params.out_rows[1] + params.out_rows[2];
    const std::size_t sums_bytes = std::size_t{4} * all_rows * call.n_rows;
    const bool discrete = device_.capabilities().description.type == DeviceType::discrete;
    const std::uint32_t wanted = !discrete ? 16 : call.n_rows <= 32 ? 512 : 264;
    const std::uint32_t steps = ceil_div(call.cols, s.bk);
    std::uint32_t splits = std::min(wanted / (row_tiles * col_tiles), steps / 8);
    splits = overrides.splits.value_or(splits);
    const auto room = static_cast<std::uint32_t>(kPartialBytes / sums_bytes);
    splits = std::max(1U, std::min({splits, kMostSplits, steps, room}));
    params.partial = partial_ ? partial_->device_address() : 0;
    params.n_parts = splits;

    const auto epilogue = static_cast<std::uint32_t>(call.epilogue);
    const std::uint32_t constants[] = {s.bm / s.wm * (s.bn / s.wn) * subgroup_,
                                       subgroup_,
                                       static_cast<std::uint32_t>(type),
                                       epilogue,
                                       s.bm,
                                       s.bn,
                                       s.bk,
                                       s.wm,
                                       s.wn,
                                       matrix_.m,
                                       matrix_.n,
                                       matrix_.k,
                                       s.buffers,
                                       splits > 1 ? 1U : 0U};
    const auto shader = pipeline("matmul_coopmat", shaders::kMatmulCoopmat, constants,
                                 sizeof(MatmulParams), subgroup_);
    if (!shader) return tl::unexpected(shader.error());
    const Pipeline* reduce = nullptr;
    if (splits > 1) {
        const std::uint32_t reduce_constants[] = {256, epilogue};
        const auto made = pipeline("matmul_reduce", shaders::kMatmulReduce, reduce_constants,
                                   sizeof(MatmulParams), 0);
        if (!made) return tl::unexpected(made.error());
        reduce = *made;
    }
    if (commands == VK_NULL_HANDLE) return {};
    (*shader)->dispatch(commands, params, {col_tiles, row_tiles, splits});
    if (reduce == nullptr) return {};
    memory_barrier(device_, commands);
    const std::uint32_t out_rows = call.epilogue == Epilogue::none ? all_rows : params.out_rows[0];
    reduce->dispatch(commands, params, {ceil_div(out_rows, 256), call.n_rows, 1});
    return {};
}

}  // namespace unicorn::backends::vulkan
