#include "tensor/dtype.h"

#include <gtest/gtest.h>

namespace unicorn::tensor {
namespace {

TEST(DType, NamesAndIdsRoundTrip) {
    for (const DTypeInfo& entry : all_dtypes()) {
        EXPECT_EQ(dtype_from_name(entry.name), entry.type);
        EXPECT_EQ(dtype_from_id(static_cast<std::uint32_t>(entry.type)), entry.type);
        EXPECT_EQ(info(entry.type).name, entry.name);
    }
    EXPECT_EQ(dtype_from_name("Q4_K"), DType::q4_k);
    EXPECT_EQ(dtype_from_name("q4"), std::nullopt);
    EXPECT_EQ(dtype_from_name("q4_00"), std::nullopt);
    EXPECT_EQ(dtype_from_id(4), std::nullopt);
}

TEST(DType, RowBytes) {
    EXPECT_EQ(row_bytes(DType::f32, 3), 12U);
    EXPECT_EQ(row_bytes(DType::q4_0, 1152), 1152U / 32 * 18);
    EXPECT_EQ(row_bytes(DType::q6_k, 5376), 5376U / 256 * 210);
    const MatrixView big{DType::bf16, 262144, 5376, nullptr};
    EXPECT_EQ(big.bytes(), 2'818'572'288U);
}

}  // namespace
}  // namespace unicorn::tensor
