#include "memory/host_allocator.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace unicorn::memory {
namespace {

TEST(HostAllocator, NeverPassesItsBudget) {
    HostAllocator allocator(10'000);
    auto first = allocator.allocate(6'000, 64);
    ASSERT_TRUE(first);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first->host()) % 64, 0U);
    EXPECT_EQ(first->host()[5'999], std::byte{0});

    const auto second = allocator.allocate(4'001, 64);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::out_of_memory);

    EXPECT_TRUE(allocator.allocate(4'000, 64));  // given back at once
    EXPECT_EQ(allocator.usage().used, 6'000U);
    EXPECT_EQ(allocator.usage().peak, 10'000U);
    *first = Allocation();
    EXPECT_EQ(allocator.usage().used, 0U);
}

TEST(HostAllocator, MovesHandOverOwnership) {
    HostAllocator allocator(1 << 20);
    auto a = allocator.allocate(1000, 64);
    ASSERT_TRUE(a);
    const Allocation b = std::move(*a);
    EXPECT_EQ(a->host(), nullptr);
    EXPECT_EQ(b.bytes(), 1000U);
    EXPECT_EQ(allocator.usage().used, 1000U);
}

}  // namespace
}  // namespace unicorn::memory
