#pragma once
// Matrix times rows of activations on a Vulkan device, for every weight type.
//
// Weights lie in tiles (weight_layout.h); activations [T, D] in the form that input_form() names:
//   f32   as they are, row-major.
//   int8  x[t,d] ~ scale[t, d/32] * code[t,d]. First the codes, [T, D] bytes, those of each quad of
//         columns in the order 0, 2, 1, 3 (kernels/gpu_tiles.h); then [T, D/32] pairs of words: the
//         f32 scale, max|x| / 127 of the 32 columns, and two int16, the sums of the codes of
//         columns 0-15 (low) and 16-31. A group with a NaN or an infinity has scale NaN and codes
//         0, which makes its own row's products NaN and leaves other rows alone.
//   f16   x[t,d] ~ scale[t] * h[t,d]. First h, [T, D] f16; then [T] f32 scales, powers of two with
//         which the largest |h| of a row lies in [2^14, 2^15): no activation overflows.
// Shaders write them with matmul_input.glsl, or record_quantize() does.
//
// Paths, and how far out[t,r] = sum_d w[r,d] x[t,d] may be from the exact sum, besides f32 rounding
// of D * 2^-24 * sum|w x|:
//   plain    f32 products of f32 activations: nothing more. Float weights take it for few rows on
//            every path.
//   dot4     int8 activations, exact integer products within 16 or 32 columns:
//            sum_d |w| * scale / 2, at most sum|w| * max|x| / 254. Not for float weights.
//   coopmat  On matrix units. int8 x int8 -> s32, where the device has that, up to a number of rows
//            and for types with a scale for 32 columns: the bound of dot4. f16 x f16 -> f32 else:
//            sum|w x| * 2^-11 for x, and 2^-11 * (|w - offset| + 2 |offset|) |x| for weights, where
//            offset is what codes of 0 stand for (at most 15 scales for the types that have one).
//            Subnormal products round by 2^-24 * scale.

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/vulkan/matmul_shapes.h"
#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/tuned_shapes.h"
#include "backends/vulkan/vulkan_buffer.h"
#include "backends/vulkan/vulkan_device.h"
#include "tensor/dtype.h"

namespace unicorn::backends::vulkan {

enum class MatmulPath : std::uint8_t { plain, dot4, coopmat };
std::string_view name(MatmulPath path);

/// How activations lie (above). The numbers are those of matmul_input.glsl.
enum class InputForm : std::uint32_t { f32 = 0, int8 = 1, f16 = 2 };
inline constexpr std::size_t kInputForms = 3;

/// What becomes of the products. The numbers are those of matmul_epilogue.glsl.
enum class Epilogue : std::uint32_t {
    none = 0,
    gelu = 1,  // out = gelu_tanh(first x) * (second x)
    silu = 2,  // out = silu(first x) * (second x)
};

/// A matrix [rows, cols] in tiles.
struct MatmulWeights {
    tensor::DType type = tensor::DType::f32;
    std::uint32_t rows = 0;
    std::uint64_t address = 0;  // a multiple of 16
};

/// outs[i] = weights[i] x, i < count; with an epilogue, outs[0] from two matrices of the same type
/// and rows (gate, then up).
struct MatmulCall {
    Epilogue epilogue = Epilogue::none;
    std::uint32_t n_rows = 0;  // T >= 1
    std::uint32_t cols = 0;    // D: a multiple of 32 and of each type's block
    std::uint32_t count = 1;
    std::array<MatmulWeights, 3> weights;
    /// x in the forms that input_form() asks for, for each of the weights' types; by InputForm.
    std::array<std::uint64_t, kInputForms> x = {};
    std::array<std::uint64_t, 3> outs = {};  // [T, rows_i] f32; overlap nothing else
    std::uint64_t int8_out = 0;  // where writes_int8(): outs[0] in that form, too, if not 0
};

/// How matmul_coopmat_int8.comp cuts its work (it says what they mean).
struct MatmulInt8Shape {
    std::uint32_t bm = 0, bn = 0, bk = 0, wm = 0, parts = 1;
};

/// What a search over shapes tries in place of Matmul's own choice.
struct MatmulOverrides {
    std::optional<MatvecShape> matvec;
    std::optional<MatmulShape> matmul;
    std::optional<MatmulInt8Shape> int8;
    std::optional<std::uint32_t> splits;            // parts of the columns of a matmul
    std::optional<std::uint32_t> most_matvec_rows;  // at most 8
    std::optional<std::uint32_t> most_int8_rows;    // of int8 matrices; 0: none
};

inline MatmulOverrides overrides_for(const ProductShape& shape) {
    MatmulOverrides overrides;
    if (const auto* matvec = std::get_if<MatvecShape>(&shape))
        overrides.matvec = *matvec;
    else
        overrides.matmul = std::get<MatmulShape>(shape);
    return overrides;
}

/// Records products. Used by one thread at a time; its device must outlive it, and it must outlive
/// what it recorded.
class Matmul {
public:
    /// The path is the best that the device has, or what the environment variable
    /// UNICORN_VK_MATMUL names (coopmat, dot4, plain). Shapes are those that a search on this
    /// device has kept (matmul_tune.h), else the family's (matmul_shapes.h).
    /// Errors: invalid_argument, unsupported, when UNICORN_VK_MATMUL names what is no path, or one
    /// that the device lacks; io, out_of_memory.
    static Result<std::unique_ptr<Matmul>> create(VulkanDevice& device);
    /// The same for a path that the caller names.
    static Result<std::unique_ptr<Matmul>> create(VulkanDevice& device, MatmulPath path);

    MatmulPath path() const { return path_; }

    /// What a product of `n_rows` rows with weights of `type` reads.
    InputForm input_form(tensor::DType type, std::size_t n_rows) const;
    /// Bytes of [n_rows, cols] activations in `form`; a multiple of 16.
    static std::size_t input_bytes(InputForm form, std::size_t n_rows, std::size_t cols);

    /// Whether record() can write the product in int8, too: it has an epilogue, whole groups of 32
    /// rows, few rows of activations, and reads int8 itself.
    bool writes_int8(const MatmulCall& call) const;

    /// Records x ([n_rows, cols] f32 at address `x`, 16-byte aligned) to `form` (int8 or f16) at
    /// `to` (16-byte aligned); without commands it only compiles. Requires cols % 32 == 0. Errors:
    /// as Pipeline::create.
    Status record_quantize(VkCommandBuffer commands, std::uint64_t x, std::uint32_t n_rows,
                           std::uint32_t cols, InputForm form, std::uint64_t to);

    /// Records the products. The caller puts barriers before (x must be there, outs be free),
    /// after, and between two calls of this. Shaders are compiled when first needed. Errors: as
    /// Pipeline::create.
    Status record(VkCommandBuffer commands, const MatmulCall& call);

    /// What record() would take for this product of matrices of one type: overrides, else tuned
    /// shapes, else the family's.
    MatvecShape matvec_shape(const MatmulCall& call) const;
    MatmulShape matmul_shape(const MatmulCall& call) const;
    MatmulInt8Shape int8_shape(const MatmulCall& call) const;
    /// Whether this product's shape may be a tuned one: not that of int8 matrices.
    bool is_tuned(const MatmulCall& call) const {
        return kernel(call.weights[0].type, call.n_rows) != Kernel::matmul_int8;
    }
    /// What the shape of this product is kept under. Requires is_tuned().
    ProductKey key_of(const MatmulCall& call) const;
    ShapeLimits shape_limits() const;

    /// Whom tuned shapes are for: this device, its driver and these shaders.
    TunedFor tuned_for() const;
    /// Takes these in place of what a search has kept. Each must be valid (check_shape()).
    void use_tuned(TunedShapes shapes) { tuned_ = std::move(shapes); }
    const TunedShapes& tuned() const { return tuned_; }
    /// Why what a search has kept is not used, for people; empty where it is, or there is none.
    const std::string& warning() const { return warning_; }

    MatmulOverrides overrides;
    /// Pipelines keep what the driver tells of them (for each_pipeline()).
    bool keep_statistics = false;
    /// Calls `use` with the name, the constants and the pipeline of each shader compiled so far.
    void each_pipeline(const std::function<void(std::string_view, std::span<const std::uint32_t>,
                                                const Pipeline&)>& use) const;

private:
    struct Key {
        std::string name;
        std::vector<std::uint32_t> constants;
        auto operator<=>(const Key&) const = default;
    };

    Matmul(VulkanDevice& device, MatmulPath path) : device_(device), path_(path) {}
    Status find_matrices();
    std::uint32_t most_matvec_rows(tensor::DType type) const;
    bool has_int8_matrices(tensor::DType type) const;
    enum class Kernel : std::uint8_t { matvec, matmul_f16, matmul_int8 };
    Kernel kernel(tensor::DType type, std::size_t n_rows) const;
    Result<const Pipeline*> pipeline(std::string_view name, std::span<const std::uint32_t> spirv,
                                     std::span<const std::uint32_t> constants,
                                     std::size_t params_bytes, std::uint32_t subgroup_size);
    Status record_same_type(VkCommandBuffer commands, const MatmulCall& call);
    Status record_matvec(VkCommandBuffer commands, const MatmulCall& call);
    Status record_matmul(VkCommandBuffer commands, const MatmulCall& call);
    Status record_matmul_int8(VkCommandBuffer commands, const MatmulCall& call);
    VulkanDevice& device_;
    MatmulPath path_;
    GpuFamily family_ = GpuFamily::other;
    TunedShapes tuned_;
    std::string warning_;
    std::uint32_t subgroup_ = 0;
    MatrixShape matrix_;  // f16 x f16 -> f32, where path_ is coopmat
    // s8 x s8 -> s32 for 16 rows of activations and for 8, if the device has such.
    std::optional<MatrixShape> int8_matrix_, int8_narrow_;
    // Sums of parts of the columns, and counters, 0 between dispatches, of the parts that are done.
    std::optional<VulkanBuffer> partial_;
    std::map<Key, Pipeline> pipelines_;
};

}  // namespace unicorn::backends::vulkan
