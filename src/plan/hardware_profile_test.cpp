#include "plan/hardware_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace unicorn::plan {
namespace {

using memory::Tier;
using ::testing::HasSubstr;

constexpr const char* kMinimal = R"(name = "m"
[[pools]]
name = "system"
capacity = "16 GiB"
available = 1000
[[tiers]]
tier = "host"
pool = "system"
capacity = "16 GB"
[[devices]]
kind = "cpu"
name = "c"
tiers = ["host"]
)";

std::string with(std::string text, const std::string& old, const std::string& now) {
    const std::size_t at = text.find(old);
    EXPECT_NE(at, std::string::npos) << old;
    return text.replace(at, old.size(), now);
}

TEST(HardwareProfile, SizesHaveUnits) {
    const auto profile = parse_profile(kMinimal, "m.toml");
    ASSERT_TRUE(profile) << profile.error().message;
    EXPECT_EQ(profile->pool("system")->capacity_bytes, std::uint64_t{16} << 30);
    EXPECT_EQ(profile->pool("system")->available_bytes, 1000u);
    EXPECT_EQ(profile->tier(Tier::host)->capacity_bytes, 16'000'000'000u);
    EXPECT_EQ(profile->tier(Tier::host)->read_gb_s, 0);
    EXPECT_EQ(profile->tier(Tier::vram), nullptr);
    EXPECT_EQ(profile->pool("gpu0"), nullptr);
}

TEST(HardwareProfile, EveryShippedOneIsValidAndSurvivesPrinting) {
    std::size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(UNICORN_SOURCE_DIR "/profiles")) {
        const auto profile = load_profile(entry.path());
        ASSERT_TRUE(profile) << profile.error().message;
        EXPECT_EQ(profile->name, entry.path().stem());
        const std::string text = to_toml(*profile);
        const auto again = parse_profile(text, "again");
        ASSERT_TRUE(again) << again.error().message << "\n" << text;
        EXPECT_EQ(to_toml(*again), text);
        for (std::size_t i = 0; i < profile->tiers.size(); ++i) {
            EXPECT_EQ(again->tiers[i].tier, profile->tiers[i].tier);
            EXPECT_EQ(again->tiers[i].capacity_bytes, profile->tiers[i].capacity_bytes);
            EXPECT_EQ(again->tiers[i].read_gb_s, profile->tiers[i].read_gb_s);
            EXPECT_EQ(again->tiers[i].measured, profile->tiers[i].measured);
        }
        for (std::size_t i = 0; i < profile->devices.size(); ++i)
            EXPECT_EQ(again->devices[i].tiers, profile->devices[i].tiers);
        ++n;
    }
    EXPECT_GE(n, 5u);
}

TEST(HardwareProfile, NamesMayHoldAnything) {
    HardwareProfile profile = cpu_only_profile(10, 10);
    profile.devices[0].name = "a \"b\" \\ \n\t\x7F é";
    const auto again = parse_profile(to_toml(profile), "again");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->devices[0].name, profile.devices[0].name);
}

TEST(HardwareProfile, MistakesAreOneLineWithTheirPlace) {
    const std::string text = kMinimal;
    const struct {
        std::string text, reason;
    } cases[] = {
        {"name = ", "line 1"},
        {"", "the profile has no name"},
        {with(text, "name = \"m\"", "name = 7"), "line 1: name of the profile is not a text"},
        {with(text, "16 GiB", "16 GiBs"), "line 4: capacity of a pool is not a size"},
        {with(text, "available = 1000", "available = -1"), "line 5: available of a pool"},
        {with(text, "available", "avail"), "line 5: avail is not a key of a pool"},
        {with(text, "available = 1000", "available = \"17 GiB\""), "more than its"},
        {with(text, "pool = \"system\"", "pool = \"sys\""), "there is no pool 'sys'"},
        {with(text, "\"host\"\npool", "\"sram\"\npool"), "line 7: tier of a tier is not one of"},
        {with(text, "kind = \"cpu\"", "kind = \"tpu\""), "kind of a device is not one of cpu, gpu"},
        {with(text, "kind = \"cpu\"", "kind = \"gpu\""), "one device of kind cpu"},
        {with(text, "tiers = [\"host\"]", "tiers = \"host\""), "is not an array"},
        {with(text, "tiers = [\"host\"]", "tiers = [\"gtt\"]"), "there is no tier gtt"},
        {with(text, "[[devices]]", "[devices]"), "devices of the profile is not tables"},
        {with(text, "capacity = \"16 GB\"", "capacity = 1\nread_gb_s = -2"), "read_gb_s is -2"},
        {with(text, "capacity = \"16 GB\"", "capacity = 1\nread_gb_s = nan"), "read_gb_s is"},
        {with(text, "capacity = \"16 GB\"", "capacity = 1\nmeasured = 1"), "true or false"},
    };
    for (const auto& [broken, reason] : cases) {
        const auto profile = parse_profile(broken, "m.toml");
        ASSERT_FALSE(profile) << broken;
        EXPECT_EQ(profile.error().code, ErrorCode::invalid_file);
        EXPECT_THAT(profile.error().message, ::testing::StartsWith("m.toml: "));
        EXPECT_THAT(profile.error().message, HasSubstr(reason));
        EXPECT_EQ(profile.error().message.find('\n'), std::string::npos);
    }
}

TEST(HardwareProfile, ValidateFindsWhatIsTwice) {
    HardwareProfile profile = cpu_only_profile(10, 10);
    EXPECT_TRUE(validate(profile));
    HardwareProfile twice = profile;
    twice.tiers.push_back(twice.tiers[0]);
    EXPECT_THAT(validate(twice).error().message, HasSubstr("tier host twice"));
    twice = profile;
    twice.pools.push_back(twice.pools[0]);
    EXPECT_THAT(validate(twice).error().message, HasSubstr("two pools are called system"));
    twice = profile;
    twice.tiers.push_back({Tier::disk, "system", 1, 1, false});
    EXPECT_THAT(validate(twice).error().message, HasSubstr("draws on no pool"));
    twice.tiers.clear();
    EXPECT_THAT(validate(twice).error().message, HasSubstr("no tier host"));
}

TEST(HardwareProfile, AFileThatIsNotThereIsNamed) {
    const auto profile = load_profile("/no/such/profile.toml");
    ASSERT_FALSE(profile);
    EXPECT_EQ(profile.error().code, ErrorCode::not_found);
    EXPECT_THAT(profile.error().message, HasSubstr("/no/such/profile.toml"));
    EXPECT_EQ(load_profile("atari-st").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace unicorn::plan
