#include "backends/vulkan/vulkan_allocator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

#include "backends/vulkan/testing.h"

namespace unicorn::backends::vulkan {
namespace {

class VulkanAllocatorTest : public VulkanTest {
protected:
    const TierMemory& tier(memory::Tier which) { return *device_->capabilities().tier(which); }
};

TEST_F(VulkanAllocatorTest, NeverPassesItsBudget) {
    VulkanAllocator allocator(*device_, tier(memory::Tier::gtt), 10'000);
    EXPECT_EQ(allocator.tier(), memory::Tier::gtt);
    auto first = allocator.allocate(6'000, 64);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->bytes(), 6'000U);
    const auto second = allocator.allocate(4'001, 64);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::out_of_memory);
    EXPECT_THAT(second.error().message, testing::HasSubstr("gtt of "));
    EXPECT_TRUE(allocator.allocate(4'000, 64));  // given back at once
    EXPECT_EQ(allocator.usage().used, 6'000U);
    EXPECT_EQ(allocator.usage().peak, 10'000U);
    *first = memory::Allocation();
    EXPECT_EQ(allocator.usage().used, 0U);
    EXPECT_EQ(allocator.n_arenas(), 0U);
}

TEST_F(VulkanAllocatorTest, PiecesAreAlignedApartAndZeroEvenWhenUsedBefore) {
    VulkanAllocator allocator(*device_, tier(memory::Tier::gtt), std::size_t{1} << 30);
    const auto keep = allocator.allocate(1, 1);  // keeps the arena, so that pieces are used again
    ASSERT_TRUE(keep);
    for (int round = 0; round < 2; ++round) {
        std::vector<memory::Allocation> pieces;
        for (const std::size_t bytes : {1, 255, 256, 257, 5000, 70'000}) {
            for (const std::size_t alignment : {1, 256, 4096}) {
                auto piece = allocator.allocate(bytes, alignment);
                ASSERT_TRUE(piece);
                EXPECT_EQ(piece->device_address() % alignment, 0U);
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece->host()) % alignment, 0U);
                for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(piece->host()[i], std::byte{0});
                std::memset(piece->host(), 0xAA, bytes);
                pieces.push_back(std::move(*piece));
            }
        }
        EXPECT_EQ(allocator.n_arenas(), 1U);
        std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
            return a.device_address() < b.device_address();
        });
        for (std::size_t i = 1; i < pieces.size(); ++i) {
            EXPECT_LE(pieces[i - 1].device_address() + pieces[i - 1].bytes(),
                      pieces[i].device_address());
        }
        const BufferPlace place = allocator.place(pieces[3].device_address() + 7);
        const BufferPlace start = allocator.place(pieces[3].device_address());
        EXPECT_EQ(place.buffer, start.buffer);
        EXPECT_EQ(place.offset, start.offset + 7);
    }
}

TEST_F(VulkanAllocatorTest, LargePiecesHaveAnArenaOfTheirOwn) {
    VulkanAllocator allocator(*device_, tier(memory::Tier::vram), std::size_t{1} << 62);
    auto large = allocator.allocate(std::size_t{300} << 20, 4096);
    ASSERT_TRUE(large);
    auto small = allocator.allocate(1000, 64);
    ASSERT_TRUE(small);
    EXPECT_EQ(allocator.n_arenas(), 2U);
    *large = memory::Allocation();
    EXPECT_EQ(allocator.n_arenas(), 1U);
    const auto huge = allocator.allocate(std::size_t{1} << 61, 64);
    ASSERT_FALSE(huge);
    EXPECT_THAT(huge.error().message, testing::HasSubstr("in one piece, at most "));
    EXPECT_EQ(allocator.usage().used, 1000U);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
