// doctor and tune, run on the machines of tests/machines.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "fixture.h"
#include "process.h"
#include "testing/tiny_model.h"

namespace unicorn::cli_tests {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kMachines = std::string(UNICORN_SOURCE_DIR) + "/tests/machines/";

TEST(Doctor, TheExitCodeIsTheVerdict) {
    EXPECT_EQ(unicorn({"doctor", "--sysfs-root", kMachines + "ryzen-8945hs-96gb"}).exit_code, 0);
    EXPECT_EQ(unicorn({"doctor", "--sysfs-root", kMachines + "desktop-7900xtx"}).exit_code, 1);
    EXPECT_EQ(unicorn({"doctor", "--sysfs-root", kMachines + "ryzen-8945hs-32gb"}).exit_code, 2);
}

TEST(Doctor, ALineForEachCheckAndACommandBelowEachFailure) {
    const Outcome o = unicorn({"doctor", "--sysfs-root", kMachines + "ryzen-8945hs-32gb"});
    EXPECT_EQ(o.err, "");
    std::istringstream lines(o.out);
    std::size_t failures = 0, commands = 0;
    bool after_failure = false;
    for (std::string line; std::getline(lines, line);) {
        const bool command = line.starts_with("        $ ");
        EXPECT_TRUE(command || line.starts_with("pass  ") || line.starts_with("warn  ") ||
                    line.starts_with("fail  "))
            << line;
        EXPECT_TRUE(command || !after_failure) << line;
        after_failure = line.starts_with("fail  ");
        failures += after_failure ? 1 : 0;
        commands += command ? 1 : 0;
    }
    EXPECT_EQ(failures, 5u);
    EXPECT_GE(commands, failures);
}

TEST(Doctor, AGttSizeGivesTheModprobeLine) {
    const Outcome o =
        unicorn({"doctor", "--gtt", "48GiB", "--sysfs-root", kMachines + "ryzen-8945hs-96gb"});
    EXPECT_EQ(o.exit_code, 2);
    EXPECT_THAT(o.out, HasSubstr("options ttm pages_limit=12582912 page_pool_size=12582912"));
}

TEST(Doctor, JsonHoldsChecksMachineAndProfile) {
    for (const char* name : {"ryzen-8945hs-96gb", "ryzen-8945hs-32gb", "strix-halo-128gb",
                             "desktop-7900xtx", "vm-4cpu"}) {
        const Outcome o = unicorn({"doctor", "--json", "--sysfs-root", kMachines + name});
        const auto json = nlohmann::json::parse(o.out, nullptr, false);
        ASSERT_TRUE(json.is_object()) << o.out;
        EXPECT_EQ(json["exit_code"], o.exit_code);
        EXPECT_EQ(json["verdict"], o.exit_code == 0 ? "pass" : o.exit_code == 1 ? "warn" : "fail");
        std::set<std::string> names;
        for (const auto& check : json["checks"]) {
            names.insert(check["name"]);
            EXPECT_TRUE(check["status"] != "fail" || check["command"].is_string());
        }
        EXPECT_GE(names.size(), 14u);
        EXPECT_GT(json["machine"]["memory"]["total_bytes"], 1u << 30);
        EXPECT_TRUE(json["machine"]["measured"]["host_gb_s"].is_null());
        EXPECT_EQ(json["profile"]["pools"][0]["name"], "system");
        EXPECT_FALSE(json["profile"]["tiers"].empty());
    }
}

TEST(Doctor, MistakesExitWithTwoAndOneLine) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"doctor", "--sysfs-root", "/no/such/folder"},
                                               {"doctor", "--gtt", "much"},
                                               {"doctor", "--measure", "--no-measure"},
                                               {"doctor", "-m", "/no/such/model.gguf"}}) {
        const Outcome o = unicorn(arguments);
        EXPECT_EQ(o.exit_code, 2);
        EXPECT_TRUE(is_one_error_line(o.err)) << o.err;
        EXPECT_EQ(o.out, "");
    }
}

class DoctorHere : public WithModel {};

TEST_F(DoctorHere, MeasuresOnceAndKeepsItWhateverTheCacheHolds) {
    const Streams streams{.environment = {{"XDG_CACHE_HOME", path("cache")}}};
    const auto measured = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments{"doctor", "--json", "-m", model()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const Outcome o = unicorn(arguments, streams);
        const auto json = nlohmann::json::parse(o.out, nullptr, false);
        EXPECT_TRUE(json.is_object()) << o.out << o.err;
        return json["machine"]["measured"]["host_gb_s"];
    };
    EXPECT_TRUE(measured({"--no-measure"}).is_null());
    const auto first = measured({});
    ASSERT_TRUE(first.is_number());
    EXPECT_GT(first.get<double>(), 0);
    EXPECT_EQ(measured({"--no-measure"}), first);
    std::size_t files = 0;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(path("cache") + "/unicorn")) {
        std::ofstream(entry.path()) << "{ damaged";
        ++files;
    }
    EXPECT_EQ(files, 1u);
    EXPECT_TRUE(measured({"--no-measure"}).is_null());
    EXPECT_TRUE(measured({}).is_number());
    EXPECT_TRUE(measured({"--no-measure"}).is_number());
}

class Tune : public ::testing::Test {
protected:
    void SetUp() override {
        std::filesystem::copy(kMachines + "ryzen-8945hs-32gb", root(),
                              std::filesystem::copy_options::recursive |
                                  std::filesystem::copy_options::copy_symlinks);
    }
    std::string root() const { return folder_.path("machine"); }
    std::string governor() const {
        return contents(root() + "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor");
    }
    testing::TemporaryFolder folder_;
};

TEST_F(Tune, ShowsAppliesAndRestores) {
    const Outcome shown = unicorn({"tune", "--sysfs-root", root()});
    EXPECT_EQ(shown.exit_code, 0);
    EXPECT_THAT(shown.out, StartsWith("setting"));
    EXPECT_THAT(shown.out, HasSubstr("governor of policy0"));
    EXPECT_THAT(shown.out, HasSubstr(std::string("sudo '") + UNICORN_BINARY +
                                     "' tune --sysfs-root '" + root() + "' --apply"));
    EXPECT_EQ(governor(), "powersave\n");

    const Outcome applied = unicorn({"tune", "--apply", "--sysfs-root", root()});
    EXPECT_EQ(applied.exit_code, 0) << applied.out << applied.err;
    EXPECT_EQ(governor(), "performance");
    EXPECT_EQ(unicorn({"tune", "--apply", "--sysfs-root", root()}).out,
              "everything is as it should be\n");

    const Outcome restored = unicorn({"tune", "--restore", "--sysfs-root", root()});
    EXPECT_EQ(restored.exit_code, 0) << restored.out << restored.err;
    EXPECT_EQ(governor(), "powersave");
    const Outcome again = unicorn({"tune", "--restore", "--sysfs-root", root()});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_TRUE(is_one_error_line(again.err)) << again.err;
}

TEST_F(Tune, ApplyAndRestoreExcludeEachOther) {
    const Outcome o = unicorn({"tune", "--apply", "--restore", "--sysfs-root", root()});
    EXPECT_EQ(o.exit_code, 2);
    EXPECT_TRUE(is_one_error_line(o.err)) << o.err;
}

}  // namespace
}  // namespace unicorn::cli_tests
