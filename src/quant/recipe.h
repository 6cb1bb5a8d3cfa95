#pragma once
// Which weight type each matrix of a model gets.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/dtype.h"

namespace unicorn::quant {

/// The matrices of Gemma 3. Norms are f32 in every recipe.
enum class Role { embedding, q, k, v, o, gate, up, down };

inline constexpr std::size_t kRoles = 8;

struct Recipe {
    std::string_view name;
    std::uint32_t file_type = 0;                // general.file_type: llama.h, enum llama_ftype
    std::array<tensor::DType, kRoles> types{};  // by Role
    bool more_bits = false;  // v and down get Q6_K in the first and last eighth of the layers and
                             // in every third between: what llama.cpp calls use_more_bits
};

/// The recipe called `name`, in either case:
///   a type    all matrices of that type; the embedding, which is the head too, Q6_K where the type
///             has fewer bits, as llama.cpp's quantiser does
///   q4_k_m    Q4_K, some v and down Q6_K, embedding Q6_K
///   mixed     embedding Q8_0, q, k, v, o and down Q4_0, gate and up Q2_K
/// Errors: invalid_argument, naming all recipes.
Result<Recipe> find_recipe(std::string_view name);

/// Every recipe's name, separated by ", ".
std::string recipe_names();

/// What the recipe wants for a matrix; `layer` does not matter for the embedding.
tensor::DType wanted_type(const Recipe& recipe, Role role, std::size_t layer, std::size_t n_layers);

/// `wanted`, or what stands in for it where `cols` is no multiple of its block, by llama.cpp's
/// rules: Q2_K, Q3_K, IQ4_XS -> IQ4_NL; Q4_K -> Q5_0; Q5_K -> Q5_1; Q6_K -> Q8_0; F16 where blocks
/// of 32 do not fit either.
tensor::DType fitting_type(tensor::DType wanted, std::size_t cols);

}  // namespace unicorn::quant
