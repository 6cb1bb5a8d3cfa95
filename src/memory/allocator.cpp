#include "memory/allocator.h"

namespace unicorn::memory {

std::string_view name(Tier tier) {
    switch (tier) {
        case Tier::vram: return "vram";
        case Tier::gtt: return "gtt";
        case Tier::npu: return "npu";
        case Tier::host: return "host";
        case Tier::disk: return "disk";
    }
    return "unknown";
}

Allocation::~Allocation() {
    if (owner_ != nullptr) owner_->release(host_, device_address_, bytes_);
}

}  // namespace unicorn::memory
