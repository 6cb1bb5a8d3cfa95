#include "backends/vulkan/matmul.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "backends/vulkan/matmul.params.h"
#include "backends/vulkan/matmul_coopmat.comp.h"
#include "backends/vulkan/matmul_coopmat_int8.comp.h"
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
// With more, a workgroup of two panels takes longer than a dispatch that quantises (on an H200).
constexpr std::uint32_t kMostMatvecInt8Rows = 4;
constexpr std::size_t kPartialBytes = std::size_t{32} << 20;
constexpr std::size_t kMostCounters = 16384;  // behind partial sums

// How many rows int8 matrices take before those of f16 are faster: on an H200, by measurement.
std::uint32_t most_int8_rows(tensor::DType type) {
    switch (type) {
        case tensor::DType::q4_1:
        case tensor::DType::q5_1:
        case tensor::DType::q4_k:
        case tensor::DType::q5_k: return 16;  // their minima are a second product
        default: return 32;
    }
}

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
        auto made = create(device, *path);
        if (made) return made;
        return fail(made.error().code, "UNICORN_VK_MATMUL={}: {}", forced, made.error().message);
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
    self->family_ = family_of(c.description);
    if (path == MatmulPath::coopmat) {
        if (auto s = self->find_matrices(); !s) return forward(s);
        if (!c.compiles_only) {
            auto partial = VulkanBuffer::create(device, kPartialBytes + kMostCounters * 4,
                                                *c.tier(memory::Tier::vram), false);
            if (!partial) return forward(partial);
            const std::vector<std::byte> zeros(kMostCounters * 4);
            if (auto s = partial->upload(kPartialBytes, zeros); !s) return forward(s);
            self->partial_ = std::move(*partial);
        }
    }
    if (const std::string path_kept = tuned_shapes_path(device.cache_folder(), c.device_uuid);
        !path_kept.empty()) {
        auto kept = load_tuned_shapes(path_kept, self->tuned_for(), self->shape_limits());
        if (kept)
            self->tuned_ = std::move(*kept);
        else
            self->warning_ = std::move(kept.error().message);
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
    for (const MatrixShape& s : device_.capabilities().matrix_shapes) {
        if (s.a != VK_COMPONENT_TYPE_SINT8_KHR || s.b != s.a ||
            s.c != VK_COMPONENT_TYPE_SINT32_KHR || s.result != s.c)
            continue;
        if (s.m != 16 || (s.k != 16 && s.k != 32)) continue;
        if (s.n == 16) int8_matrix_ = s;
        if (s.n == 8) int8_narrow_ = s;
    }
    if (size(matrix_) == 0) {
        return fail(ErrorCode::unsupported, "{}: has no cooperative matrices of f16 with f32 sums",
                    device_.name());
    }
    return {};
}

// Types that matmul_coopmat_int8.comp takes: a scale for 32 columns. (q2_k, whose scales times
// codes would fit into bytes, was slower than in f16.)
bool Matmul::has_int8_matrices(tensor::DType type) const {
    if (is_float(type) || !int8_matrix_) return false;
    return type != tensor::DType::q2_k && type != tensor::DType::q3_k &&
           type != tensor::DType::q6_k;
}

std::uint32_t Matmul::most_matvec_rows(tensor::DType type) const {
    if (overrides.most_matvec_rows) return *overrides.most_matvec_rows;
    const std::uint32_t rows = default_matvec_rows(family_, type);
    // On an H200, where packed dot products have a quarter of the rate they need for more: by
    // measurement.
    return family_ == GpuFamily::nvidia && has_int8_matrices(type) ? std::min(rows, 4U) : rows;
}

Matmul::Kernel Matmul::kernel(tensor::DType type, std::size_t n_rows) const {
    if (path_ != MatmulPath::coopmat || n_rows <= most_matvec_rows(type)) return Kernel::matvec;
    const std::size_t most = overrides.most_int8_rows.value_or(most_int8_rows(type));
    return has_int8_matrices(type) && n_rows <= most ? Kernel::matmul_int8 : Kernel::matmul_f16;
}

InputForm Matmul::input_form(tensor::DType type, std::size_t n_rows) const {
    switch (kernel(type, n_rows)) {
        case Kernel::matmul_f16: return InputForm::f16;
        case Kernel::matmul_int8: return InputForm::int8;
        case Kernel::matvec: break;
    }
    return path_ == MatmulPath::plain || is_float(type) ? InputForm::f32 : InputForm::int8;
}

bool Matmul::writes_int8(const MatmulCall& call) const {
    if (call.epilogue == Epilogue::none || call.weights[0].rows % 32 != 0) return false;
    const tensor::DType type = call.weights[0].type;
    switch (kernel(type, call.n_rows)) {
        case Kernel::matmul_f16: return false;
        case Kernel::matmul_int8: return int8_shape(call).bm % 64 == 0;  // whole groups of 32 rows
        case Kernel::matvec: break;
    }
    return call.n_rows <= kMostMatvecInt8Rows && input_form(type, call.n_rows) == InputForm::int8;
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
    switch (kernel(call.weights[0].type, call.n_rows)) {
        case Kernel::matmul_f16: return record_matmul(commands, call);
        case Kernel::matmul_int8: return record_matmul_int8(commands, call);
        case Kernel::matvec: break;
    }
    return record_matvec(commands, call);
}

ProductKey Matmul::key_of(const MatmulCall& call) const {
    UNICORN_CHECK(is_tuned(call));
    const tensor::DType type = call.weights[0].type;
    ProductKey key = {.type = type, .cols = call.cols};
    switch (input_form(type, call.n_rows)) {
        case InputForm::f32: key.shader = ProductShader::matvec_plain; break;
        case InputForm::int8: key.shader = ProductShader::matvec_dot4; break;
        case InputForm::f16: key.shader = ProductShader::matmul_coopmat; break;
    }
    if (call.epilogue != Epilogue::none)
        key.use = call.int8_out != 0 ? ProductUse::gated_int8 : ProductUse::gated;
    for (std::uint32_t i = 0; i < call.count; ++i) key.rows += call.weights[i].rows;
    const bool matvec = key.shader != ProductShader::matmul_coopmat;
    key.n_rows = row_class(matvec ? std::min(call.n_rows, kMostMatvecRows) : call.n_rows);
    return key;
}

ShapeLimits Matmul::shape_limits() const {
    const Capabilities& c = device_.capabilities();
    return {.invocations = c.max_workgroup_invocations,
            .shared_bytes = c.max_shared_bytes,
            .subgroup = subgroup_,
            .matrix = matrix_};
}

TunedFor Matmul::tuned_for() const {
    const Capabilities& c = device_.capabilities();
    TunedFor whom = {.device = hexadecimal(c.device_uuid),
                     .driver = c.description.driver_name + " " + c.description.driver_info};
    for (const std::span<const std::uint32_t> spirv :
         {std::span<const std::uint32_t>(shaders::kMatvecPlain),
          std::span<const std::uint32_t>(shaders::kMatvecDot4),
          std::span<const std::uint32_t>(shaders::kMatmulCoopmat),
          std::span<const std::uint32_t>(shaders::kMatmulCoopmatInt8)})
        whom.shaders = hash_words(spirv, whom.shaders);
    return whom;
}

MatvecShape Matmul::matvec_shape(const MatmulCall& call) const {
    if (overrides.matvec) return *overrides.matvec;
    ProductKey key = key_of(call);
    if (const auto found = tuned_.find(key); found != tuned_.end())
        return std::get<MatvecShape>(found->second);
    key.n_rows = call.n_rows;
    return default_matvec_shape(family_, key);
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

MatmulShape Matmul::matmul_shape(const MatmulCall& call) const {
    if (overrides.matmul) return *overrides.matmul;
    ProductKey key = key_of(call);
    if (const auto found = tuned_.find(key); found != tuned_.end())
        return std::get<MatmulShape>(found->second);
    key.n_rows = call.n_rows;
    return default_matmul_shape(family_, key);
}

Status Matmul::record_matmul(VkCommandBuffer commands, const MatmulCall& call) {
    const tensor::DType type = call.weights[0].type;
    const MatmulShape s = matmul_shape(call);
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
    splits = overrides.splits.value_or(s.splits != 0 ? s.splits : splits);
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
    // Were the last workgroup of a result to add up its parts, as with int8, larger tiles would
    // take longer: at 128 rows by 8 % of a pass, on an H200.
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

MatmulInt8Shape Matmul::int8_shape(const MatmulCall& call) const {
    if (overrides.int8) return *overrides.int8;
    const std::uint32_t bn = call.n_rows <= 8 && int8_narrow_ ? 8 : call.n_rows <= 16 ? 16 : 32;
    // RDNA3 has f32 matrices in four times the registers: fewer rows of a subgroup.
    if (family_ != GpuFamily::nvidia) return {.bm = 64, .bn = bn, .bk = 128, .wm = 16, .parts = 1};
    return {.bm = 64, .bn = bn, .bk = 256, .wm = 32, .parts = 2};  // by search on an H200
}

Status Matmul::record_matmul_int8(VkCommandBuffer commands, const MatmulCall& call) {
    const MatmulInt8Shape s = int8_shape(call);
    const MatrixShape& matrix = s.bn % 16 == 0 ? *int8_matrix_ : *int8_narrow_;
    const std::uint32_t row_tiles = row_groups(call, s.bm);
    const std::uint32_t col_tiles = ceil_div(call.n_rows, s.bn);
    const std::uint32_t groups = row_tiles * col_tiles;

    // Few workgroups leave a large GPU idle: then several share a result, each with some columns.
    const std::uint32_t steps = ceil_div(call.cols, s.bk);
    const bool discrete = device_.capabilities().description.type == DeviceType::discrete;
    // As many workgroups as an H200 holds at a time.
    const std::uint32_t wanted = !discrete ? 16 : s.bn <= 8 ? 528 : s.bn <= 16 ? 396 : 264;
    std::uint32_t splits = std::min(wanted / groups, steps / 4);
    splits = overrides.splits.value_or(splits);
    const auto room = static_cast<std::uint32_t>(kPartialBytes / (4 * s.bm * s.bn * groups));
    splits = std::max(1U, std::min({splits, kMostSplits, steps, room}));
    if (groups > kMostCounters) splits = 1;
    MatmulParams params = params_of(call, InputForm::int8);
    if (partial_) {
        params.partial = partial_->device_address();
        params.done = partial_->device_address() + kPartialBytes;
    }

    const std::uint32_t constants[] = {s.bm / s.wm * s.parts * subgroup_,
                                       subgroup_,
                                       static_cast<std::uint32_t>(call.weights[0].type),
                                       static_cast<std::uint32_t>(call.epilogue),
                                       s.bm,
                                       s.bn,
                                       s.bk,
                                       s.wm,
                                       s.parts,
                                       matrix.m,
                                       matrix.n,
                                       matrix.k,
                                       splits > 1 ? 1U : 0U,
                                       call.int8_out != 0 ? 1U : 0U};
    const auto shader = pipeline("matmul_coopmat_int8", shaders::kMatmulCoopmatInt8, constants,
                                 sizeof(MatmulParams), subgroup_);
    if (!shader) return tl::unexpected(shader.error());
    if (commands == VK_NULL_HANDLE) return {};
    (*shader)->dispatch(commands, params, {col_tiles, row_tiles, splits});
    return {};
}

}  // namespace unicorn::backends::vulkan
