// The CPU and the GPU see each other's writes in a shared buffer, by every way there is.
#include "backends/vulkan/vulkan_sharing.h"

#include <gmock/gmock.h>

#include <cstdio>

#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/testing.h"
#include "backends/vulkan/tier_bandwidth.params.h"
#include "backends/vulkan/tier_fill.comp.h"
#include "backends/vulkan/tier_read.comp.h"

namespace unicorn::backends::vulkan {
namespace {

using memory::kCpu;
using memory::Party;
using memory::SharedBuffer;
using memory::ShareWay;

constexpr std::uint32_t kGroup[] = {64};
constexpr std::size_t kBytes = 3 * 4096 + 16;  // no whole number of pages
constexpr std::uint32_t kWords = kBytes / 4;

class SharedBufferTest : public VulkanTest, public testing::WithParamInterface<ShareWay> {
protected:
    void SetUp() override {
        VulkanTest::SetUp();
        if (device_ == nullptr) return;
        // A second device, with its own memory and addresses, stands for the NPU.
        auto other = VulkanDevice::open(*instance_, wanted(), {.cache_folder = ""});
        ASSERT_TRUE(other);
        other_device_ = std::move(*other);
    }
    void TearDown() override {
        other_device_.reset();
        VulkanTest::TearDown();
    }

    // Word i becomes i, by the device.
    static void fill(VulkanDevice& device, std::uint64_t address) {
        auto pipeline = Pipeline::create(device, {.name = "tier_fill",
                                                  .spirv = shaders::kTierFill,
                                                  .push_constant_bytes = sizeof(TierParams),
                                                  .constants = kGroup});
        ASSERT_TRUE(pipeline);
        const TierParams params = {
            .vectors = address, .sums = 0, .n_vectors = kBytes / 16, .n_invocations = 64};
        ASSERT_TRUE(device.run([&](VkCommandBuffer commands) {
            pipeline->dispatch(commands, params, {1, 1, 1});
        }));
    }
    // The sum of all words, by the device.
    static std::uint32_t sum(VulkanDevice& device, std::uint64_t address) {
        auto pipeline = Pipeline::create(device, {.name = "tier_read",
                                                  .spirv = shaders::kTierRead,
                                                  .push_constant_bytes = sizeof(TierParams),
                                                  .constants = kGroup});
        auto result =
            VulkanBuffer::create(device, 4, *device.capabilities().tier(memory::Tier::gtt));
        EXPECT_TRUE(pipeline && result);
        const TierParams params = {.vectors = address,
                                   .sums = result->device_address(),
                                   .n_vectors = kBytes / 16,
                                   .n_invocations = 64};
        EXPECT_TRUE(device.run([&](VkCommandBuffer commands) {
            pipeline->dispatch(commands, params, {1, 1, 1});
        }));
        std::uint32_t out = 0;
        EXPECT_TRUE(result->download(0, std::as_writable_bytes(std::span(&out, 1))));
        return out;
    }
    static std::span<std::uint32_t> words(const SharedBuffer& buffer) {
        return {reinterpret_cast<std::uint32_t*>(buffer.host().data()), kWords};
    }

    std::unique_ptr<VulkanDevice> other_device_;
};

TEST_P(SharedBufferTest, EverySideSeesWhatTheOthersWrote) {
    VulkanSharing gpu(*device_), npu(*other_device_);
    memory::SharingDevice* const devices[] = {&gpu, &npu};
    auto buffer = SharedBuffer::create(kBytes, devices, GetParam());
    if (!buffer) {
        EXPECT_EQ(buffer.error().code, ErrorCode::unsupported);
        ASSERT_NE(GetParam(), ShareWay::copy) << buffer.error().message;
        GTEST_SKIP() << buffer.error().message;
    }
    EXPECT_EQ(buffer->way(), GetParam());
    EXPECT_EQ(buffer->bytes(), kBytes);
    ASSERT_EQ(buffer->host().size(), kBytes);
    const Party first{0}, second{1};
    const bool copies = GetParam() == ShareWay::copy;

    for (const std::uint32_t word : words(*buffer)) ASSERT_EQ(word, 0U);
    ASSERT_TRUE(buffer->hand_over(kCpu, first));
    EXPECT_EQ(sum(*device_, buffer->device_address(0)), 0U);

    // CPU to device.
    ASSERT_TRUE(buffer->hand_over(first, kCpu));
    std::uint32_t expected = 0;
    for (std::uint32_t i = 0; i < kWords; ++i) expected += words(*buffer)[i] = 7 * i + 1;
    ASSERT_TRUE(buffer->hand_over(kCpu, first));
    EXPECT_EQ(sum(*device_, buffer->device_address(0)), expected);
    // Device to CPU.
    fill(*device_, buffer->device_address(0));
    ASSERT_TRUE(buffer->hand_over(first, kCpu));
    for (std::uint32_t i = 0; i < kWords; ++i) ASSERT_EQ(words(*buffer)[i], i);
    EXPECT_EQ(buffer->bytes_copied(), copies ? 4 * kBytes : 0U);
    // Device to device.
    ASSERT_TRUE(buffer->hand_over(first, second));
    EXPECT_EQ(sum(*other_device_, buffer->device_address(1)), kWords * (kWords - 1) / 2);
    EXPECT_EQ(buffer->bytes_copied(), copies ? 6 * kBytes : 0U);

    // A range: nothing else is touched, and nothing else is counted.
    ASSERT_TRUE(buffer->hand_over(second, kCpu));
    const std::uint64_t before = buffer->bytes_copied();
    words(*buffer)[1000] += 5;
    ASSERT_TRUE(buffer->hand_over(kCpu, second, 4000, 4));
    EXPECT_EQ(sum(*other_device_, buffer->device_address(1)), kWords * (kWords - 1) / 2 + 5);
    EXPECT_EQ(buffer->bytes_copied() - before, copies ? 4U : 0U);
    ASSERT_TRUE(buffer->hand_over(kCpu, second, kBytes, 0));
    ASSERT_TRUE(buffer->hand_over(second, second));
    EXPECT_EQ(buffer->bytes_copied() - before, copies ? 4U : 0U);
}

INSTANTIATE_TEST_SUITE_P(Ways, SharedBufferTest, testing::ValuesIn(memory::kShareWays),
                         [](const auto& way) { return std::string(memory::name(way.param)); });

using SharedBufferChoice = SharedBufferTest;

TEST_F(SharedBufferChoice, TakesTheFirstWayThatWorksAndSaysWhyNotTheOthers) {
    VulkanSharing gpu(*device_), npu(*other_device_);
    memory::SharingDevice* const devices[] = {&gpu, &npu};
    const auto buffer = SharedBuffer::create(kBytes, devices);
    ASSERT_TRUE(buffer) << buffer.error().message;
    std::printf("%s\n", buffer->description().c_str());
    EXPECT_THAT(buffer->description(),
                testing::StartsWith(
                    fmt::format("{} bytes shared by {}", kBytes, memory::name(buffer->way()))));
    for (const ShareWay way : memory::kShareWays) {
        if (way == buffer->way()) break;
        EXPECT_FALSE(SharedBuffer::create(kBytes, devices, way));
        EXPECT_THAT(buffer->description(),
                    testing::HasSubstr(fmt::format("{}: ", memory::name(way))));
    }
}

TEST_F(SharedBufferChoice, SaysWhatIsTooLarge) {
    VulkanSharing gpu(*device_);
    memory::SharingDevice* const devices[] = {&gpu};
    EXPECT_FALSE(SharedBuffer::create(SIZE_MAX, devices));
    const auto buffer = SharedBuffer::create(std::size_t{1} << 44, devices);
    ASSERT_FALSE(buffer);
    EXPECT_THAT(buffer.error().message, testing::HasSubstr("cannot share 17592186044416 bytes: "));
    EXPECT_THAT(buffer.error().message, testing::HasSubstr("; copy: "));
}

}  // namespace
}  // namespace unicorn::backends::vulkan
