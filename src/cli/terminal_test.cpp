// What Ctrl-C does, once and again.

#include "cli/terminal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace unicorn::cli {
namespace {

TEST(InterruptScope, TheFirstCtrlCIsARequest) {
    const InterruptScope scope;
    EXPECT_FALSE(InterruptScope::requested());
    ::raise(SIGINT);
    EXPECT_TRUE(InterruptScope::requested());
    InterruptScope::reset();
    EXPECT_FALSE(InterruptScope::requested());
    ::raise(SIGINT);
    EXPECT_TRUE(InterruptScope::requested()) << "after reset() it is a first one again";
}

TEST(InterruptScope, TheSecondEndsTheProgram) {
    const auto press_twice = [] {
        const InterruptScope scope;
        ::raise(SIGINT);
        ::raise(SIGINT);
    };
    EXPECT_EXIT(press_twice(), ::testing::ExitedWithCode(130), "");
}

// Two presses within one chunk of a prompt ended chat, and the conversation was lost.
TEST(InterruptScope, TheSecondDoesNothingWhereAConversationWouldBeLost) {
    const InterruptScope scope(SecondInterrupt::does_nothing);
    for (int i = 0; i < 5; ++i) ::raise(SIGINT);
    EXPECT_TRUE(InterruptScope::requested());
}

// One that came before the wait was seen only at the next key.
TEST(InterruptScope, ACtrlCBeforeTheWaitEndsTheWait) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);  // an input in which nothing ever comes
    const int saved = ::dup(STDIN_FILENO);
    ::dup2(ends[0], STDIN_FILENO);
    {
        const InterruptScope scope;
        ::raise(SIGINT);
        char byte = 0;
        EXPECT_EQ(read_or_interrupt(&byte, 1), -1);
        EXPECT_EQ(errno, EINTR);
        InterruptScope::reset();
        ASSERT_EQ(::write(ends[1], "x", 1), 1);
        EXPECT_EQ(read_or_interrupt(&byte, 1), 1);
        EXPECT_EQ(byte, 'x');
    }
    ::dup2(saved, STDIN_FILENO);
    for (const int fd : {ends[0], ends[1], saved}) ::close(fd);
}

}  // namespace
}  // namespace unicorn::cli
