#pragma once
// Ends an answer at the first of some strings, wherever the pieces of text are cut.

#include <string>
#include <string_view>
#include <vector>

namespace unicorn::engine {

/// Passes text on as it comes, but holds back an end that may be the beginning of a stop string.
/// The stop string itself is never passed on, nor anything after it.
class StopStrings {
public:
    /// Empty strings are ignored.
    explicit StopStrings(std::vector<std::string> stops);

    /// The text that is safe to show now that `piece` has come.
    std::string feed(std::string_view piece);
    /// What was held back, when no more text comes; empty after a stop.
    std::string flush();

    bool stopped() const { return stopped_; }

private:
    std::vector<std::string> stops_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace unicorn::engine
