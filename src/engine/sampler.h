#pragma once
// Chooses the next token from the logits. The same options, history and logits give the same
// token in every form of the kernels, with every compiler, and on a GPU: the generator is our own,
// every tie goes to the lower id, and what is drawn from the top-k is computed in integers
// (kernels/draw.h). Without top-k, top-p and typical-p use the C library's exp and log, whose last
// bit may differ between two of them.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/draw.h"
#include "kernels/isa.h"

namespace unicorn::engine {

/// Defaults are Gemma 3's own. "Off" is the value with which a stage changes nothing.
struct SamplerOptions {
    float temperature = 1.0f;         // 0: greedy, always the most likely token
    std::size_t top_k = 64;           // the k most likely; 0: off
    float typical_p = 1.0f;           // (0, 1]; 1: off
    float top_p = 0.95f;              // (0, 1]; 1: off
    float min_p = 0.0f;               // [0, 1]; at least this share of the best one's; 0: off
    float repeat_penalty = 1.0f;      // > 0; divides positive and multiplies other logits; 1: off
    float presence_penalty = 0.0f;    // taken once from the logit of a token already there; 0: off
    float frequency_penalty = 0.0f;   // taken once for each time it is there; 0: off
    std::size_t penalty_last_n = 64;  // tokens that the penalties look back on
    std::map<std::int32_t, float> logit_bias;  // added to the logit of an id; -inf bans it
    std::uint64_t seed = 0;
};

inline constexpr std::size_t kMaxPenaltyHistory = 1u << 20;  // of penalty_last_n

/// Errors: invalid_argument, naming the option, its value and the range.
Status validate(const SamplerOptions& options, std::size_t n_vocab);

/// Uniform numbers by SplitMix64 over a counter: 2^64 of them before the first repeats.
/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
class RandomStream {
public:
    explicit RandomStream(std::uint64_t seed);
    std::uint64_t next();
    /// In [0, 1), a multiple of 2^-53.
    double uniform();
    std::uint64_t counter() const { return state_; }

private:
    std::uint64_t state_;
};

/// One answer's sampler. Stages, in llama.cpp's default order:
///   bias -> penalties -> top-k -> typical -> top-p -> min-p -> temperature -> draw
/// Each of typical and top-p looks at probabilities renormalised over what the stages before it
/// left, before the temperature is applied. A stage always leaves at least one token.
/// A NaN logit counts as -inf, and -inf is never drawn; +inf counts as the largest float.
class Sampler {
public:
    /// Errors: as validate(), and as kernels::choose_isa().
    static Result<Sampler> create(const SamplerOptions& options, std::size_t n_vocab);

    /// Draws from logits [V], V == n_vocab; nothing when no logit is above -inf, which only a
    /// broken model or a ban of everything does. Allocates nothing. Does not accept() what it drew.
    std::optional<std::int32_t> sample(std::span<const float> logits);

    /// Notes a token of the timeline (prompt or answer) for the penalties.
    void accept(std::int32_t id);

    /// Whether it always draws the most likely token, whatever came before.
    bool is_greedy() const {
        return options_.temperature == 0 && options_.logit_bias.empty() && !has_penalties();
    }

    /// Whether a GPU can draw in its place, to the same tokens, with `n_banned` tokens ruled out:
    /// it takes the best only, or has a top-k of at most draw::kMaxTopK and no typical-p; and it
    /// looks back on draw::kMaxHistory tokens, biases draw::kMaxBias and has 2^draw::kIdBits at
    /// most.
    bool fits_gpu(std::size_t n_banned) const;
    /// Its options and its state, for a GPU that draws from here on; tokens of `banned` are never
    /// drawn. Requires fits_gpu(banned.size()).
    void describe(std::span<const std::int32_t> banned, kernels::draw::DrawState& to) const;
    /// A GPU has drawn a token in its place: what sample() does to the state. The token is then to
    /// be accept()ed, as the GPU has done.
    void drew();

    /// As freshly created: no history, the seed's first number next.
    void reset();

    const SamplerOptions& options() const { return options_; }

private:
    struct Candidate {
        float logit;
        std::int32_t id;
    };

    Sampler(const SamplerOptions& options, std::size_t n_vocab, kernels::Isa isa);
    void load(std::span<const float> logits);
    void apply_penalties();
    bool has_penalties() const;
    std::int32_t most_likely() const;
    void keep_all();
    void select_best(std::size_t k);
    void keep_top_p_of_all();
    void keep_typical();
    std::size_t top_p_count(double total) const;
    void keep_top_p();
    std::uint64_t distance(float logit, std::uint32_t mantissa, int exponent) const;
    void keep_min_p();
    std::int32_t draw();

    /// log2(e) / t = mantissa * 2^exponent, as draw::distance() takes it.
    struct Scale {
        explicit Scale(double temperature);
        std::uint32_t mantissa;
        int exponent;
    };

    SamplerOptions options_;
    kernels::Isa isa_;
    Scale base_scale_, scale_;        // for temperature 1, and for that of the options
    std::uint64_t top_p_share_ = 0;   // times 2^64
    std::uint64_t most_distant_ = 0;  // min-p
    RandomStream random_;
    float best_ = 0;                      // the largest logit, after bias and penalties
    std::vector<float> logits_;           // [V], after bias and penalties
    std::vector<Candidate> candidates_;   // what the stages so far left
    std::vector<std::uint64_t> weights_;  // of each candidate, for draw()
    std::vector<std::int32_t> history_;   // ring of the last penalty_last_n tokens
    std::size_t history_next_ = 0;
    std::vector<std::int32_t> sorted_;  // history_ sorted, to count each id
};

}  // namespace unicorn::engine
