#include "cli/conversation.h"

#include <gtest/gtest.h>

#include <fstream>

#include "testing/tiny_model.h"

namespace unicorn::cli {
namespace {

TEST(Conversation, ComesBackFromItsFile) {
    const testing::TemporaryFolder folder;
    const Conversation saved{.system = "Be brief.\n",
                             .turns = {{"user", "Grüße \"du\""}, {"assistant", ""}}};
    ASSERT_TRUE(saved.save(folder.path("chat.json")));
    const auto loaded = Conversation::load(folder.path("chat.json"));
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->system, saved.system);
    ASSERT_EQ(loaded->turns.size(), 2u);
    EXPECT_EQ(loaded->turns[0].role, "user");
    EXPECT_EQ(loaded->turns[0].content, "Grüße \"du\"");
    EXPECT_EQ(loaded->turns[1].role, "assistant");
    EXPECT_EQ(loaded->messages().size(), 3u);
    EXPECT_EQ(loaded->messages()[0].role, "system");
}

TEST(Conversation, RefusesFilesThatAreNone) {
    const testing::TemporaryFolder folder;
    const std::string path = folder.path("bad.json");
    const auto reason = [&](const char* text) {
        std::ofstream(path) << text;
        const auto loaded = Conversation::load(path);
        return loaded ? std::string("accepted") : loaded.error().message.substr(path.size());
    };
    EXPECT_EQ(reason(R"({"messages": []})"), "accepted");
    EXPECT_EQ(reason("{"), ": not JSON");
    EXPECT_EQ(reason("[]"), ": no list \"messages\"");
    EXPECT_EQ(reason(R"({"messages": 3})"), ": no list \"messages\"");
    EXPECT_EQ(reason(R"({"system": 3, "messages": []})"), ": \"system\" is not a text");
    EXPECT_EQ(reason(R"({"messages": [{"role": "assistant", "content": "x"}]})"),
              ": message 0 is not of the role \"user\"");
    EXPECT_EQ(reason(R"({"messages": [{"role": "user", "content": "x"}, 7]})"),
              ": message 1 is not of the role \"assistant\"");
    EXPECT_EQ(reason(R"({"messages": [{"role": "user", "content": ["x"]}]})"),
              ": message 0 has no text \"content\"");
    EXPECT_EQ(reason(R"({"messages": [{"role": "user", "content": "x"}]})"),
              ": the last message has no answer");
    EXPECT_EQ(Conversation::load(folder.path("absent")).error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace unicorn::cli
