#pragma once
// Machines for tests: those of tests/machines, and folders made on the spot.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "machine/machine.h"

namespace unicorn::machine::testing {

inline std::string fixture(const std::string& name) {
    return std::string(UNICORN_SOURCE_DIR) + "/tests/machines/" + name;
}

/// The facts of a machine of tests/machines.
inline Machine fixture_machine(const std::string& name, NpuDriver* npu = nullptr) {
    auto machine =
        detect({.sysfs_root = fixture(name), .path = "/models/model.gguf", .npu_driver = npu});
    EXPECT_TRUE(machine.has_value()) << (machine ? "" : machine.error().message);
    return machine ? std::move(*machine) : Machine();
}

/// A folder that stands for the root of a machine, gone when the test is.
class FakeRoot : public ::testing::Test {
protected:
    void SetUp() override {
        const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
        root_ = std::filesystem::path(::testing::TempDir()) /
                fmt::format("{}_{}_{}", test->test_suite_name(), test->name(), ::getpid());
        std::filesystem::remove_all(root_);
        std::filesystem::create_directories(root_);
    }
    void TearDown() override { std::filesystem::remove_all(root_); }

    void put(const std::string& path, const std::string& text) const {
        const std::filesystem::path file = root_.string() + path;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file, std::ios::binary) << text;
    }
    std::string get(const std::string& path) const {
        std::ifstream file(root_.string() + path);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    /// Copies a machine of tests/machines, to be changed.
    void copy(const std::string& name) const {
        std::filesystem::copy(fixture(name), root_,
                              std::filesystem::copy_options::recursive |
                                  std::filesystem::copy_options::copy_symlinks |
                                  std::filesystem::copy_options::overwrite_existing);
    }
    std::string root() const { return root_.string(); }

    std::filesystem::path root_;
};

/// Answers in the place of the NPU's driver.
class FakeNpuDriver final : public NpuDriver {
public:
    Result<NpuAnswers> query(const std::string& node) override {
        if (silent) return fail(ErrorCode::io, "{}: no answer", node);
        NpuAnswers answers;
        answers.driver_version = "0.6";
        answers.firmware = "1.5.5.391";
        answers.columns = 5;
        answers.power_mode = mode;
        return answers;
    }
    Result<NpuPowerMode> power_mode(const std::string& node) override {
        if (silent) return fail(ErrorCode::io, "{}: no answer", node);
        return mode;
    }
    Status set_power_mode(const std::string& node, NpuPowerMode wanted) override {
        if (refuses) return fail(ErrorCode::io, "{}: cannot set the power mode: denied", node);
        if (!ignores) mode = wanted;
        return {};
    }

    NpuPowerMode mode = NpuPowerMode::automatic;
    bool silent = false, refuses = false, ignores = false;
};

}  // namespace unicorn::machine::testing
