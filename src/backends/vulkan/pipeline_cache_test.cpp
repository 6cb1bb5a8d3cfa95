#include "backends/vulkan/pipeline_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

namespace unicorn::backends::vulkan {
namespace {

class PipelineCacheTest : public testing::Test {
protected:
    void TearDown() override { std::filesystem::remove_all(folder_); }

    // Each test has a process of its own, and all run at once.
    const std::string folder_ =
        fmt::format("{}unicorn_pipeline_cache_{}", testing::TempDir(), ::getpid());
    const std::array<std::uint8_t, 3> uuid_ = {0x00, 0xAB, 0x1F};
    const std::string path_ = pipeline_cache_path(folder_ + "/made", uuid_);
    const std::vector<std::byte> data_ = {std::byte{1}, std::byte{0}, std::byte{255}};
};

TEST_F(PipelineCacheTest, IsNamedAfterTheDriver) {
    EXPECT_EQ(path_, folder_ + "/made/vulkan-00ab1f.cache");
    EXPECT_EQ(pipeline_cache_path("", uuid_), "");
}

TEST_F(PipelineCacheTest, ComesBackAsItWasAndMakesItsFolder) {
    EXPECT_TRUE(load_pipeline_cache(path_).empty());
    ASSERT_TRUE(store_pipeline_cache(path_, data_));
    EXPECT_EQ(load_pipeline_cache(path_), data_);
    ASSERT_TRUE(store_pipeline_cache(path_, {}));
    EXPECT_TRUE(load_pipeline_cache(path_).empty());
}

TEST_F(PipelineCacheTest, DamagedFilesAreLeftOut) {
    ASSERT_TRUE(store_pipeline_cache(path_, data_));
    const auto size = std::filesystem::file_size(path_);
    for (std::uintmax_t at = 0; at < size; ++at) {
        ASSERT_TRUE(store_pipeline_cache(path_, data_));
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(static_cast<std::streamoff>(at));
        const int byte = file.get();
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(byte ^ 1));
        file.close();
        EXPECT_TRUE(load_pipeline_cache(path_).empty()) << "byte " << at;
    }
    for (std::uintmax_t cut = 0; cut < size; ++cut) {
        ASSERT_TRUE(store_pipeline_cache(path_, data_));
        std::filesystem::resize_file(path_, cut);
        EXPECT_TRUE(load_pipeline_cache(path_).empty()) << "cut to " << cut;
    }
}

TEST_F(PipelineCacheTest, SaysWhereItCannotBeKept) {
    std::ofstream(folder_) << "a file, where a folder should be";
    const auto stored = store_pipeline_cache(path_, data_);
    ASSERT_FALSE(stored);
    EXPECT_EQ(stored.error().code, ErrorCode::io);
    EXPECT_NE(stored.error().message.find(path_), std::string::npos) << stored.error().message;
}

}  // namespace
}  // namespace unicorn::backends::vulkan
