#include "backends/vulkan/upload_ring.h"

#include <bit>

#include "base/check.h"

namespace unicorn::backends::vulkan {
namespace {

// Twice the threads that pack at once on most machines; pieces of a matrix have a few MiB.
constexpr std::size_t kSlots = 32;

}  // namespace

UploadRing::~UploadRing() {
    UNICORN_CHECK(free_.size() == n_slots_);
    if (last_ > 0) static_cast<void>(device_.wait(last_));
}

Result<std::unique_ptr<UploadRing::Slot>> UploadRing::take(std::size_t bytes) {
    std::unique_ptr<Slot> slot;
    {
        std::unique_lock lock(mutex_);
        given_back_.wait(lock, [&] { return !free_.empty() || n_slots_ < kSlots; });
        // A new one only when none has been copied yet: few threads make do with few buffers.
        const auto finished = device_.finished();
        if (!finished) return tl::unexpected(finished.error());
        if (!free_.empty() && (free_.front()->last <= *finished || n_slots_ == kSlots)) {
            slot = std::move(free_.front());
            free_.erase(free_.begin());
        } else {
            ++n_slots_;
        }
    }
    const auto give_up = [&](Error error) {
        const std::scoped_lock lock(mutex_);
        --n_slots_;
        given_back_.notify_one();
        return tl::unexpected(std::move(error));
    };
    if (slot != nullptr) {
        if (auto status = device_.wait(slot->last); !status) return give_up(status.error());
        if (slot->staging.bytes() >= bytes) return slot;
    }
    auto staging = VulkanBuffer::create(device_, std::bit_ceil(bytes), tier_);
    if (!staging) return give_up(staging.error());
    auto commands = Commands::create(device_);
    if (!commands) return give_up(commands.error());
    return std::make_unique<Slot>(
        Slot{.staging = std::move(*staging), .commands = std::move(*commands)});
}

Status UploadRing::upload(BufferPlace to, std::size_t bytes,
                          const std::function<void(std::byte*)>& fill) {
    auto taken = take(bytes);
    if (!taken) return forward(taken);
    Slot& slot = **taken;
    fill(slot.staging.host());
    const auto submit = [&]() -> Result<std::uint64_t> {
        if (auto status = slot.commands.begin(); !status) return forward(status);
        const VkBufferCopy region = {.srcOffset = 0, .dstOffset = to.offset, .size = bytes};
        device_.vk().vkCmdCopyBuffer(slot.commands.handle(), slot.staging.handle(), to.buffer, 1,
                                     &region);
        if (auto status = slot.commands.end(); !status) return forward(status);
        return device_.submit(slot.commands.handle());
    };
    auto submitted = submit();
    const std::scoped_lock lock(mutex_);
    if (submitted) last_ = std::max(last_, slot.last = *submitted);
    free_.push_back(std::move(*taken));
    given_back_.notify_one();
    if (!submitted) return forward(submitted);
    return {};
}

}  // namespace unicorn::backends::vulkan
