#include "machine/tune.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "machine/testing.h"

namespace unicorn::machine {
namespace {

using ::testing::HasSubstr;

constexpr const char* kGovernor = "/sys/devices/system/cpu/cpufreq/policy1/scaling_governor";
constexpr const char* kPreference =
    "/sys/devices/system/cpu/cpufreq/policy0/energy_performance_preference";
constexpr const char* kLevel =
    "/sys/bus/pci/devices/0000:c6:00.0/power_dpm_force_performance_level";
constexpr const char* kState = "/var/lib/unicorn/tune.json";

class Tune : public testing::FakeRoot {
protected:
    void SetUp() override {
        FakeRoot::SetUp();
        copy("ryzen-8945hs-96gb");
        options_ = {.sysfs_root = root(), .npu_driver = &npu_};
    }
    std::string problems(const std::vector<Change>& changes) const {
        std::string text;
        for (const Change& change : changes)
            if (!change.problem.empty()) text += change.name + ": " + change.problem + "\n";
        return text;
    }

    testing::FakeNpuDriver npu_;
    TuneOptions options_;
};

TEST_F(Tune, ShowsWhatItWouldDoAndDoesNothing) {
    const auto settings = tunable_settings(options_);
    ASSERT_TRUE(settings.has_value());
    std::string text;
    for (const Setting& s : *settings) text += s.name + ": " + s.current + " -> " + s.wanted + "\n";
    EXPECT_EQ(text,
              "energy preference of policy0: balance_performance -> performance\n"
              "energy preference of policy1: balance_performance -> performance\n"
              "governor of policy0: powersave -> performance\n"
              "governor of policy1: powersave -> performance\n"
              "performance level of GPU 0000:c6:00.0: auto -> high\n"
              "power mode of NPU accel0: default -> high\n"
              "vm.swappiness: 60 -> 10\n"
              "vm.vfs_cache_pressure: 100 -> 50\n"
              "transparent huge pages: madvise -> madvise\n");
    EXPECT_EQ(get(kGovernor), "powersave\n");
    EXPECT_FALSE(std::filesystem::exists(root() + kState));
}

TEST_F(Tune, AppliesReadsBackAndRestores) {
    auto changes = apply_settings(options_);
    ASSERT_TRUE(changes.has_value()) << changes.error().message;
    EXPECT_EQ(problems(*changes), "");
    EXPECT_EQ(changes->size(), 8u);
    EXPECT_EQ(get(kGovernor), "performance");
    EXPECT_EQ(get(kPreference), "performance");
    EXPECT_EQ(get(kLevel), "high");
    EXPECT_EQ(npu_.mode, NpuPowerMode::high);
    EXPECT_EQ(get("/proc/sys/vm/swappiness"), "10");
    ASSERT_TRUE(std::filesystem::exists(root() + kState));

    changes = restore_settings(options_);
    ASSERT_TRUE(changes.has_value()) << changes.error().message;
    EXPECT_EQ(problems(*changes), "");
    EXPECT_EQ(changes->front().name, "vm.vfs_cache_pressure");  // the last comes first
    EXPECT_EQ(get(kGovernor), "powersave");
    EXPECT_EQ(get(kPreference), "balance_performance");
    EXPECT_EQ(get(kLevel), "auto");
    EXPECT_EQ(npu_.mode, NpuPowerMode::automatic);
    EXPECT_EQ(get("/proc/sys/vm/swappiness"), "60");
    EXPECT_FALSE(std::filesystem::exists(root() + kState));
}

TEST_F(Tune, ApplyingTwiceKeepsTheFirstValues) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    auto again = apply_settings(options_);
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(again->empty());  // nothing left to do
    put(kLevel, "low");           // someone else changed it meanwhile
    again = apply_settings(options_);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->size(), 1u);
    ASSERT_TRUE(restore_settings(options_).has_value());
    EXPECT_EQ(get(kLevel), "auto");
}

TEST_F(Tune, ARecordOfAnEarlierBootIsVoid) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    put("/proc/sys/kernel/random/boot_id", "another");
    put(kGovernor, "powersave");
    put(kLevel, "manual");
    ASSERT_TRUE(apply_settings(options_).has_value());
    ASSERT_TRUE(restore_settings(options_).has_value());
    EXPECT_EQ(get(kLevel), "manual");
    EXPECT_EQ(get("/proc/sys/vm/swappiness"), "10");  // as it was in this boot
}

TEST_F(Tune, AfterARestartThereIsNothingToRestore) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    put("/proc/sys/kernel/random/boot_id", "another");
    put("/proc/sys/vm/swappiness", "30");
    const auto changes = restore_settings(options_);
    ASSERT_FALSE(changes.has_value());
    EXPECT_EQ(changes.error().code, ErrorCode::not_found);
    EXPECT_THAT(changes.error().message, HasSubstr("was restarted"));
    EXPECT_EQ(get("/proc/sys/vm/swappiness"), "30");
    EXPECT_FALSE(std::filesystem::exists(root() + kState));
}

TEST_F(Tune, ADamagedRecordIsNotWrittenOverAndNothingIsChanged) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    const std::string record = get(kState);
    put(kState, record.substr(0, record.size() / 2));
    put(kGovernor, "powersave");
    const auto changes = apply_settings(options_);
    ASSERT_FALSE(changes.has_value());
    EXPECT_EQ(changes.error().code, ErrorCode::invalid_file);
    EXPECT_EQ(get(kState), record.substr(0, record.size() / 2));
    EXPECT_EQ(get(kGovernor), "powersave");
}

TEST_F(Tune, WhatAlreadyIsAsItWasNeedsNoWriting) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    npu_.mode = NpuPowerMode::automatic;
    npu_.refuses = true;
    const auto changes = restore_settings(options_);
    ASSERT_TRUE(changes.has_value());
    EXPECT_EQ(problems(*changes), "");
    EXPECT_FALSE(std::filesystem::exists(root() + kState));
}

TEST_F(Tune, TheNpusDriverMayRefuseOrIgnore) {
    npu_.refuses = true;
    auto changes = apply_settings(options_);
    ASSERT_TRUE(changes.has_value());
    EXPECT_THAT(problems(*changes), HasSubstr("cannot set the power mode: denied"));
    EXPECT_EQ(get(kGovernor), "performance");  // the others are set all the same
    npu_.refuses = false;
    npu_.ignores = true;
    changes = apply_settings(options_);
    ASSERT_TRUE(changes.has_value());
    EXPECT_EQ(problems(*changes), "power mode of NPU accel0: was set to high, but reads default\n");
}

TEST_F(Tune, WithoutADriverToAskTheNpuIsLeftAlone) {
    options_.npu_driver = nullptr;
    auto changes = apply_settings(options_);
    ASSERT_TRUE(changes.has_value());
    EXPECT_EQ(problems(*changes), "power mode of NPU accel0: cannot be asked below another root\n");
    EXPECT_TRUE(restore_settings(options_).has_value());
}

TEST_F(Tune, WhatDoesNotComeBackStaysRecorded) {
    ASSERT_TRUE(apply_settings(options_).has_value());
    npu_.refuses = true;
    auto changes = restore_settings(options_);
    ASSERT_TRUE(changes.has_value());
    EXPECT_THAT(problems(*changes), HasSubstr("denied"));
    EXPECT_EQ(get(kGovernor), "powersave");
    npu_.refuses = false;
    changes = restore_settings(options_);
    ASSERT_TRUE(changes.has_value());
    ASSERT_EQ(changes->size(), 1u);
    EXPECT_EQ(npu_.mode, NpuPowerMode::automatic);
    EXPECT_FALSE(std::filesystem::exists(root() + kState));
}

TEST_F(Tune, NothingIsChangedWhenTheOldValuesCannotBeKept) {
    put("/var/lib/unicorn", "a file where the folder should be");
    const auto changes = apply_settings(options_);
    ASSERT_FALSE(changes.has_value());
    EXPECT_EQ(changes.error().code, ErrorCode::io);
    EXPECT_EQ(get(kGovernor), "powersave\n");
    EXPECT_EQ(npu_.mode, NpuPowerMode::automatic);
}

TEST_F(Tune, ARecordThatWasTamperedWithWritesNowhere) {
    put("/etc/shadow", "secret");
    for (const char* path : {"/etc/shadow", "/sys/bus/pci/devices/../../../../etc/shadow"}) {
        put(kState, std::string("{\"boot\": \"b\", \"settings\": [{\"name\": \"x\", \"path\": \"") +
                        path + "\", \"value\": \"gone\"}]}");
        const auto changes = restore_settings(options_);
        ASSERT_FALSE(changes.has_value());
        EXPECT_EQ(changes.error().code, ErrorCode::invalid_file);
        EXPECT_EQ(get("/etc/shadow"), "secret");
    }
    for (const char* text : {"", "{}", "[]", "{\"boot\": 1, \"settings\": []}",
                             "{\"boot\": \"b\", \"settings\": [5]}"}) {
        put(kState, text);
        EXPECT_EQ(restore_settings(options_).error().code, ErrorCode::invalid_file) << text;
    }
}

TEST_F(Tune, NothingRecordedIsSaid) {
    const auto changes = restore_settings(options_);
    ASSERT_FALSE(changes.has_value());
    EXPECT_EQ(changes.error().code, ErrorCode::not_found);
    EXPECT_THAT(changes.error().message, HasSubstr("nothing to restore"));
    EXPECT_EQ(tunable_settings({.sysfs_root = root() + "/none"}).error().code,
              ErrorCode::not_found);
}

TEST_F(Tune, HugePagesThatAreOffAreWantedBack) {
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]");
    const auto settings = tunable_settings(options_);
    ASSERT_TRUE(settings.has_value());
    EXPECT_EQ(settings->back().current, "never");
    EXPECT_EQ(settings->back().wanted, "madvise");
}

TEST(TuneOnAVirtualMachine, OnlyMemoryCanBeSet) {
    const auto settings = tunable_settings({.sysfs_root = testing::fixture("vm-4cpu")});
    ASSERT_TRUE(settings.has_value());
    EXPECT_EQ(settings->size(), 3u);
}

TEST(NpuDriverTest, NodesThatAreNoneAreErrorsOfOneLine) {
    AmdxdnaDriver driver;
    const auto missing = driver.query("/no/such/node");
    ASSERT_FALSE(missing.has_value());
    EXPECT_EQ(missing.error().code, ErrorCode::not_found);
    // A device that knows none of the calls.
    EXPECT_EQ(driver.query("/dev/null").error().code, ErrorCode::unsupported);
    EXPECT_EQ(driver.power_mode("/dev/null").error().code, ErrorCode::unsupported);
    const auto status = driver.set_power_mode("/dev/null", NpuPowerMode::high);
    EXPECT_EQ(status.error().code, ErrorCode::unsupported);
    EXPECT_THAT(status.error().message, HasSubstr("/dev/null: cannot set the power mode"));
}

TEST(NpuDriverTest, PowerModesHaveNamesBothWays) {
    for (const NpuPowerMode mode : {NpuPowerMode::automatic, NpuPowerMode::low,
                                    NpuPowerMode::medium, NpuPowerMode::high, NpuPowerMode::turbo})
        EXPECT_EQ(power_mode_from_name(name(mode)), mode);
    EXPECT_EQ(power_mode_from_name("fast"), std::nullopt);
}

}  // namespace
}  // namespace unicorn::machine
