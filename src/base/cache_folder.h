#pragma once

#include <string>

namespace unicorn {

/// Where this program keeps what it can make again: $XDG_CACHE_HOME/unicorn, else
/// ~/.cache/unicorn; "" when neither is known. The folder need not exist.
std::string cache_folder();

}  // namespace unicorn
