#include "text/chat_template.h"

#include <algorithm>
#include <initializer_list>

#include "text/utf8.h"

namespace unicorn::text {
namespace {

constexpr std::string_view kStartOfTurn = "<start_of_turn>";
constexpr std::string_view kEndOfTurn = "<end_of_turn>";
constexpr std::string_view kSupported = "Gemma 3 (<start_of_turn>role ... <end_of_turn>)";

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// The source without its {# comments #}: they say nothing about what a template does.
std::string without_comments(std::string_view source) {
    std::string out;
    while (!source.empty()) {
        const std::size_t begin = std::min(source.find("{#"), source.size());
        out += source.substr(0, begin);
        source.remove_prefix(begin);
        if (source.empty()) break;
        const std::size_t end = source.find("#}");
        source.remove_prefix(end == std::string_view::npos ? source.size() : end + 2);
    }
    return out;
}

/// What Python's str.isspace() holds for white space, as one UTF-8 character.
bool is_space(std::string_view character) {
    if (character.size() == 1) {
        const char c = character[0];
        return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1C' && c <= '\x1F');
    }
    if (character.size() == 2) return character == "\xC2\x85" || character == "\xC2\xA0";
    if (character.size() != 3) return false;
    if (character.substr(0, 2) == "\xE2\x80") {  // U+2000..200A, 2028, 2029, 202F
        const auto last = static_cast<unsigned char>(character[2]);
        return last <= 0x8A || last == 0xA8 || last == 0xA9 || last == 0xAF;
    }
    return character == "\xE1\x9A\x80" || character == "\xE2\x81\x9F" ||
           character == "\xE3\x80\x80";
}

/// Jinja's `trim`.
std::string_view trim(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0 || !is_space(text.substr(0, length))) break;
        text.remove_prefix(length);
    }
    while (!text.empty()) {
        std::size_t length = 1;
        while (length < std::min<std::size_t>(3, text.size()) &&
               (static_cast<unsigned char>(text[text.size() - length]) & 0xC0) == 0x80) {
            ++length;
        }
        if (!is_space(text.substr(text.size() - length))) break;
        text.remove_suffix(length);
    }
    return text;
}

/// The prompt in parts: the template's own text, where control pieces count, and contents, where
/// they do not. Views into `messages` and constants.
Result<std::vector<TextPart>> parts_of(std::span<const Message> messages,
                                       bool add_generation_prompt) {
    if (messages.empty())
        return fail(ErrorCode::invalid_argument, "a conversation needs at least one message");
    std::vector<TextPart> parts;
    const auto markup = [&](std::string_view text) { parts.push_back({text, true}); };
    const auto content = [&](std::string_view text) { parts.push_back({text, false}); };

    const bool has_system = messages[0].role == "system";
    const std::size_t first = has_system ? 1 : 0;
    if (first == messages.size()) {
        return fail(ErrorCode::invalid_argument, "a system message needs a user message after it");
    }
    for (std::size_t i = first; i < messages.size(); ++i) {
        const Message& message = messages[i];
        const bool from_user = message.role == "user";
        if (!from_user && message.role != "assistant" && message.role != "model") {
            if (message.role == "system") {
                return fail(ErrorCode::invalid_argument,
                            "message {} is a system message; only the first may be one", i + 1);
            }
            return fail(ErrorCode::invalid_argument,
                        "message {} has the role \"{}\"; known are system, user, assistant", i + 1,
                        message.role);
        }
        if (from_user != ((i - first) % 2 == 0)) {
            return fail(
                ErrorCode::invalid_argument,
                "conversation roles must alternate user/assistant: message {} is from \"{}\"",
                i + 1, message.role);
        }
        markup(kStartOfTurn);
        markup(from_user ? "user\n" : "model\n");
        if (i == first && has_system) {
            content(messages[0].content);
            markup("\n\n");
        }
        content(trim(message.content));
        markup(kEndOfTurn);
        markup("\n");
    }
    if (add_generation_prompt) {
        markup(kStartOfTurn);
        markup("model\n");
    }
    return parts;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::from_source(std::string_view jinja_source) {
    const std::string source = without_comments(jinja_source);
    if (source.find_first_not_of(" \t\r\n") == std::string::npos) {
        return fail(ErrorCode::not_found, "the model has no chat template");
    }
    const auto has_all = [&](std::initializer_list<std::string_view> marks) {
        return std::all_of(marks.begin(), marks.end(),
                           [&](std::string_view mark) { return contains(source, mark); });
    };
    const auto has_any = [&](std::initializer_list<std::string_view> marks) {
        return std::any_of(marks.begin(), marks.end(),
                           [&](std::string_view mark) { return contains(source, mark); });
    };
    // Turns with Gemma's markers, "assistant" renamed to "model", a system message folded in.
    const bool like_gemma3 = has_all({kStartOfTurn, kEndOfTurn, "assistant", "model", "system",
                                      "messages[1:]", "trim", "add_generation_prompt"});
    // Gemma 1 and 2 refuse system messages; relatives add turns or calls that we would leave out.
    const bool like_another = has_any(
        {"System role not supported", "<|im_start|>", "<|start_header_id|>", "<|begin_of_text|>",
         "[INST]", "<|user|>", "<|turn", "<start_function", "tool_calls", "<think>"});
    if (!like_gemma3 || like_another) {
        return fail(ErrorCode::unsupported,
                    "the model's chat template is not one we know; supported: {}", kSupported);
    }
    return ChatTemplate(contains(source, "bos_token") || contains(source, "<bos>"));
}

Result<std::string> ChatTemplate::render(std::span<const Message> messages,
                                         bool add_generation_prompt) const {
    auto parts = parts_of(messages, add_generation_prompt);
    if (!parts) return forward(parts);
    std::string out;
    for (const TextPart& part : *parts) out += part.text;
    return out;
}

Result<std::vector<std::int32_t>> ChatTemplate::encode(const Tokenizer& tokenizer,
                                                       std::span<const Message> messages,
                                                       bool add_generation_prompt) const {
    for (const std::string_view marker : {kStartOfTurn, kEndOfTurn}) {
        if (!tokenizer.find_control(marker)) {
            return fail(ErrorCode::unsupported,
                        "the chat template needs {}, which the vocabulary does not have", marker);
        }
    }
    auto parts = parts_of(messages, add_generation_prompt);
    if (!parts) return forward(parts);
    return tokenizer.encode(*parts, starts_with_bos_);
}

}  // namespace unicorn::text
