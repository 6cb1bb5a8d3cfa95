#include "cli/conversation.h"

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxFile = std::size_t{64} << 20;

}  // namespace

std::vector<text::Message> Conversation::messages() const {
    std::vector<text::Message> all;
    if (!system.empty()) all.push_back({"system", system});
    all.insert(all.end(), turns.begin(), turns.end());
    return all;
}

Status Conversation::save(const std::string& path) const {
    Json out;
    out["system"] = system;
    out["messages"] = Json::array();
    for (const auto& turn : turns)
        out["messages"].push_back({{"role", turn.role}, {"content", turn.content}});
    auto file = FileWriter::create(path);
    if (!file) return forward(file);
    if (auto s = file->write(out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); !s)
        return s;
    return file->commit();
}

Result<Conversation> Conversation::load(const std::string& path) {
    constexpr auto kBad = ErrorCode::invalid_file;
    auto text = read_file(path, kMaxFile);
    if (!text) return forward(text);
    const Json json = Json::parse(*text, nullptr, false);
    if (json.is_discarded()) return fail(kBad, "{}: not JSON", path);
    if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array())
        return fail(kBad, "{}: no list \"messages\"", path);
    Conversation conversation;
    if (json.contains("system")) {
        if (!json["system"].is_string()) return fail(kBad, "{}: \"system\" is not a text", path);
        conversation.system = json["system"].get<std::string>();
    }
    for (const Json& entry : json["messages"]) {
        const std::size_t i = conversation.turns.size();
        const char* role = i % 2 == 0 ? "user" : "assistant";
        if (!entry.is_object() || !entry.contains("role") || entry["role"] != role)
            return fail(kBad, "{}: message {} is not of the role \"{}\"", path, i, role);
        if (!entry.contains("content") || !entry["content"].is_string())
            return fail(kBad, "{}: message {} has no text \"content\"", path, i);
        conversation.turns.push_back({role, entry["content"].get<std::string>()});
    }
    if (conversation.turns.size() % 2 != 0)
        return fail(kBad, "{}: the last message has no answer", path);
    return conversation;
}

}  // namespace unicorn::cli
