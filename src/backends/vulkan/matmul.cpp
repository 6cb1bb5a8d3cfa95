#include "backends/vulkan/matmul.h"

#include <algorithm>
#include <cstdlib>

#include "backends/vulkan/matmul.params.h"
#include "backends/vulkan/matmul_quantize.comp.h"
#include "backends/vulkan/matvec_dot4.comp.h"
#include "backends/vulkan/matvec_plain.comp.h"
#include "base/check.h"
#include "kernels/gpu_tiles.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::uint32_t kTile = kernels::kTileRows;

bool is_float(tensor::DType type) { return !tensor::info(type).quantized; }

std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }

Result<MatmulPath> path_named(std::string_view text) {
    for (const MatmulPath path : {MatmulPath::plain, MatmulPath::dot4, MatmulPath::coopmat})
        if (text == name(path)) return path;
    return fail(ErrorCode::invalid_argument,
                "UNICORN_VK_MATMUL is \"{}\"; it can be coopmat, dot4 or plain", text);
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
    return create(device,
                  device.capabilities().dot4_accelerated ? MatmulPath::dot4 : MatmulPath::plain);
}

Result<std::unique_ptr<Matmul>> Matmul::create(VulkanDevice& device, MatmulPath path) {
    std::unique_ptr<Matmul> self(new Matmul(device, path));
    const Capabilities& c = device.capabilities();
    self->subgroup_ = std::clamp(c.subgroup_size, c.min_subgroup_size, c.max_subgroup_size);
    return self;
}

InputForm Matmul::input_form(tensor::DType type, std::size_t n_rows) const {
    static_cast<void>(n_rows);
    if (path_ == MatmulPath::plain || is_float(type)) return InputForm::f32;
    return InputForm::int8;
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
    Key key = {spirv.data(), {}};
    UNICORN_CHECK(constants.size() <= std::get<1>(key).size());
    std::copy(constants.begin(), constants.end(), std::get<1>(key).begin());
    if (const auto found = pipelines_.find(key); found != pipelines_.end()) return &found->second;
    auto made = Pipeline::create(device_, {.name = name,
                                           .spirv = spirv,
                                           .push_constant_bytes = params_bytes,
                                           .constants = constants,
                                           .subgroup_size = subgroup_size});
    if (!made) return forward(made);
    return &pipelines_.emplace(key, std::move(*made)).first->second;
}

Status Matmul::record_quantize(VkCommandBuffer commands, std::uint64_t x, std::uint32_t n_rows,
                               std::uint32_t cols, InputForm form, std::uint64_t to) {
    UNICORN_CHECK(cols % 32 == 0 && n_rows > 0 && form != InputForm::f32);
    const std::uint32_t constants[] = {256, static_cast<std::uint32_t>(form)};
    const auto shader = pipeline("matmul_quantize", shaders::kMatmulQuantize, constants,
                                 sizeof(MatmulQuantizeParams), subgroup_);
    if (!shader) return tl::unexpected(shader.error());
    const MatmulQuantizeParams params = {.x = x, .to = to, .n_rows = n_rows, .cols = cols};
    (*shader)->dispatch(commands, params, {n_rows, 1, 1});
    return {};
}

Status Matmul::record(VkCommandBuffer commands, const MatmulCall& call) {
    UNICORN_CHECK(call.n_rows > 0 && call.count >= 1 && call.count <= 3);
    if (call.epilogue != Epilogue::none) {
        UNICORN_CHECK(call.count == 2 && call.weights[0].type == call.weights[1].type &&
                      call.weights[0].rows == call.weights[1].rows);
        return record_same_type(commands, call);
    }
    // Matrices of one type share a dispatch.
    for (std::uint32_t first = 0; first < call.count;) {
        MatmulCall part = call;
        part.count = 0;
        for (; first < call.count &&
               (part.count == 0 || call.weights[first].type == part.weights[0].type);
             ++first) {
            part.weights[part.count] = call.weights[first];
            part.outs[part.count++] = call.outs[first];
        }
        if (auto s = record_same_type(commands, part); !s) return s;
    }
    return {};
}

Status Matmul::record_same_type(VkCommandBuffer commands, const MatmulCall& call) {
    UNICORN_CHECK(call.cols % kernels::gpu_tile_columns(call.weights[0].type) == 0);
    return record_matvec(commands, call);
}

Status Matmul::record_matvec(VkCommandBuffer commands, const MatmulCall& call) {
    const tensor::DType type = call.weights[0].type;
    const InputForm form = input_form(type, call.n_rows);
    const bool gated = call.epilogue != Epilogue::none;
    const std::uint32_t t = std::min<std::uint32_t>(call.n_rows, 8);
    const std::uint32_t panels = 1;
    const std::uint32_t unroll = 4;
    const std::uint32_t constants[] = {256,
                                       subgroup_,
                                       static_cast<std::uint32_t>(type),
                                       t,
                                       static_cast<std::uint32_t>(call.epilogue),
                                       panels,
                                       unroll};
    const bool dot4 = form == InputForm::int8;
    const std::span<const std::uint32_t> spirv =
        dot4 ? std::span<const std::uint32_t>(shaders::kMatvecDot4) : shaders::kMatvecPlain;
    const auto shader = pipeline(dot4 ? "matvec_dot4" : "matvec_plain", spirv, constants,
                                 sizeof(MatmulParams), subgroup_);
    if (!shader) return tl::unexpected(shader.error());

    MatmulParams params = {};
    std::uint32_t groups = 0;
    for (std::uint32_t i = 0; i < call.count; ++i) {
        params.weights[i] = call.weights[i].address;
        params.outs[i] = call.outs[i];
        params.out_rows[i] = call.weights[i].rows;
        if (i == 0 || !gated) groups += ceil_div(call.weights[i].rows, panels * kTile);
    }
    params.x = call.x[static_cast<std::size_t>(form)];
    params.n_rows = call.n_rows;
    params.cols = call.cols;
    UNICORN_CHECK(params.x != 0);
    (*shader)->dispatch(commands, params, {groups, ceil_div(call.n_rows, t), 1});
    return {};
}

}  // namespace unicorn::backends::vulkan
