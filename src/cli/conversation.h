#pragma once
// What was said in a chat, and its file.

#include <string>
#include <vector>

#include "base/result.h"
#include "text/chat_template.h"

namespace unicorn::cli {

struct Conversation {
    std::string system;                // empty: none
    std::vector<text::Message> turns;  // user and assistant in turn, the user first

    /// System prompt and turns, as the chat template takes them.
    std::vector<text::Message> messages() const;

    /// {"system": "...", "messages": [{"role": "user", "content": "..."}, ...]}; replaces the file
    /// as a whole. Errors: io.
    Status save(const std::string& path) const;
    /// Errors: not_found, io; invalid_file, saying which message is wrong.
    static Result<Conversation> load(const std::string& path);
};

}  // namespace unicorn::cli
