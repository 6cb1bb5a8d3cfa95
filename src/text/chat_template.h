#pragma once
// How a conversation becomes a prompt. We do not run Jinja: a file's template is recognised by what
// it does, and what it does is written here in C++.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace unicorn::text {

struct Message {
    std::string role;  // "system" (first message only), "user", "assistant" (or "model")
    std::string content;
};

/// Gemma 3's template:
///   <start_of_turn>user\n{system}\n\n{content}<end_of_turn>\n<start_of_turn>model\n ...
/// The system prompt goes in front of the first user turn as it is; the content of every turn is
/// stripped of white space at both ends (as Python's str.strip() does).
/// Source: the chat template published with google/gemma-3-*-it.
class ChatTemplate {
public:
    /// `jinja_source`: tokenizer.chat_template of a GGUF file, or "chat_template" of
    /// tokenizer_config.json. Errors: not_found when it is empty (a model without chat);
    /// unsupported for a template that is not Gemma 3's, naming what is supported.
    static Result<ChatTemplate> from_source(std::string_view jinja_source);

    /// The prompt as text, without BOS. `add_generation_prompt`: end with the opening of the
    /// model's turn. Errors: invalid_argument for no messages, an unknown role, roles that do not
    /// alternate user/assistant (after the system message), or a system message with no user
    /// message after it.
    Result<std::string> render(std::span<const Message> messages, bool add_generation_prompt) const;

    /// The ids of that text, BOS in front where the template puts it, with one difference: control
    /// pieces are recognised in the template's own text and never in contents. A content without
    /// the text of a control piece gives exactly the ids of the rendered text. Errors: as render();
    /// unsupported when the vocabulary lacks the turn markers.
    Result<std::vector<std::int32_t>> encode(const Tokenizer& tokenizer,
                                             std::span<const Message> messages,
                                             bool add_generation_prompt) const;

private:
    explicit ChatTemplate(bool starts_with_bos) : starts_with_bos_(starts_with_bos) {}

    bool starts_with_bos_;
};

}  // namespace unicorn::text
