#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace unicorn {

void check_failed(const char* condition, const char* file, int line) noexcept {
    std::fprintf(stderr, "unicorn: internal error: %s at %s:%d\n", condition, file, line);
    std::abort();
}

}  // namespace unicorn
