#pragma once
// Text of an answer while it is made: whole characters only, and nothing of a stop string.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace unicorn::text {

/// Turns ids into text as they come, never half a character: bytes wait until their character is
/// complete. What can no longer become a character is replaced by U+FFFD, one for each maximal
/// invalid sequence, so that everything together is valid UTF-8.
class StreamDecoder {
public:
    /// `tokenizer` must outlive the decoder. `options.continues` is for answers: the ids go on
    /// after a prompt.
    explicit StreamDecoder(const Tokenizer& tokenizer,
                           DecodeOptions options = {.show_control = false, .continues = true});

    /// The text that is ready now, often empty; valid until the next call.
    std::string_view push(std::int32_t id);
    /// The rest: U+FFFD if a character was left incomplete. The decoder then is as new.
    std::string_view finish();

private:
    void take(bool at_end);

    const Tokenizer* tokenizer_;
    DecodeOptions options_;
    bool at_start_;
    std::string waiting_;  // the beginning of a character
    std::string ready_;
};

/// Ends a stream of text before the first stop string. Of several, the one whose end comes first
/// counts (the longest of those that end together); the result does not depend on how the text is
/// cut into pushes. Cost: linear in the text times the number of stop strings.
class StopMatcher {
public:
    /// Empty strings never match.
    explicit StopMatcher(std::vector<std::string> stops);

    /// The text that cannot be part of a stop string any more; valid until the next call. After a
    /// match: what came before it, and from then on nothing.
    std::string_view push(std::string_view text);
    /// The text held back, since nothing follows it.
    std::string_view finish();
    bool matched() const { return matched_; }

private:
    struct Stop {
        std::string text;
        std::vector<std::size_t> fallback;  // Knuth-Morris-Pratt: the longest border of each prefix
        std::size_t n_matched = 0;
    };

    std::vector<Stop> stops_;
    bool matched_ = false;
    std::string held_;  // the last bytes pushed: the beginning of a stop string, perhaps
    std::string ready_;
};

}  // namespace unicorn::text
