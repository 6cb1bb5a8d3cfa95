#include "cli/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "base/program_files.h"

namespace unicorn::cli {
namespace fs = std::filesystem;
namespace {

std::optional<std::string> first_model(const fs::path& folder) {
    std::error_code error;
    std::vector<std::string> models;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        if (it->path().extension() == ".gguf" && it->is_regular_file(error))
            models.push_back(it->path());
    if (models.empty()) return std::nullopt;
    return *std::min_element(models.begin(), models.end());
}

}  // namespace

Result<std::string> resolve_model(const std::string& given) {
    if (!given.empty()) return given;
    if (const char* named = std::getenv("UNICORN_MODEL"); named != nullptr && *named != '\0')
        return named;

    const fs::path shared = shared_folder() / "models";
    if (auto model = first_model(shared)) return *model;

    return fail(ErrorCode::not_found, "no model given, and no *.gguf in {} (use -m FILE)",
                shared.string());
}

}  // namespace unicorn::cli
