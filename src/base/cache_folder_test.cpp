#include "base/cache_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace unicorn {
namespace {

TEST(CacheFolder, FollowsTheXdgSpecification) {
    ::setenv("HOME", "/elsewhere", 1);
    ::setenv("XDG_CACHE_HOME", "/cache", 1);
    EXPECT_EQ(cache_folder(), "/cache/unicorn");
    ::setenv("XDG_CACHE_HOME", "relative", 1);
    EXPECT_EQ(cache_folder(), "/elsewhere/.cache/unicorn");
    ::unsetenv("XDG_CACHE_HOME");
    EXPECT_EQ(cache_folder(), "/elsewhere/.cache/unicorn");
    ::unsetenv("HOME");
    EXPECT_EQ(cache_folder(), "");
}

}  // namespace
}  // namespace unicorn
