#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/check.h"
#include "kernels/logits.h"

namespace unicorn::engine {

namespace draw = kernels::draw;

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Without top-k, top-p first looks at this many of the best tokens (typical-p: of the most
// typical), then at eight times as many, and so on: a model that is at all sure of itself has 95 %
// of its probability in the first 512.
constexpr std::size_t kFirstNucleus = 512;
constexpr std::size_t kWiden = 8;

// Best first; equal logits by id, so that the order is total.
constexpr auto kBetter = [](const auto& a, const auto& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

void put_words(std::uint64_t x, std::uint32_t (&to)[2]) {
    to[0] = static_cast<std::uint32_t>(x);
    to[1] = static_cast<std::uint32_t>(x >> 32);
}

}  // namespace

RandomStream::RandomStream(std::uint64_t seed) : state_(draw::random_mix(seed)) {}

std::uint64_t RandomStream::next() {
    state_ += draw::random_step();
    return draw::random_mix(state_);
}

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

Status validate(const SamplerOptions& options, std::size_t n_vocab) {
    constexpr auto kBad = ErrorCode::invalid_argument;
    if (!std::isfinite(options.temperature) || options.temperature < 0)
        return fail(kBad, "temperature is {}, must be 0 or more", options.temperature);
    if (!(options.top_p > 0 && options.top_p <= 1))
        return fail(kBad, "top-p is {}, must be above 0 and at most 1", options.top_p);
    if (!(options.typical_p > 0 && options.typical_p <= 1))
        return fail(kBad, "typical-p is {}, must be above 0 and at most 1", options.typical_p);
    if (!(options.min_p >= 0 && options.min_p <= 1))
        return fail(kBad, "min-p is {}, must be between 0 and 1", options.min_p);
    if (!std::isfinite(options.repeat_penalty) || options.repeat_penalty <= 0)
        return fail(kBad, "repeat penalty is {}, must be above 0", options.repeat_penalty);
    if (!std::isfinite(options.presence_penalty))
        return fail(kBad, "presence penalty is {}, must be finite", options.presence_penalty);
    if (!std::isfinite(options.frequency_penalty))
        return fail(kBad, "frequency penalty is {}, must be finite", options.frequency_penalty);
    if (options.penalty_last_n > kMaxPenaltyHistory)
        return fail(kBad, "penalties look back on {} tokens, at most {} are allowed",
                    options.penalty_last_n, kMaxPenaltyHistory);
    for (const auto& [id, bias] : options.logit_bias) {
        if (id < 0 || static_cast<std::size_t>(id) >= n_vocab)
            return fail(kBad, "logit bias for token {}, the vocabulary has {} tokens", id, n_vocab);
        if (std::isnan(bias) || bias == -kNever)
            return fail(kBad, "logit bias of token {} is {}, must be finite or -inf", id, bias);
    }
    return {};
}

Result<Sampler> Sampler::create(const SamplerOptions& options, std::size_t n_vocab) {
    if (n_vocab == 0) return fail(ErrorCode::invalid_argument, "the vocabulary is empty");
    if (auto status = validate(options, n_vocab); !status) return forward(status);
    auto isa = kernels::choose_isa();
    if (!isa) return forward(isa);
    return Sampler(options, n_vocab, *isa);
}

Sampler::Scale::Scale(double temperature) {
    const double share = std::frexp(std::numbers::log2e / temperature, &exponent);
    // Rounded to 32 bits, of which the first is set; 2^32 itself would be the next power.
    mantissa = static_cast<std::uint32_t>(std::min(std::round(share * 0x1p32), 0x1p32 - 1));
    exponent -= 32;
}

Sampler::Sampler(const SamplerOptions& options, std::size_t n_vocab, kernels::Isa isa)
    : options_(options),
      isa_(isa),
      base_scale_(1),
      scale_(options.temperature > 0 ? double{options.temperature} : 1),
      random_(options.seed),
      logits_(n_vocab) {
    if (options.top_p < 1)
        top_p_share_ = static_cast<std::uint64_t>(std::ldexp(double{options.top_p}, 64));
    // A token that is at the limit but for the rounding of a float is kept.
    if (options.min_p > 0) {
        const double most = -std::log2(double{options.min_p}) * 0x1p32;
        most_distant_ = std::min(static_cast<std::uint64_t>(most), draw::farthest());
    }
    candidates_.reserve(n_vocab);
    weights_.reserve(n_vocab);
    history_.reserve(options.penalty_last_n);
    sorted_.reserve(options.penalty_last_n);
}

void Sampler::reset() {
    random_ = RandomStream(options_.seed);
    history_.clear();
    history_next_ = 0;
}

void Sampler::accept(std::int32_t id) {
    if (options_.penalty_last_n == 0) return;
    if (id < 0 || static_cast<std::size_t>(id) >= logits_.size()) return;
    if (history_.size() < options_.penalty_last_n) {
        history_.push_back(id);
        return;
    }
    history_[history_next_] = id;
    history_next_ = (history_next_ + 1) % history_.size();
}

std::optional<std::int32_t> Sampler::sample(std::span<const float> logits) {
    load(logits);
    if (best_ == kNever) return std::nullopt;
    if (options_.temperature == 0) return most_likely();

    const bool cut_k = options_.top_k > 0 && options_.top_k < logits_.size();
    if (cut_k) {
        select_best(options_.top_k);
    } else if (options_.typical_p < 1 || options_.top_p >= 1) {
        keep_all();
    }
    if (options_.typical_p < 1) keep_typical();
    if (options_.top_p < 1) {
        if (candidates_.empty()) {
            keep_top_p_of_all();
        } else {
            keep_top_p();
        }
    }
    if (options_.min_p > 0) keep_min_p();
    return draw();
}

// Copies the logits, with NaN and the infinities made harmless, applies bias and penalties, and
// finds the largest that comes of it.
void Sampler::load(std::span<const float> logits) {
    candidates_.clear();
    best_ = kernels::clean_logits(isa_, logits.first(logits_.size()), logits_);
    if (options_.logit_bias.empty() && !has_penalties()) return;
    for (const auto& [id, bias] : options_.logit_bias) {
        float& x = logits_[static_cast<std::size_t>(id)];
        x = std::bit_cast<float>(draw::biased(bits(x), bits(bias)));
    }
    if (has_penalties()) apply_penalties();
    best_ = kernels::max_logit(isa_, logits_);
}

bool Sampler::has_penalties() const {
    const SamplerOptions& o = options_;
    return o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0;
}

void Sampler::apply_penalties() {
    const SamplerOptions& o = options_;
    sorted_.assign(history_.begin(), history_.end());
    std::sort(sorted_.begin(), sorted_.end());
    for (std::size_t i = 0; i < sorted_.size();) {
        const std::int32_t id = sorted_[i];
        std::size_t count = 0;
        for (; i < sorted_.size() && sorted_[i] == id; ++i) ++count;
        float& x = logits_[static_cast<std::size_t>(id)];
        x = std::bit_cast<float>(draw::penalised(bits(x), static_cast<std::uint32_t>(count),
                                                 bits(o.repeat_penalty), bits(o.presence_penalty),
                                                 bits(o.frequency_penalty)));
    }
}

// The lowest id among equals.
std::int32_t Sampler::most_likely() const {
    return static_cast<std::int32_t>(
        kernels::find_above(isa_, logits_, 0, std::nextafter(best_, kNever)));
}

void Sampler::keep_all() {
    candidates_.clear();
    for (std::size_t i = 0; i < logits_.size(); ++i)
        if (logits_[i] > kNever) candidates_.push_back({logits_[i], static_cast<std::int32_t>(i)});
}

// Leaves the k best in candidates_, best first. One pass over the logits: whatever does not beat
// the k-th best so far is skipped, and the buffer is cut back to k when it has doubled. Ids come
// in rising order, so an equal logit met later loses, as the order of ties demands.
void Sampler::select_best(std::size_t k) {
    const std::size_t room = std::min(std::max<std::size_t>(2 * k, 256), logits_.size());
    const auto nth = static_cast<std::ptrdiff_t>(k);
    candidates_.clear();
    float threshold = kNever;
    const auto next = [&](std::size_t i) {
        return kernels::find_above(isa_, logits_, i, threshold);
    };
    for (std::size_t i = next(0); i < logits_.size(); i = next(i + 1)) {
        candidates_.push_back({logits_[i], static_cast<std::int32_t>(i)});
        if (candidates_.size() < room || room <= k) continue;
        std::nth_element(candidates_.begin(), candidates_.begin() + nth - 1, candidates_.end(),
                         kBetter);
        candidates_.resize(k);
        threshold = candidates_.back().logit;
    }
    if (candidates_.size() > k) {
        std::nth_element(candidates_.begin(), candidates_.begin() + nth - 1, candidates_.end(),
                         kBetter);
        candidates_.resize(k);
    }
    std::sort(candidates_.begin(), candidates_.end(), kBetter);
}

// Top-p over the whole vocabulary, without sorting all of it unless the distribution is flat.
void Sampler::keep_top_p_of_all() {
    const double total = kernels::sum_exp(isa_, logits_, best_);
    for (std::size_t k = std::min(kFirstNucleus, logits_.size());;
         k = std::min(k * kWiden, logits_.size())) {
        select_best(k);
        const std::size_t count = top_p_count(total);
        if (count < candidates_.size() || k == logits_.size()) {
            candidates_.resize(count);
            return;
        }
    }
}

// How many of the candidates, in their order, reach top_p of `total`; all of them when they do not.
std::size_t Sampler::top_p_count(double total) const {
    const double enough = double{options_.top_p} * total;
    double sum = 0;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
        sum += std::exp(double{candidates_[i].logit} - double{best_});
        if (sum >= enough) return i + 1;
    }
    return candidates_.size();
}

// Locally typical sampling: keeps the tokens whose surprise is nearest to the distribution's
// entropy until they hold typical_p of the probability. Leaves candidates_ best first.
// Source: Meister et al. 2022, arXiv:2202.00666.
void Sampler::keep_typical() {
    double total = 0;
    for (const auto& c : candidates_) total += std::exp(double{c.logit} - double{best_});
    const double log_total = std::log(total);
    double entropy = 0;
    for (const auto& c : candidates_) {
        const double log_p = double{c.logit} - double{best_} - log_total;
        const double p = std::exp(log_p);
        if (p > 0) entropy -= p * log_p;
    }
    const auto distance = [&](const Candidate& c) {
        return std::abs(-(double{c.logit} - double{best_} - log_total) - entropy);
    };
    const auto nearer = [&](const Candidate& a, const Candidate& b) {
        const double da = distance(a), db = distance(b);
        return da < db || (da == db && a.id < b.id);
    };
    double sum = 0;
    std::size_t count = 0, sorted = 0;
    while (count < candidates_.size() && sum <= double{options_.typical_p}) {
        if (count == sorted) {
            const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
            sorted = std::min(std::max(kFirstNucleus, sorted * kWiden), candidates_.size());
            const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
            std::nth_element(begin, end, candidates_.end(), nearer);
            std::sort(begin, end, nearer);
        }
        sum += std::exp(double{candidates_[count++].logit} - double{best_} - log_total);
    }
    candidates_.resize(count);
    std::sort(candidates_.begin(), candidates_.end(), kBetter);
    best_ = candidates_.front().logit;
}

// As draw::distance() of floats; the subtraction is the one that draw::plus() does.
std::uint64_t Sampler::distance(float logit, std::uint32_t mantissa, int exponent) const {
    return draw::distance(bits(best_ - logit), mantissa, exponent);
}

// As top_p_count(), of the candidates' own total.
void Sampler::keep_top_p() {
    weights_.clear();
    std::uint64_t total = 0;
    for (const auto& c : candidates_) {
        weights_.push_back(
            draw::weight(distance(c.logit, base_scale_.mantissa, base_scale_.exponent)));
        total += weights_.back();
    }
    const std::uint64_t enough = draw::share_of(total, top_p_share_);
    std::uint64_t sum = 0;
    std::size_t n = 0;
    do sum += weights_[n++];
    while (n < candidates_.size() && sum < enough);
    candidates_.resize(n);
}

void Sampler::keep_min_p() {
    std::erase_if(candidates_, [&](const Candidate& c) {
        return distance(c.logit, base_scale_.mantissa, base_scale_.exponent) > most_distant_;
    });
}

// Walks until the drawn share is used up. The sum is exact: it is used up before the end.
std::int32_t Sampler::draw() {
    weights_.clear();
    std::uint64_t total = 0;
    for (const auto& c : candidates_) {
        weights_.push_back(draw::weight(distance(c.logit, scale_.mantissa, scale_.exponent)));
        total += weights_.back();
    }
    const std::uint64_t drawn = draw::share_of(random_.next(), total);
    std::uint64_t sum = 0;
    std::size_t i = 0;
    while ((sum += weights_[i]) <= drawn) ++i;
    return candidates_[i].id;
}

bool Sampler::fits_gpu(std::size_t n_banned) const {
    const SamplerOptions& o = options_;
    const bool few = o.temperature == 0 || (o.top_k > 0 && o.top_k < logits_.size() &&
                                            o.top_k <= draw::kMaxTopK && o.typical_p >= 1);
    return few && logits_.size() <= std::size_t{1} << draw::kIdBits &&
           (!has_penalties() || o.penalty_last_n <= draw::kMaxHistory) &&
           o.logit_bias.size() + n_banned <= draw::kMaxBias;
}

void Sampler::describe(std::span<const std::int32_t> banned, draw::DrawState& to) const {
    UNICORN_CHECK(fits_gpu(banned.size()));
    const SamplerOptions& o = options_;
    to.is_greedy = o.temperature == 0 ? 1 : 0;
    to.top_k = to.is_greedy != 0 ? 1 : static_cast<std::uint32_t>(o.top_k);
    put_words(random_.counter(), to.random);
    to.repeat_penalty = bits(o.repeat_penalty);
    to.presence_penalty = bits(o.presence_penalty);
    to.frequency_penalty = bits(o.frequency_penalty);
    to.scale_mantissa = scale_.mantissa;
    to.scale_exponent = scale_.exponent;
    to.base_mantissa = base_scale_.mantissa;
    to.base_exponent = base_scale_.exponent;
    to.has_top_p = o.top_p < 1 ? 1 : 0;
    put_words(top_p_share_, to.top_p);
    put_words(o.min_p > 0 ? most_distant_ : draw::farthest(), to.most_distant);
    to.history_size = has_penalties() ? static_cast<std::uint32_t>(o.penalty_last_n) : 0;
    to.n_history = to.next_history = 0;
    if (to.history_size > 0) {
        to.n_history = static_cast<std::uint32_t>(history_.size());
        to.next_history = static_cast<std::uint32_t>(history_next_);
        for (std::size_t i = 0; i < history_.size(); ++i)
            to.history[i] = static_cast<std::uint32_t>(history_[i]);
    }
    to.n_bias = 0;
    for (const std::int32_t id : banned) {
        if (id < 0 || static_cast<std::size_t>(id) >= logits_.size()) continue;
        const std::span known(to.bias_ids, to.n_bias);
        if (std::ranges::find(known, static_cast<std::uint32_t>(id)) != known.end()) continue;
        to.bias_ids[to.n_bias] = static_cast<std::uint32_t>(id);
        to.bias[to.n_bias++] = draw::kNever;
    }
    for (const auto& [id, bias] : o.logit_bias) {
        if (std::ranges::find(banned, id) != banned.end()) continue;
        to.bias_ids[to.n_bias] = static_cast<std::uint32_t>(id);
        to.bias[to.n_bias++] = bits(bias);
    }
}

void Sampler::drew() {
    if (options_.temperature != 0) static_cast<void>(random_.next());
}

}  // namespace unicorn::engine
