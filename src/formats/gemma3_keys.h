#pragma once
// The metadata keys of a Gemma 3 GGUF, in one place for those who read and those who write them.

#include <cstdint>
#include <string_view>

namespace unicorn::formats::gemma3 {

inline constexpr std::string_view kArchitecture = "gemma3";  // general.architecture

// Keys that every Gemma 3 GGUF has.
inline constexpr std::string_view kContextLength = "gemma3.context_length";
inline constexpr std::string_view kEmbeddingLength = "gemma3.embedding_length";
inline constexpr std::string_view kBlockCount = "gemma3.block_count";
inline constexpr std::string_view kFeedForwardLength = "gemma3.feed_forward_length";
inline constexpr std::string_view kHeadCount = "gemma3.attention.head_count";
inline constexpr std::string_view kHeadCountKv = "gemma3.attention.head_count_kv";
inline constexpr std::string_view kKeyLength = "gemma3.attention.key_length";
inline constexpr std::string_view kValueLength = "gemma3.attention.value_length";
inline constexpr std::string_view kNormEpsilon = "gemma3.attention.layer_norm_rms_epsilon";
inline constexpr std::string_view kSlidingWindow = "gemma3.attention.sliding_window";

// Keys with a default: base 1e6, no scaling.
inline constexpr std::string_view kRopeBase = "gemma3.rope.freq_base";
inline constexpr std::string_view kRopeScalingType =
    "gemma3.rope.scaling.type";  // "linear", "none"
inline constexpr std::string_view kRopeScalingFactor =
    "gemma3.rope.scaling.factor";  // global layers

// What llama.cpp derives from the model's size instead of reading. We write them only where they
// differ from what it would derive, and read them when they are there.
inline constexpr std::string_view kRopeBaseLocal = "gemma3.rope.freq_base_swa";  // 1e4
inline constexpr std::string_view kSlidingWindowPattern =
    "gemma3.attention.sliding_window_pattern";  // 6
inline constexpr std::string_view kQueryPreAttnScalar = "gemma3.attention.query_pre_attn_scalar";

/// The published 27B is the one size whose query_pre_attn_scalar is D / H and not head_dim; GGUF
/// files do not say so, and every reader knows it by its number of layers.
inline constexpr std::uint64_t kLayersOf27b = 62;

}  // namespace unicorn::formats::gemma3

/// What a model's makers suggest for sampling, under llama.cpp's names; none is needed.
namespace unicorn::formats::sampling {

inline constexpr std::string_view kTemperature = "general.sampling.temp";
inline constexpr std::string_view kTopK = "general.sampling.top_k";  // negative or 0: off
inline constexpr std::string_view kTopP = "general.sampling.top_p";
inline constexpr std::string_view kMinP = "general.sampling.min_p";
inline constexpr std::string_view kRepeatPenalty = "general.sampling.penalty_repeat";
inline constexpr std::string_view kPenaltyLastN = "general.sampling.penalty_last_n";  // -1: all

}  // namespace unicorn::formats::sampling
