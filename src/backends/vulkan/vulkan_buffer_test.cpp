#include "backends/vulkan/vulkan_buffer.h"

#include <gmock/gmock.h>

#include <cstring>

#include "backends/vulkan/testing.h"

namespace unicorn::backends::vulkan {
namespace {

class VulkanBufferTest : public VulkanTest {
protected:
    const TierMemory& tier(memory::Tier which) { return *device_->capabilities().tier(which); }
};

std::vector<std::byte> pattern(std::size_t n) {
    std::vector<std::byte> out(n);
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>((i * 2654435761U) >> 13);
    return out;
}

// Through the CPU's own mapping, and through a staging buffer that is smaller than what is copied.
TEST_F(VulkanBufferTest, UploadsAndDownloadsMappedOrNot) {
    const std::size_t n = (std::size_t{33} << 20) + 5;
    const auto data = pattern(n);
    for (const bool mapped : {false, true}) {
        auto buffer = VulkanBuffer::create(*device_, n + 7, tier(memory::Tier::vram), mapped);
        ASSERT_TRUE(buffer);
        EXPECT_EQ(buffer->host() != nullptr, mapped && tier(memory::Tier::vram).host_visible);
        ASSERT_TRUE(buffer->clear());
        ASSERT_TRUE(buffer->upload(3, data));
        ASSERT_TRUE(buffer->upload(3, {}));
        std::vector<std::byte> back(n + 7);
        ASSERT_TRUE(buffer->download(0, back));
        EXPECT_EQ(std::memcmp(back.data() + 3, data.data(), n), 0);
        for (const std::size_t i : {std::size_t{0}, std::size_t{2}, n + 3, n + 6})
            EXPECT_EQ(back[i], std::byte{0}) << i;
        std::vector<std::byte> part(8);
        ASSERT_TRUE(buffer->download(n - 1, part));
        EXPECT_EQ(std::memcmp(part.data(), back.data() + n - 1, 8), 0);
    }
}

TEST_F(VulkanBufferTest, ClearReachesTheLastByte) {
    for (const std::size_t n : {1, 3, 4, 5, 1000}) {
        auto buffer = VulkanBuffer::create(*device_, n, tier(memory::Tier::gtt));
        ASSERT_TRUE(buffer);
        std::memset(buffer->host(), 0xFF, n);
        ASSERT_TRUE(buffer->clear());
        for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(buffer->host()[i], std::byte{0}) << n;
    }
}

TEST_F(VulkanBufferTest, SaysWhenOnePieceIsTooLarge) {
    const auto buffer =
        VulkanBuffer::create(*device_, std::size_t{1} << 62, tier(memory::Tier::vram));
    ASSERT_FALSE(buffer);
    EXPECT_EQ(buffer.error().code, ErrorCode::out_of_memory);
    EXPECT_THAT(buffer.error().message, testing::HasSubstr("of vram in one piece, at most "));
}

TEST_F(VulkanBufferTest, MovesHandOverOwnership) {
    auto a = VulkanBuffer::create(*device_, 64, tier(memory::Tier::gtt));
    ASSERT_TRUE(a);
    const std::uint64_t address = a->device_address();
    VulkanBuffer b = std::move(*a);
    EXPECT_EQ(b.device_address(), address);
    EXPECT_EQ(a->device_address(), 0U);
    *a = std::move(b);
    EXPECT_EQ(a->device_address(), address);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
