// malformed_files DIR: writes every case into a folder of its own below DIR, to try commands on,
// and prints a line for each: its kind, the path to open and a part of the message, with tabs
// between.

#include <fmt/format.h>

#include <filesystem>

#include "cases.h"

int main(int argc, char** argv) {
    if (argc != 2) {
        fmt::print(stderr, "usage: malformed_files DIR\n");
        return 2;
    }
    for (const auto& malformed : unicorn::malformed::all_cases()) {
        const std::string folder = (std::filesystem::path(argv[1]) / malformed.name).string();
        std::filesystem::create_directories(folder);
        constexpr const char* kKinds[] = {"container", "vocabulary", "model", "folder"};
        fmt::print("{}\t{}\t{}\n", kKinds[static_cast<int>(malformed.kind)],
                   unicorn::malformed::write_case(malformed, folder), malformed.message);
    }
}
