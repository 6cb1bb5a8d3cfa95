#include "backends/vulkan/matmul_shapes.h"

#include <gmock/gmock.h>

#include <utility>

namespace unicorn::backends::vulkan {
namespace {

GpuFamily family(std::uint32_t vendor, std::string name, DeviceType type = DeviceType::integrated) {
    return family_of({.name = std::move(name), .type = type, .vendor_id = vendor});
}

TEST(GpuFamilyOf, KnowsAmdsByNameAndOthersByVendor) {
    constexpr std::uint32_t kAmd = 0x1002;
    for (const char* name :
         {"AMD Radeon 780M (RADV PHOENIX)", "AMD Radeon Graphics (RADV GFX1103_R1)",
          "AMD Radeon 780M Graphics", "AMD Radeon RX 7900 XTX (RADV NAVI31)",
          "AMD Radeon RX 7600M XT", "AMD Radeon PRO W7900", "AMD Radeon 740M (radv phoenix2)"})
        EXPECT_EQ(family(kAmd, name), GpuFamily::rdna3) << name;
    for (const char* name : {"AMD Radeon 890M Graphics (RADV GFX1150)", "AMD Radeon 8060S",
                             "AMD Radeon Graphics (RADV STRIX1)", "AMD Radeon 860M Graphics",
                             "Radeon 8060S Graphics (RADV STRIX_HALO)"})
        EXPECT_EQ(family(kAmd, name), GpuFamily::rdna3_5) << name;
    for (const char* name :
         {"AMD Radeon RX 6800 (RADV NAVI21)", "AMD Radeon RX 9070 (RADV GFX1201)",
          "AMD FirePro W7100 (RADV TONGA)", "AMD Radeon 680M (RADV REMBRANDT)"})
        EXPECT_EQ(family(kAmd, name), GpuFamily::other) << name;
    EXPECT_EQ(family(0x10DE, "NVIDIA H200", DeviceType::discrete), GpuFamily::nvidia);
    EXPECT_EQ(family(0x8086, "Intel(R) Arc(tm) Graphics"), GpuFamily::intel);
    EXPECT_EQ(family(0x13B5, "Mali-G715"), GpuFamily::other);
    EXPECT_EQ(family(0x10005, "llvmpipe (LLVM 15.0.6)", DeviceType::cpu), GpuFamily::software);
}

/// What GPUs of the family have at least.
ShapeLimits limits_of(GpuFamily family) {
    const std::uint32_t m = family == GpuFamily::intel ? 8 : 16;
    return {.invocations = 1024,
            .shared_bytes = 32768,
            .subgroup = family == GpuFamily::software ? 8U : 32U,
            .matrix = {.m = m, .n = family == GpuFamily::software ? 8U : 16U, .k = 16}};
}

TEST(DefaultShapes, AreValidForEveryProduct) {
    for (const GpuFamily family : {GpuFamily::rdna3, GpuFamily::rdna3_5, GpuFamily::nvidia,
                                   GpuFamily::intel, GpuFamily::software, GpuFamily::other}) {
        ShapeLimits limits = limits_of(family);
        if (family == GpuFamily::nvidia) limits.shared_bytes = 49152;
        for (const tensor::DTypeInfo& info : tensor::all_dtypes()) {
            for (const ProductUse use :
                 {ProductUse::single, ProductUse::gated, ProductUse::gated_int8}) {
                // What is not quantised is not multiplied by int8.
                if (use == ProductUse::gated_int8 && !info.quantized) continue;
                for (const auto& [rows, cols] :
                     {std::pair{4096U, 256U}, std::pair{4096U, 1152U}, std::pair{4096U, 4096U},
                      std::pair{4096U, 5376U}, std::pair{4096U, 21504U}, std::pair{262144U, 2560U},
                      std::pair{262144U, 5376U}}) {
                    ProductKey key = {ProductShader::matvec_dot4, info.type, use, rows, cols, 1};
                    for (key.n_rows = 1; key.n_rows <= kMostMatvecRows; ++key.n_rows) {
                        if (use == ProductUse::gated_int8 && key.n_rows > 4) continue;
                        const auto valid =
                            check_shape(limits, key, default_matvec_shape(family, key));
                        EXPECT_TRUE(valid) << name(family) << " " << info.name << " " << name(use)
                                           << " " << key.n_rows << ": " << valid.error().message;
                    }
                    if (use == ProductUse::gated_int8) continue;
                    key.shader = ProductShader::matmul_coopmat;
                    for (const std::uint32_t n_rows : kRowClasses) {
                        key.n_rows = n_rows;
                        const auto valid =
                            check_shape(limits, key, default_matmul_shape(family, key));
                        EXPECT_TRUE(valid) << name(family) << " " << name(use) << " " << n_rows
                                           << ": " << valid.error().message;
                    }
                }
            }
        }
    }
}

TEST(RowClass, IsTheMostOfItsRows) {
    EXPECT_EQ(row_class(1), 1u);
    EXPECT_EQ(row_class(2), 4u);
    EXPECT_EQ(row_class(8), 8u);
    EXPECT_EQ(row_class(9), 16u);
    EXPECT_EQ(row_class(64), 64u);
    EXPECT_EQ(row_class(65), UINT32_MAX);
}

TEST(CheckShape, RefusesWhatWouldComputeNonsense) {
    const ShapeLimits limits = limits_of(GpuFamily::rdna3);
    const ProductKey vec = {
        ProductShader::matvec_dot4, tensor::DType::q4_0, ProductUse::single, 64, 256, 8};
    EXPECT_TRUE(check_shape(limits, vec, MatvecShape{256, 1, 1, 4}));
    for (const MatvecShape& s :
         {MatvecShape{0, 1, 1, 4}, MatvecShape{48, 1, 1, 4}, MatvecShape{2048, 1, 1, 4},
          MatvecShape{256, 0, 1, 4}, MatvecShape{256, 1, 0, 4}, MatvecShape{256, 1, 1, 3},
          MatvecShape{256, 1, 1, 8}, MatvecShape{256, 1, 9, 1}, MatvecShape{1024, 4, 1, 4}})
        EXPECT_FALSE(check_shape(limits, vec, s)) << s.invocations;
    EXPECT_FALSE(check_shape(limits, vec, MatmulShape{.bm = 64, .bn = 64, .wm = 32, .wn = 32}));
    ProductKey int8 = vec;
    int8.use = ProductUse::gated_int8;
    int8.n_rows = 4;
    EXPECT_TRUE(check_shape(limits, int8, MatvecShape{256, 2, 1, 1}));
    EXPECT_FALSE(check_shape(limits, int8, MatvecShape{256, 1, 1, 1}));

    ProductKey mat = {
        ProductShader::matmul_coopmat, tensor::DType::q4_0, ProductUse::gated, 64, 256, 64};
    EXPECT_TRUE(check_shape(limits, mat, MatmulShape{64, 64, 64, 32, 32, 1, 0}));
    for (const MatmulShape& s :
         {MatmulShape{0, 64, 64, 32, 32, 1, 0}, MatmulShape{64, 64, 64, 16, 32, 1, 0},
          MatmulShape{96, 64, 64, 64, 32, 1, 0}, MatmulShape{64, 64, 64, 32, 24, 1, 0},
          MatmulShape{64, 64, 48, 32, 32, 1, 0}, MatmulShape{64, 64, 64, 32, 32, 3, 0},
          MatmulShape{64, 64, 64, 32, 32, 1, 13}, MatmulShape{256, 256, 32, 32, 32, 1, 0},
          MatmulShape{32, 256, 32, 32, 16, 1, 0}, MatmulShape{256, 256, 64, 128, 64, 2, 0},
          MatmulShape{65536, 65536, 65536, 32, 32, 1, 0}})
        EXPECT_FALSE(check_shape(limits, mat, s)) << s.bm << " " << s.bn;
    ShapeLimits none = limits;
    none.matrix = {};
    EXPECT_FALSE(check_shape(none, mat, MatmulShape{64, 64, 64, 32, 32, 1, 0}));
}

}  // namespace
}  // namespace unicorn::backends::vulkan
