#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

namespace unicorn::engine {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
    std::erase(stops_, std::string());
}

std::string StopStrings::feed(std::string_view piece) {
    if (stopped_) return {};
    held_ += piece;
    std::size_t safe = held_.size();
    for (const std::string& stop : stops_) {
        if (const std::size_t at = held_.find(stop); at != std::string::npos) {
            stopped_ = true;
            safe = std::min(safe, at);
        }
    }
    if (!stopped_) {
        // The longest end of the text that some stop string begins with.
        const auto may_begin_a_stop = [&](std::string_view end) {
            return std::any_of(stops_.begin(), stops_.end(),
                               [&](const std::string& stop) { return stop.starts_with(end); });
        };
        std::size_t longest = 0;
        for (const std::string& stop : stops_) longest = std::max(longest, stop.size() - 1);
        std::size_t from = held_.size() - std::min(longest, held_.size());
        while (from < held_.size() && !may_begin_a_stop(std::string_view(held_).substr(from))) ++from;
        safe = from;
    }
    std::string text = held_.substr(0, safe);
    held_.erase(0, stopped_ ? held_.size() : safe);
    return text;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace unicorn::engine
