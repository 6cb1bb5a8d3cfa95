#include "quant/recipe.h"

#include <algorithm>
#include <cctype>

namespace unicorn::quant {
namespace {

using tensor::DType;

std::uint32_t file_type(DType type) {
    switch (type) {
        case DType::f32: return 0;
        case DType::f16: return 1;
        case DType::q4_0: return 2;
        case DType::q4_1: return 3;
        case DType::q8_0: return 7;
        case DType::q5_0: return 8;
        case DType::q5_1: return 9;
        case DType::q2_k: return 10;
        case DType::q3_k: return 11;  // Q3_K_S: the small form is the one without a mix
        case DType::q4_k: return 14;  // Q4_K_S
        case DType::q5_k: return 16;  // Q5_K_S
        case DType::q6_k: return 18;
        case DType::iq4_nl: return 25;
        case DType::iq4_xs: return 30;
        case DType::bf16: return 32;
    }
    return 0;
}

Recipe uniform(const tensor::DTypeInfo& type) {
    Recipe recipe{type.name, file_type(type.type), {}, false};
    recipe.types.fill(type.type);
    if (type.quantized && type.type != DType::q8_0)
        recipe.types[static_cast<std::size_t>(Role::embedding)] = DType::q6_k;
    return recipe;
}

// embedding, q, k, v, o, gate, up, down
constexpr Recipe kMixes[] = {
    {"q4_k_m",
     15,
     {DType::q6_k, DType::q4_k, DType::q4_k, DType::q4_k, DType::q4_k, DType::q4_k, DType::q4_k,
      DType::q4_k},
     true},
    {"mixed",
     10,  // Q2_K: most of the weights
     {DType::q8_0, DType::q4_0, DType::q4_0, DType::q4_0, DType::q4_0, DType::q2_k, DType::q2_k,
      DType::q4_0},
     false},
};

}  // namespace

Result<Recipe> find_recipe(std::string_view name) {
    if (const auto type = tensor::dtype_from_name(name)) return uniform(tensor::info(*type));
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    for (const Recipe& recipe : kMixes) {
        if (recipe.name == lower) return recipe;
    }
    return fail(ErrorCode::invalid_argument, "no type or recipe is called '{}'; there are {}", name,
                recipe_names());
}

std::string recipe_names() {
    std::string names;
    for (const tensor::DTypeInfo& type : tensor::all_dtypes())
        names += std::string(type.name) + ", ";
    for (const Recipe& recipe : kMixes) names += std::string(recipe.name) + ", ";
    names.resize(names.size() - 2);
    return names;
}

DType wanted_type(const Recipe& recipe, Role role, std::size_t layer, std::size_t n_layers) {
    const std::size_t eighth = n_layers / 8;
    const bool more = layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
    if (recipe.more_bits && more && (role == Role::v || role == Role::down)) return DType::q6_k;
    return recipe.types[static_cast<std::size_t>(role)];
}

DType fitting_type(DType wanted, std::size_t cols) {
    if (cols % tensor::info(wanted).block_size == 0) return wanted;
    if (cols % 32 != 0) return DType::f16;
    switch (wanted) {
        case DType::q4_k: return DType::q5_0;
        case DType::q5_k: return DType::q5_1;
        case DType::q6_k: return DType::q8_0;
        default: return DType::iq4_nl;  // q2_k, q3_k, iq4_xs
    }
}

}  // namespace unicorn::quant
