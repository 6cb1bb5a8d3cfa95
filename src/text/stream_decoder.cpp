#include "text/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace unicorn::text {

namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options)
    : tokenizer_(&tokenizer),
      options_(options),
      at_start_(tokenizer.has_space_prefix() && !options.continues) {}

std::string_view StreamDecoder::push(std::int32_t id) {
    ready_.clear();
    std::string_view bytes = tokenizer_->text(id, options_.show_control);
    if (at_start_ && !tokenizer_->is_control(id) && !bytes.empty()) {
        if (bytes[0] == ' ') bytes.remove_prefix(1);
        at_start_ = false;
    }
    waiting_ += bytes;
    take(false);
    return ready_;
}

std::string_view StreamDecoder::finish() {
    ready_.clear();
    take(true);
    at_start_ = tokenizer_->has_space_prefix() && !options_.continues;
    return ready_;
}

void StreamDecoder::take(bool at_end) {
    std::string_view rest = waiting_;
    while (!rest.empty()) {
        const Utf8Step step = utf8_step(rest);
        if (step.state == Utf8State::incomplete && !at_end) break;
        ready_ += step.state == Utf8State::valid ? rest.substr(0, step.length) : kReplacement;
        rest.remove_prefix(step.length);
    }
    waiting_.erase(0, waiting_.size() - rest.size());
}

StopMatcher::StopMatcher(std::vector<std::string> stops) {
    for (std::string& text : stops) {
        if (text.empty()) continue;
        Stop stop;
        stop.fallback.resize(text.size());
        for (std::size_t i = 1, border = 0; i < text.size(); ++i) {
            while (border > 0 && text[i] != text[border]) border = stop.fallback[border - 1];
            if (text[i] == text[border]) ++border;
            stop.fallback[i] = border;
        }
        stop.text = std::move(text);
        stops_.push_back(std::move(stop));
    }
}

std::string_view StopMatcher::push(std::string_view text) {
    ready_.clear();
    if (matched_) return ready_;
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::size_t longest = 0;
        for (Stop& stop : stops_) {
            std::size_t& n = stop.n_matched;
            while (n > 0 && stop.text[n] != text[i]) n = stop.fallback[n - 1];
            if (stop.text[n] == text[i]) ++n;
            if (n == stop.text.size()) longest = std::max(longest, n);
        }
        if (longest == 0) continue;
        matched_ = true;
        ready_ = std::move(held_) + std::string(text.substr(0, i + 1));
        ready_.resize(ready_.size() - longest);
        held_.clear();
        return ready_;
    }
    std::size_t hold = 0;
    for (const Stop& stop : stops_) hold = std::max(hold, stop.n_matched);
    ready_ = std::move(held_);
    ready_ += text;
    held_ = ready_.substr(ready_.size() - hold);
    ready_.resize(ready_.size() - hold);
    return ready_;
}

std::string_view StopMatcher::finish() {
    ready_ = std::move(held_);
    held_.clear();
    for (Stop& stop : stops_) stop.n_matched = 0;
    return ready_;
}

}  // namespace unicorn::text
