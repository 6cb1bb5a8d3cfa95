#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/logits.h"

namespace unicorn::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// Without top-k, top-p first looks at this many of the best tokens (typical-p: of the most
// typical), then at eight times as many, and so on: a model that is at all sure of itself has 95 %
// of its probability in the first 512.
constexpr std::size_t kFirstNucleus = 512;
constexpr std::size_t kWiden = 8;

// Best first; equal logits by id, so that the order is total.
constexpr auto kBetter = [](const auto& a, const auto& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

}  // namespace

RandomStream::RandomStream(std::uint64_t seed) : state_(mix(seed)) {}

std::uint64_t RandomStream::next() {
    state_ += 0x9e3779b97f4a7c15u;
    return mix(state_);
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

Sampler::Sampler(const SamplerOptions& options, std::size_t n_vocab, kernels::Isa isa)
    : options_(options), isa_(isa), random_(options.seed), logits_(n_vocab) {
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
            double total = 0;
            for (const auto& c : candidates_) total += std::exp(double{c.logit} - double{best_});
            candidates_.resize(top_p_count(total));
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
        x = std::min(x + bias, kLargest);
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
        x = x > 0 ? x / o.repeat_penalty : x * o.repeat_penalty;
        x -= o.presence_penalty + o.frequency_penalty * static_cast<float>(count);
        // Penalties of extreme size overflow, to infinity or, against one, to NaN: a banned token
        // stays banned, whatever else is asked of it.
        x = std::isnan(x) ? kNever : std::min(x, kLargest);
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

void Sampler::keep_min_p() {
    const double lowest = double{best_} + std::log(double{options_.min_p});
    std::erase_if(candidates_, [&](const Candidate& c) { return double{c.logit} < lowest; });
}

std::int32_t Sampler::draw() {
    weights_.clear();
    double total = 0;
    for (const auto& c : candidates_) {
        const double weight =
            std::exp((double{c.logit} - double{best_}) / double{options_.temperature});
        weights_.push_back(static_cast<float>(weight));
        total += double{weights_.back()};
    }
    // Walks until the drawn share is used up. Rounding can leave a rest at the end; it falls to
    // the last token that has any weight.
    double rest = random_.uniform() * total;
    std::int32_t id = candidates_.front().id;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
        if (weights_[i] == 0) continue;
        id = candidates_[i].id;
        rest -= double{weights_[i]};
        if (rest < 0) break;
    }
    return id;
}

}  // namespace unicorn::engine
