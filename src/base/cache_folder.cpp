#include "base/cache_folder.h"

#include <cstdlib>

namespace unicorn {

std::string cache_folder() {
    // A relative path is to be ignored, says the XDG base directory specification.
    if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
        return std::string(cache) + "/unicorn";
    if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
        return std::string(home) + "/.cache/unicorn";
    return {};
}

}  // namespace unicorn
