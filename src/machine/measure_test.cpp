#include "machine/measure.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "machine/testing.h"

namespace unicorn::machine {
namespace {

using testing::fixture_machine;

class Cache : public testing::FakeRoot {
protected:
    std::string file() const {
        for (const auto& entry : std::filesystem::directory_iterator(root_))
            return entry.path().string();
        return {};
    }
    Machine machine() const {
        Machine m = fixture_machine("ryzen-8945hs-96gb");
        m.measured = {.host_gb_s = 61.5,
                      .disk_gb_s = 6.8,
                      .vram_gb_s = 74.5,
                      .gtt_gb_s = 72.25,
                      .disk_device = "nvme0n1p2"};
        return m;
    }
};

TEST_F(Cache, GivesBackWhatWasKept) {
    EXPECT_FALSE(load_measured(root(), machine()).has_value());
    ASSERT_TRUE(store_measured(root() + "/new", machine()).has_value());
    const auto kept = load_measured(root() + "/new", machine());
    ASSERT_TRUE(kept.has_value());
    EXPECT_EQ(kept->host_gb_s, 61.5);
    EXPECT_EQ(kept->disk_gb_s, 6.8);
    EXPECT_EQ(kept->vram_gb_s, 74.5);
    EXPECT_EQ(kept->gtt_gb_s, 72.25);
    EXPECT_FALSE(load_measured("", machine()).has_value());
}

TEST_F(Cache, HoldsEachDisksNumberAndTheProfile) {
    ASSERT_TRUE(store_measured(root(), machine()).has_value());
    Machine other = machine();
    other.disk.device = "sda1";
    EXPECT_EQ(load_measured(root(), other)->disk_gb_s, std::nullopt);
    other.measured.disk_device = "sda1";
    other.measured.disk_gb_s = 0.2;
    ASSERT_TRUE(store_measured(root(), other).has_value());
    EXPECT_EQ(load_measured(root(), machine())->disk_gb_s, 6.8);
    EXPECT_EQ(load_measured(root(), other)->disk_gb_s, 0.2);
    EXPECT_THAT(get("/" + std::filesystem::path(file()).filename().string()),
                ::testing::HasSubstr("\"carveout\""));
}

TEST_F(Cache, AnotherMachineOrKernelHasItsOwn) {
    ASSERT_TRUE(store_measured(root(), machine()).has_value());
    Machine other = machine();
    other.system.kernel = parse_version("6.18.1");
    EXPECT_FALSE(load_measured(root(), other).has_value());
    EXPECT_FALSE(load_measured(root(), fixture_machine("vm-4cpu")).has_value());
}

TEST_F(Cache, ADamagedFileIsIgnoredAndReplaced) {
    ASSERT_TRUE(store_measured(root(), machine()).has_value());
    const std::string path = file();
    const std::string whole = get("/" + std::filesystem::path(path).filename().string());
    const auto damage = [&](const std::string& text) { std::ofstream(path) << text; };
    for (const std::string& text :
         {std::string(), std::string("[]"), std::string("{"), std::string("null"),
          whole.substr(0, whole.size() / 2), std::string("{\"key\": 5, \"disks\": {}}"),
          std::string("{\"key\": \"other\", \"host_gb_s\": 3, \"disks\": {}}")}) {
        damage(text);
        EXPECT_FALSE(load_measured(root(), machine()).has_value()) << text;
        ASSERT_TRUE(store_measured(root(), machine()).has_value());
        EXPECT_EQ(load_measured(root(), machine())->host_gb_s, 61.5);
    }
    // Numbers that no machine has are not believed.
    std::string odd = whole;
    odd.replace(odd.find("61.5"), 4, "-1.0");
    damage(odd);
    EXPECT_EQ(load_measured(root(), machine())->host_gb_s, std::nullopt);
}

TEST_F(Cache, WhatCannotBeKeptIsAnErrorOfOneLine) {
    put("/file", "");
    const auto status = store_measured(root() + "/file/folder", machine());
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, ErrorCode::io);
}

TEST(Measure, MemoryIsReadAtSomeSpeed) {
    const auto gb_s = measure_host_gb_s(std::uint64_t{1} << 30);
    ASSERT_TRUE(gb_s.has_value()) << gb_s.error().message;
    EXPECT_GT(*gb_s, 0.05);
    EXPECT_LT(*gb_s, 10000);
    EXPECT_EQ(measure_host_gb_s(1 << 20).error().code, ErrorCode::out_of_memory);
}

class MeasureDisk : public testing::FakeRoot {};

TEST_F(MeasureDisk, AFolderAndAFileAreMeasuredAndNothingIsLeftBehind) {
    put("/small", "too small to measure with");
    for (const char* path : {"", "/small"}) {
        const auto gb_s = measure_disk_gb_s(root() + path);
        if (!gb_s && gb_s.error().code == ErrorCode::unsupported)
            GTEST_SKIP() << gb_s.error().message;
        ASSERT_TRUE(gb_s.has_value()) << gb_s.error().message;
        EXPECT_GT(*gb_s, 0.001);
    }
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(root_), {}), 1);
    EXPECT_EQ(get("/small"), "too small to measure with");
}

TEST_F(MeasureDisk, ALargeFileIsItsOwnSample) {
    std::string megabyte(1 << 20, 'x');
    std::ofstream file(root() + "/large");
    for (int i = 0; i < 40; ++i) file << megabyte;
    file.close();
    const auto gb_s = measure_disk_gb_s(root() + "/large");
    if (!gb_s && gb_s.error().code == ErrorCode::unsupported) GTEST_SKIP() << gb_s.error().message;
    ASSERT_TRUE(gb_s.has_value()) << gb_s.error().message;
    EXPECT_GT(*gb_s, 0.001);
}

TEST_F(MeasureDisk, AMissingFileIsAnError) {
    const auto gb_s = measure_disk_gb_s(root() + "/none");
    ASSERT_FALSE(gb_s.has_value());
    EXPECT_THAT(gb_s.error().message, ::testing::HasSubstr("/none: No such file"));
}

}  // namespace
}  // namespace unicorn::machine
