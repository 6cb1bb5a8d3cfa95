#include "backends/vulkan/vulkan_device.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/testing.h"
#include "backends/vulkan/tier_bandwidth.params.h"
#include "backends/vulkan/tier_fill.comp.h"
#include "backends/vulkan/vulkan_buffer.h"
#include "backends/vulkan/vulkan_error.h"

namespace unicorn::backends::vulkan {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kGroup[] = {64};
const PipelineSource kFill = {.name = "tier_fill",
                              .spirv = shaders::kTierFill,
                              .push_constant_bytes = sizeof(TierParams),
                              .constants = kGroup};

TEST(VulkanInstance, SaysWhenThereIsNoLoader) {
    const auto instance = VulkanInstance::open({.library = "libno-such-vulkan.so"});
    ASSERT_FALSE(instance);
    EXPECT_EQ(instance.error().code, ErrorCode::not_found);
    EXPECT_THAT(instance.error().message, HasSubstr("no Vulkan loader: libno-such-vulkan.so"));
    EXPECT_THAT(instance.error().message, HasSubstr("libvulkan1"));
    EXPECT_FALSE(has_validation_layer("libno-such-vulkan.so"));
}

TEST(VulkanInstance, SaysWhenALibraryIsNoLoader) {
    const auto instance = VulkanInstance::open({.library = "libc.so.6"});
    ASSERT_FALSE(instance);
    EXPECT_EQ(instance.error().message,
              "libc.so.6 is no Vulkan loader: it has no vkGetInstanceProcAddr");
}

TEST(VulkanInstance, ValidationIsAskedForByTheEnvironment) {
    const std::string before = environment("UNICORN_VULKAN_VALIDATION", "");
    ::setenv("UNICORN_VULKAN_VALIDATION", "1", 1);
    EXPECT_TRUE(validation_wanted());
    EXPECT_TRUE(InstanceOptions().validation);
    ::setenv("UNICORN_VULKAN_VALIDATION", "0", 1);
    EXPECT_FALSE(validation_wanted());
    ::unsetenv("UNICORN_VULKAN_VALIDATION");
    EXPECT_FALSE(validation_wanted());
    if (!before.empty()) ::setenv("UNICORN_VULKAN_VALIDATION", before.c_str(), 1);
}

TEST(VulkanError, NamesTheCodeAndTellsItsKind) {
    EXPECT_EQ(failed(VK_ERROR_DEVICE_LOST, "submit").value().message,
              "submit: VK_ERROR_DEVICE_LOST");
    EXPECT_EQ(failed(VK_ERROR_DEVICE_LOST, "submit").value().code, ErrorCode::device_lost);
    EXPECT_EQ(failed(VK_ERROR_OUT_OF_DEVICE_MEMORY, "a").value().code, ErrorCode::out_of_memory);
    EXPECT_EQ(failed(static_cast<VkResult>(-12345), "a").value().message, "a: VkResult -12345");
}

class VulkanDeviceTest : public VulkanTest {};

TEST_F(VulkanDeviceTest, SaysWhenThereIsNoDriver) {
    device_.reset();
    instance_.reset();
    const std::string before = environment("VK_DRIVER_FILES", "");
    ::setenv("VK_DRIVER_FILES", "/nonexistent.json", 1);
    const auto instance = VulkanInstance::open({.validation = false});
    if (before.empty())
        ::unsetenv("VK_DRIVER_FILES");
    else
        ::setenv("VK_DRIVER_FILES", before.c_str(), 1);
    ASSERT_FALSE(instance);
    EXPECT_EQ(instance.error().code, ErrorCode::not_found);
    EXPECT_THAT(instance.error().message, HasSubstr("no Vulkan device: "));
}

TEST_F(VulkanDeviceTest, ValidationIsOnWhereItIsInstalled) {
    EXPECT_EQ(instance_->validation_version() != 0, has_validation_layer());
    if (!has_validation_layer()) {
        const auto without = VulkanInstance::open({.validation = true});
        ASSERT_FALSE(without);
        EXPECT_THAT(without.error().message, HasSubstr("vulkan-validationlayers"));
        if (environment("UNICORN_REQUIRE_VULKAN", "0") == "1") FAIL() << without.error().message;
        GTEST_SKIP() << without.error().message;
    }
}

// Proves that a mistake of ours would fail the tests.
TEST_F(VulkanDeviceTest, ValidationErrorsAreCollected) {
    if (instance_->validation_version() == 0) GTEST_SKIP() << "no validation layer";
    auto instance = VulkanInstance::open({.validation = true});
    ASSERT_TRUE(instance);
    {
        auto device = VulkanDevice::open(**instance, wanted(), {.cache_folder = ""});
        ASSERT_TRUE(device);
        const VkBufferCreateInfo empty = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                          .usage = kBufferUsage};
        VkBuffer buffer = VK_NULL_HANDLE;
        if ((*device)->vk().vkCreateBuffer((*device)->handle(), &empty, nullptr, &buffer) ==
            VK_SUCCESS)
            (*device)->vk().vkDestroyBuffer((*device)->handle(), buffer, nullptr);
    }
    ASSERT_EQ((*instance)->validation_errors().size(), 1U);
    EXPECT_THAT((*instance)->validation_errors()[0], HasSubstr("VkBufferCreateInfo-size"));
}

TEST_F(VulkanDeviceTest, KnowsWhatItHas) {
    const Capabilities& c = device_->capabilities();
    EXPECT_FALSE(device_->name().empty());
    EXPECT_FALSE(c.description.driver_info.empty());
    EXPECT_GE(c.max_allocation_bytes, std::uint64_t{1} << 30);
    EXPECT_GE(c.max_buffer_bytes, std::uint64_t{1} << 30);
    EXPECT_GE(c.max_push_constant_bytes, 128U);
    EXPECT_GE(c.max_workgroup_invocations, 128U);
    EXPECT_LE(c.min_subgroup_size, c.subgroup_size);
    EXPECT_LE(c.subgroup_size, c.max_subgroup_size);
    ASSERT_NE(c.tier(memory::Tier::vram), nullptr);
    ASSERT_NE(c.tier(memory::Tier::gtt), nullptr);
    EXPECT_TRUE(c.tier(memory::Tier::gtt)->host_visible);
    EXPECT_EQ(c.tier(memory::Tier::npu), nullptr);
    if (c.host_import) {
        EXPECT_GT(c.host_import_alignment, 0U);
    }
    if (c.unified_memory) {
        EXPECT_TRUE(c.tier(memory::Tier::vram)->host_visible);
    }
}

TEST_F(VulkanDeviceTest, SoftwareIsOpenedByNameOnlyAndWithAWarning) {
    if (!device_->capabilities().description.is_software()) GTEST_SKIP() << "not on a GPU";
    ASSERT_EQ(device_->warnings().size(), 1U);
    EXPECT_THAT(device_->warnings()[0], HasSubstr("computes on the CPU"));
    EXPECT_FALSE(VulkanDevice::open(*instance_, "vulkan:0"));
    EXPECT_FALSE(VulkanDevice::open(*instance_, "vulkan:no such device"));
}

TEST_F(VulkanDeviceTest, TheTimelineGrowsByOneASubmission) {
    auto commands = Commands::create(*device_);
    ASSERT_TRUE(commands);
    ASSERT_TRUE(commands->begin());
    ASSERT_TRUE(commands->end());
    for (std::uint64_t i = 1; i <= 3; ++i) {
        const auto ticket = device_->submit(commands->handle());
        ASSERT_TRUE(ticket);
        EXPECT_EQ(*ticket, i);
        ASSERT_TRUE(device_->wait(*ticket));
        EXPECT_EQ(device_->finished(), i);
    }
    EXPECT_TRUE(device_->wait(1));  // long past
}

TEST_F(VulkanDeviceTest, SubmissionsSeeWhatThoseBeforeWrote) {
    auto buffer =
        VulkanBuffer::create(*device_, 1 << 20, *device_->capabilities().tier(memory::Tier::gtt));
    ASSERT_TRUE(buffer);
    auto fill = Pipeline::create(*device_, kFill);
    ASSERT_TRUE(fill);
    const TierParams params = {.vectors = buffer->device_address(),
                               .sums = 0,
                               .n_vectors = (1 << 20) / 16,
                               .n_invocations = 64 * 16};
    auto first = Commands::create(*device_);
    auto second = Commands::create(*device_);
    ASSERT_TRUE(first && second);
    ASSERT_TRUE(first->begin());
    fill->dispatch(first->handle(), params, {16, 1, 1});
    ASSERT_TRUE(first->end());
    ASSERT_TRUE(second->begin());  // over the second half of what the first one writes
    const VkBufferCopy half = {.srcOffset = 0, .dstOffset = 1 << 19, .size = 1 << 19};
    device_->vk().vkCmdCopyBuffer(second->handle(), buffer->handle(), buffer->handle(), 1, &half);
    memory_barrier(*device_, second->handle());
    device_->vk().vkCmdFillBuffer(second->handle(), buffer->handle(), 0, 4, 77);
    ASSERT_TRUE(second->end());
    ASSERT_TRUE(device_->submit(first->handle()));
    const auto ticket = device_->submit(second->handle());
    ASSERT_TRUE(ticket);
    ASSERT_TRUE(device_->wait(*ticket));
    const auto* words = reinterpret_cast<const std::uint32_t*>(buffer->host());
    constexpr std::uint32_t kHalf = (1 << 20) / 8;
    EXPECT_EQ(words[0], 77U);
    EXPECT_EQ(words[1], 1U);
    for (std::uint32_t i = 0; i < kHalf; ++i) ASSERT_EQ(words[kHalf + i], i);
}

TEST_F(VulkanDeviceTest, RefusesPipelinesItCannotMake) {
    PipelineSource source = kFill;
    source.subgroup_size = 2 * device_->capabilities().max_subgroup_size;
    const auto subgroup = Pipeline::create(*device_, source);
    ASSERT_FALSE(subgroup);
    EXPECT_EQ(subgroup.error().code, ErrorCode::unsupported);
    EXPECT_THAT(subgroup.error().message, HasSubstr("shader tier_fill needs subgroups of "));
    source = kFill;
    source.push_constant_bytes = device_->capabilities().max_push_constant_bytes + 4;
    const auto params = Pipeline::create(*device_, source);
    ASSERT_FALSE(params);
    EXPECT_THAT(params.error().message, HasSubstr("bytes of parameters, at most "));
}

TEST_F(VulkanDeviceTest, TakesTheSubgroupSizeItIsGiven) {
    PipelineSource source = kFill;
    source.subgroup_size = device_->capabilities().max_subgroup_size;
    EXPECT_TRUE(Pipeline::create(*device_, source));
}

TEST_F(VulkanDeviceTest, StatisticsOnlyWhereTheyAreKept) {
    auto without = Pipeline::create(*device_, kFill);
    ASSERT_TRUE(without);
    EXPECT_FALSE(without->statistics());
    if (!device_->capabilities().executable_properties) return;
    PipelineSource source = kFill;
    source.keep_statistics = true;
    auto with = Pipeline::create(*device_, source);
    ASSERT_TRUE(with);
    EXPECT_TRUE(with->statistics());
}

TEST_F(VulkanDeviceTest, KeepsItsPipelinesOnDisk) {
    const std::string folder =
        fmt::format("{}unicorn_vulkan_device_{}", testing::TempDir(), ::getpid());
    std::filesystem::remove_all(folder);
    open_device({.cache_folder = folder});
    ASSERT_TRUE(Pipeline::create(*device_, kFill));
    const std::string driver = device_->name();
    device_.reset();
    std::vector<std::filesystem::path> files;
    for (const auto& file : std::filesystem::directory_iterator(folder)) files.push_back(file);
    ASSERT_EQ(files.size(), 1U) << driver;
    EXPECT_TRUE(files[0].filename().string().starts_with("vulkan-"));
    EXPECT_EQ(files[0].extension(), ".cache");

    // Nothing new: not written again.
    const auto written = std::filesystem::last_write_time(files[0]);
    open_device({.cache_folder = folder});
    ASSERT_TRUE(Pipeline::create(*device_, kFill));
    device_.reset();
    EXPECT_EQ(std::filesystem::last_write_time(files[0]), written);

    // Damaged: made anew.
    std::filesystem::resize_file(files[0], 10);
    open_device({.cache_folder = folder});
    ASSERT_TRUE(Pipeline::create(*device_, kFill));
    EXPECT_TRUE(device_->save_pipeline_cache());
    EXPECT_GT(std::filesystem::file_size(files[0]), 10U);
    device_.reset();
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
