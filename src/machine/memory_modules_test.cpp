#include "machine/memory_modules.h"

#include <gtest/gtest.h>

namespace unicorn::machine {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A structure of type 17 as SMBIOS 3.3 lays it out, with two strings.
std::string memory_device(std::uint16_t size, std::uint16_t mt_s, const std::string& locator,
                          const std::string& bank, std::uint32_t extended_mib = 0) {
    std::string s(0x5C, '\0');
    const auto put = [&s](std::size_t at, std::uint64_t value, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i)
            s[at + i] = static_cast<char>(value >> 8 * i & 0xFF);
    };
    put(0, 17, 1);
    put(1, s.size(), 1);
    put(0x08, 64, 2);
    put(0x0A, 64, 2);
    put(0x0C, size, 2);
    put(0x10, 1, 1);
    put(0x11, 2, 1);
    put(0x12, 0x22, 1);  // DDR5
    put(0x15, 5600, 2);
    put(0x1C, extended_mib, 4);
    put(0x20, mt_s, 2);
    return s + locator + '\0' + bank + '\0' + '\0';
}

std::vector<MemoryModule> parse(const std::string& table) {
    return parse_smbios_memory(std::as_bytes(std::span(table)));
}

TEST(SmbiosMemory, ModulesAreReadAndEmptySlotsLeftOut) {
    const std::string other("\x01\x04\x00\x00\x00\x00", 6);  // no strings: two zeros
    const std::string table = other + memory_device(0x7FFF, 5200, "DIMM 0", "P0 CHANNEL A", 49152) +
                              memory_device(0, 0, "DIMM 1", "P0 CHANNEL A") +
                              memory_device(16384, 5200, "DIMM 0", "P0 CHANNEL B") +
                              std::string("\x7F\x04\x00\x00\x00\x00", 6);
    const auto modules = parse(table);
    ASSERT_EQ(modules.size(), 2u);
    EXPECT_EQ(modules[0].bytes, 48 * kGiB);
    EXPECT_EQ(modules[0].mt_s, 5200u);
    EXPECT_EQ(modules[0].data_bits, 64u);
    EXPECT_EQ(modules[0].type, "DDR5");
    EXPECT_EQ(modules[0].locator, "DIMM 0");
    EXPECT_EQ(modules[0].bank, "P0 CHANNEL A");
    EXPECT_EQ(modules[1].bytes, 16 * kGiB);
    const MemoryBus bus = memory_bus(modules);
    EXPECT_EQ(bus.n_channels, 2u);
    EXPECT_DOUBLE_EQ(bus.peak_gb_s(), 83.2);
}

// Bug of every table parser: a length or a string that runs out of the table.
TEST(SmbiosMemory, AnyPartOfATableIsReadWithoutHarm) {
    const std::string table = memory_device(16384, 5200, "DIMM 0", "P0 CHANNEL A") +
                              memory_device(16384, 5200, "DIMM 0", "P0 CHANNEL B");
    for (std::size_t n = 0; n < table.size(); ++n) EXPECT_LE(parse(table.substr(0, n)).size(), 1u);
    for (std::size_t i = 0; i < table.size(); ++i) {
        std::string odd = table;
        odd[i] = '\xFF';
        EXPECT_LE(parse(odd).size(), 3u) << i;
    }
    EXPECT_TRUE(parse(std::string(4096, '\0')).empty());
    EXPECT_TRUE(parse(std::string(4096, '\xFF')).empty());
}

TEST(UdevMemory, OddValuesAreNotKnown) {
    const auto modules = parse_udev_memory(
        "E:MEMORY_ARRAY_NUM_DEVICES=3\n"
        "E:MEMORY_DEVICE_0_SIZE=17179869184\nE:MEMORY_DEVICE_0_DATA_WIDTH=wide\n"
        "E:MEMORY_DEVICE_0_SPEED_MTS=5600\n"
        "E:MEMORY_DEVICE_1_PRESENT=0\nE:MEMORY_DEVICE_2_SIZE=-5\n");
    ASSERT_EQ(modules.size(), 1u);
    EXPECT_EQ(modules[0].bytes, 16 * kGiB);
    EXPECT_EQ(modules[0].data_bits, 0u);
    EXPECT_EQ(modules[0].mt_s, 5600u);
    EXPECT_EQ(memory_bus(modules).peak_gb_s(), 0);
    EXPECT_TRUE(parse_udev_memory("E:MEMORY_ARRAY_NUM_DEVICES=18446744073709551615").empty());
    EXPECT_TRUE(parse_udev_memory("").empty());
}

MemoryBus bus_of(std::initializer_list<std::pair<const char*, const char*>> names) {
    std::vector<MemoryModule> modules;
    for (const auto& [locator, bank] : names)
        modules.push_back({.bytes = kGiB,
                           .data_bits = 64,
                           .mt_s = 4800,
                           .type = "DDR5",
                           .locator = locator,
                           .bank = bank});
    return memory_bus(modules);
}

TEST(MemoryBusTest, ChannelsAreToldByTheNamesThatFirmwaresUse) {
    EXPECT_EQ(bus_of({{"DIMM 0", "P0 CHANNEL A"}, {"DIMM 1", "P0 CHANNEL A"}}).n_channels, 1u);
    EXPECT_EQ(bus_of({{"DIMM 0", "P0 CHANNEL A"}, {"DIMM 0", "P0 CHANNEL B"}}).n_channels, 2u);
    EXPECT_EQ(
        bus_of({{"Controller0-ChannelA-DIMM0", "BANK 0"}, {"Controller1-ChannelA-DIMM0", "BANK 0"}})
            .n_channels,
        2u);
    EXPECT_EQ(bus_of({{"DIMM_A1", "BANK 0"}, {"DIMM_A2", "BANK 1"}}).n_channels, 1u);
    EXPECT_EQ(bus_of({{"DIMMA2", "P0_Node0_Channel0_Dimm1"}, {"DIMMB2", "P0_Node0_Channel1_Dimm1"}})
                  .n_channels,
              2u);
    EXPECT_EQ(bus_of({{"Top", "BANK 0"}, {"Bottom", "BANK 2"}}).n_channels, 2u);
    EXPECT_EQ(bus_of({{"DIMM_A1", ""}, {"DIMM_A2", ""}, {"DIMM_B1", ""}}).bits, 128u);
    EXPECT_EQ(memory_bus({}).n_channels, 0u);
}

}  // namespace
}  // namespace unicorn::machine
