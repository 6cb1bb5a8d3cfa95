#include "cases.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/check.h"

namespace unicorn::malformed {

std::vector<Case> all_cases() {
    std::vector<Case> all = gguf_cases();
    for (auto* cases : {&model_cases, &safetensors_cases, &folder_cases}) {
        std::vector<Case> more = cases();
        std::move(more.begin(), more.end(), std::back_inserter(all));
    }
    return all;
}

std::string write_case(const Case& malformed, const std::string& folder) {
    const std::filesystem::path root = folder;
    for (const auto& [name, bytes] : malformed.files) {
        std::ofstream out(root / name, std::ios::binary);
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        UNICORN_CHECK(out.good());
    }
    return malformed.kind == Kind::folder ? folder
                                          : (root / malformed.files.front().first).string();
}

}  // namespace unicorn::malformed
