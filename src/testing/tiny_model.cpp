#include "testing/tiny_model.h"

#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "base/check.h"
#include "quant/recipe.h"

namespace unicorn::testing {

TemporaryFolder::TemporaryFolder() {
    static std::atomic<int> count{0};
    const auto name = "unicorn_test_" + std::to_string(getpid()) + "_" + std::to_string(count++);
    folder_ = (std::filesystem::temp_directory_path() / name).string();
    std::filesystem::create_directories(folder_);
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;  // a folder that stays behind does no harm
    std::filesystem::remove_all(folder_, ignored);
}

std::string TemporaryFolder::path(std::string_view name) const {
    return (std::filesystem::path(folder_) / name).string();
}

quant::SynthShape tiny_shape() {
    quant::SynthShape shape;
    shape.name = "tiny";
    shape.n_layers = 7;
    shape.dim = 256;
    shape.ffn_dim = 512;
    shape.n_heads = 4;
    shape.n_kv_heads = 2;
    shape.head_dim = 64;
    shape.window = 48;
    shape.max_context = 1024;
    shape.query_pre_attn_scalar = 64;
    shape.n_vocab = 600;
    return shape;
}

void write_tiny_model(const std::string& path, std::string_view recipe,
                      const quant::SynthShape& shape) {
    quant::SynthOptions options;
    options.shape = shape;
    auto found = quant::find_recipe(recipe);
    UNICORN_CHECK(found);
    options.recipe = *found;
    UNICORN_CHECK(quant::write_synthetic_model(options, path));
}

}  // namespace unicorn::testing
