#include "backends/vulkan/attend_shape.h"

namespace unicorn::backends::vulkan {
namespace {

std::uint32_t invocations(const AttendShape& s, const Matmul& matmul) {
    return s.wr * s.wc * matmul.subgroup();
}

bool fits(const AttendShape& s, const Capabilities& c, const Matmul& matmul, std::uint32_t dim) {
    const MatrixShape& m = matmul.matrix();
    const std::uint32_t threads = invocations(s, matmul);
    // Whole matrices for each subgroup.
    if (dim % s.chunk != 0 || s.bq % (s.wr * m.m) != 0 || s.bk % (s.wc * m.n) != 0 ||
        s.chunk % (s.wc * m.n) != 0 || s.bk % m.k != 0 || s.chunk % m.k != 0)
        return false;
    // Whole words of a chunk, and octets of keys, for each invocation.
    if (s.bk * s.chunk / 8 % threads != 0 || s.bq * s.bk / 8 % threads != 0 || threads % s.bq != 0)
        return false;
    // As the shader has them: q, a chunk, scores, what sums fade by, two floats of a query.
    const std::uint32_t words = s.bq * (dim / 8 + 1) + s.bk * (s.chunk / 8 + 1) +
                                s.bq * (s.bk / 4 + 1) + s.bq / 4 + s.bq / 2;
    return threads <= c.max_workgroup_invocations && words * 16 <= c.max_shared_bytes;
}

}  // namespace

std::optional<AttendShape> attend_shape(const Capabilities& capabilities, const Matmul& matmul,
                                        std::uint32_t dim, tensor::DType type) {
    if (matmul.path() != MatmulPath::coopmat || type == tensor::DType::f32) return std::nullopt;
    constexpr AttendShape kSmall = {.bq = 16, .bk = 32, .chunk = 32, .wr = 1, .wc = 2};
    // For RDNA3: more keys or longer chunks leave its SIMDs fewer subgroups.
    AttendShape wanted = {.bq = 64, .bk = 32, .chunk = 64, .wr = 4, .wc = 2};
    constexpr std::uint32_t kNvidia = 0x10DE;
    if (capabilities.description.vendor_id == kNvidia) {
        // Found by search on an H200 at the shapes of 27B (E 128), 4B and 1B (256), prompts of 512
        // to 4,096 tokens: whole blocks of K and V at a time, and many workgroups rather than large
        // ones. Others that fit are up to 20 % slower, at 4,096 tokens of 1B.
        if (dim == 128) wanted = {.bq = 32, .bk = 64, .chunk = 128, .wr = 2, .wc = 4};
        if (dim == 256) wanted = {.bq = 16, .bk = 64, .chunk = 256, .wr = 1, .wc = 4};
    }
    if (capabilities.description.is_software()) wanted = kSmall;
    for (const AttendShape& shape : {wanted, kSmall})
        if (fits(shape, capabilities, matmul, dim)) return shape;
    return std::nullopt;
}

std::vector<std::uint32_t> attend_constants(const AttendShape& shape, const Matmul& matmul,
                                            std::uint32_t dim, tensor::DType type,
                                            std::uint32_t group) {
    const MatrixShape& m = matmul.matrix();
    return {invocations(shape, matmul),
            matmul.subgroup(),
            dim,
            static_cast<std::uint32_t>(type),
            group,
            shape.bq,
            shape.bk,
            shape.chunk,
            shape.wr,
            shape.wc,
            m.m,
            m.n,
            m.k};
}

}  // namespace unicorn::backends::vulkan
