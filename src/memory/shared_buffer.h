#pragma once
// One allocation that the CPU and devices (GPU, NPU) see at the same physical pages.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "base/result.h"

namespace unicorn::memory {

/// How memory comes to be shared, in the order they are tried.
enum class ShareWay {
    dma_buf,     // a driver allocates and exports a dma-buf, the others import it
    host_pages,  // pages of this process, imported by every driver
    udmabuf,     // pages of a memory file as a dma-buf (/dev/udmabuf), imported by every driver
    copy,        // each device has its own memory, and hand_over() copies and counts
};

inline constexpr std::array kShareWays = {ShareWay::dma_buf, ShareWay::host_pages,
                                          ShareWay::udmabuf, ShareWay::copy};

std::string_view name(ShareWay way);  // "dma_buf", ...

/// What a device holds of a shared buffer; it lets go when destroyed.
class DeviceView {
public:
    virtual ~DeviceView() = default;
    /// The first byte, as the device's own programs address it.
    virtual std::uint64_t device_address() const = 0;
};

/// Memory of a device's own, for the counted copy.
class DeviceMirror : public DeviceView {
public:
    /// Copies from and to the CPU; nothing in flight uses the range. Errors: device_lost,
    /// out_of_memory.
    virtual Status upload(std::size_t offset, std::span<const std::byte> from) = 0;
    virtual Status download(std::size_t offset, std::span<std::byte> to) = 0;
};

/// What a driver allocated and exported.
struct ExportedBuffer {
    std::unique_ptr<DeviceView> view;
    FileDescriptor dma_buf;
    std::byte* host = nullptr;  // where the driver maps it, for as long as `view` lives; nullptr:
                                // the CPU maps the dma-buf itself
};

/// A driver's part in sharing: one of these for the GPU, one for the NPU. Sizes are in bytes and
/// multiples of alignment(). What a driver cannot do is `unsupported`, with the reason.
class SharingDevice {
public:
    virtual ~SharingDevice() = default;
    virtual std::string_view name() const = 0;
    /// Of the first byte and the size of what it imports; a power of two.
    virtual std::size_t alignment() const = 0;
    virtual Result<ExportedBuffer> export_dma_buf(std::size_t bytes) = 0;
    /// `dma_buf` stays the caller's.
    virtual Result<std::unique_ptr<DeviceView>> import_dma_buf(int dma_buf, std::size_t bytes) = 0;
    /// `pages` must outlive the view.
    virtual Result<std::unique_ptr<DeviceView>> import_host_pages(std::span<std::byte> pages) = 0;
    virtual Result<std::unique_ptr<DeviceMirror>> mirror(std::size_t bytes) = 0;
};

/// Pages mapped here, unmapped when this goes. Move-only.
class Mapping {
public:
    Mapping() = default;
    Mapping(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
    Mapping(Mapping&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Mapping();

    std::span<std::byte> bytes() const { return {data_, bytes_}; }

private:
    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Who wrote, and who reads next: the CPU, or a device by its place in SharedBuffer::create().
struct Party {
    static constexpr std::size_t kCpu = static_cast<std::size_t>(-1);
    std::size_t index = kCpu;
};
inline constexpr Party kCpu{};

/// Move-only. Fresh memory reads as zero. The devices must outlive it.
class SharedBuffer {
public:
    /// `bytes` > 0, shared by the CPU and `devices` (at least one): the first of the ways that
    /// works, or `only` that one.
    /// Errors: unsupported, with every way tried and its reason; out_of_memory.
    static Result<SharedBuffer> create(std::size_t bytes, std::span<SharingDevice* const> devices,
                                       std::optional<ShareWay> only = std::nullopt);

    ShareWay way() const { return state_->way; }
    /// A line for the log: the way, and why those before it were not taken.
    const std::string& description() const { return state_->description; }
    std::size_t bytes() const { return state_->bytes; }

    /// What the CPU sees.
    std::span<std::byte> host() const { return {state_->host, state_->bytes}; }
    std::uint64_t device_address(std::size_t device) const;

    /// What `from` has written in the range is what `to` sees from now on. To be called between the
    /// end of `from`'s work and the beginning of `to`'s, whatever the way; only `copy` copies.
    /// A range that `from` did not write all of must have been handed to it before.
    /// Errors: io, device_lost, out_of_memory.
    Status hand_over(Party from, Party to, std::size_t offset, std::size_t bytes);
    Status hand_over(Party from, Party to) { return hand_over(from, to, 0, bytes()); }

    /// Bytes that hand_over() copied so far: 0 for every way but `copy`, which counts each byte
    /// once for each side of the bus it crosses to (from device to device: twice).
    std::uint64_t bytes_copied() const { return state_->bytes_copied; }

private:
    // Members are given back from the last to the first: views before the pages they look at.
    struct State {
        ShareWay way = ShareWay::copy;
        std::string description;
        std::size_t bytes = 0;
        std::byte* host = nullptr;
        std::atomic<std::uint64_t> bytes_copied = 0;
        Mapping pages;
        FileDescriptor dma_buf;
        std::vector<std::unique_ptr<DeviceView>> views;      // of each device, but for `copy`
        std::vector<std::unique_ptr<DeviceMirror>> mirrors;  // of each device, for `copy`
    };

    explicit SharedBuffer(std::unique_ptr<State> state) : state_(std::move(state)) {}

    using Devices = std::span<SharingDevice* const>;
    static Status try_way(ShareWay way, State& state, std::size_t padded, Devices devices);
    static Status try_dma_buf(State& state, std::size_t padded, Devices devices);
    static Status try_host_pages(State& state, std::size_t padded, Devices devices);
    static Status try_udmabuf(State& state, std::size_t padded, Devices devices);
    static Status try_copy(State& state, std::size_t padded, Devices devices);

    std::unique_ptr<State> state_;
};

}  // namespace unicorn::memory
