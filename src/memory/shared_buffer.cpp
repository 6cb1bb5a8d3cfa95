#include "memory/shared_buffer.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace unicorn::memory {
namespace {

// Pages of a process are shared with a child until written, which would take them from under a
// driver: a child does not get them (MADV_DONTFORK).
Result<Mapping> map_anonymous(std::size_t bytes, std::size_t alignment) {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t slack = alignment > page ? alignment : 0;
    void* data =
        ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        return fail(ErrorCode::out_of_memory, "cannot map {} bytes: {}", bytes,
                    std::strerror(errno));
    }
    auto* first = static_cast<std::byte*>(data);
    if (slack > 0) {
        const std::size_t before = -reinterpret_cast<std::uintptr_t>(first) & (alignment - 1);
        if (before > 0) ::munmap(first, before);
        first += before;
        if (slack > before) ::munmap(first + bytes, slack - before);
    }
    ::madvise(first, bytes, MADV_DONTFORK);
    return Mapping(first, bytes);
}

Result<Mapping> map_file(int fd, std::size_t bytes, std::string_view what) {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
        return fail(ErrorCode::unsupported, "the CPU cannot map {}: {}", what,
                    std::strerror(errno));
    }
    return Mapping(static_cast<std::byte*>(data), bytes);
}

// The exporter's caches, where they need it: begin before the CPU touches the pages, end after.
Status sync_dma_buf(int fd, std::uint64_t flags) {
    dma_buf_sync sync = {.flags = flags | DMA_BUF_SYNC_RW};
    while (::ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) != 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        return fail(ErrorCode::io, "DMA_BUF_IOCTL_SYNC: {}", std::strerror(errno));
    }
    return {};
}

}  // namespace

std::string_view name(ShareWay way) {
    switch (way) {
        case ShareWay::dma_buf: return "dma_buf";
        case ShareWay::host_pages: return "host_pages";
        case ShareWay::udmabuf: return "udmabuf";
        case ShareWay::copy: return "copy";
    }
    return "unknown";
}

Mapping::~Mapping() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<SharedBuffer> SharedBuffer::create(std::size_t bytes,
                                          std::span<SharingDevice* const> devices,
                                          std::optional<ShareWay> only) {
    UNICORN_CHECK(bytes > 0);
    UNICORN_CHECK(!devices.empty());
    std::size_t alignment = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    for (const SharingDevice* device : devices)
        alignment = std::max(alignment, device->alignment());
    if (bytes > SIZE_MAX - alignment) {
        return fail(ErrorCode::out_of_memory, "cannot share {} bytes", bytes);
    }
    const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;

    std::string reasons;
    ErrorCode code = ErrorCode::unsupported;
    for (const ShareWay way : kShareWays) {
        if (only && *only != way) continue;
        auto state = std::make_unique<State>();
        state->way = way;
        state->bytes = bytes;
        const Status shared = try_way(way, *state, padded, devices);
        if (shared) {
            state->description = fmt::format("{} bytes shared by {}", bytes, name(way));
            if (!reasons.empty()) state->description += " (not by " + reasons + ")";
            return SharedBuffer(std::move(state));
        }
        code = shared.error().code;
        reasons +=
            fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", name(way), shared.error().message);
    }
    return fail(code, "cannot share {} bytes: {}", bytes, reasons);
}

Status SharedBuffer::try_way(ShareWay way, State& state, std::size_t padded, Devices devices) {
    switch (way) {
        case ShareWay::dma_buf: return try_dma_buf(state, padded, devices);
        case ShareWay::host_pages: return try_host_pages(state, padded, devices);
        case ShareWay::udmabuf: return try_udmabuf(state, padded, devices);
        case ShareWay::copy: return try_copy(state, padded, devices);
    }
    return fail(ErrorCode::invalid_argument, "no such way to share");
}

// Any of the drivers may be the one that allocates.
Status SharedBuffer::try_dma_buf(State& state, std::size_t padded, Devices devices) {
    std::string reasons;
    const auto refuse = [&](std::string_view who, const std::string& why) {
        reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : ", ", who, why);
    };
    for (std::size_t exporter = 0; exporter < devices.size(); ++exporter) {
        auto exported = devices[exporter]->export_dma_buf(padded);
        if (!exported) {
            refuse(devices[exporter]->name(), exported.error().message);
            continue;
        }
        std::vector<std::unique_ptr<DeviceView>> views(devices.size());
        bool all = true;
        for (std::size_t i = 0; i < devices.size() && all; ++i) {
            if (i == exporter) continue;
            auto view = devices[i]->import_dma_buf(exported->dma_buf.get(), padded);
            all = view.has_value();
            if (view)
                views[i] = std::move(*view);
            else
                refuse(devices[i]->name(), view.error().message);
        }
        if (!all) continue;
        if (exported->host == nullptr) {
            auto pages = map_file(exported->dma_buf.get(), padded, "the dma-buf");
            if (!pages) {
                refuse(devices[exporter]->name(), pages.error().message);
                continue;
            }
            state.pages = std::move(*pages);
            state.host = state.pages.bytes().data();
        } else {
            state.host = exported->host;
        }
        views[exporter] = std::move(exported->view);
        state.views = std::move(views);
        state.dma_buf = std::move(exported->dma_buf);
        if (auto s = sync_dma_buf(state.dma_buf.get(), DMA_BUF_SYNC_START); !s) return s;
        std::memset(state.host, 0, padded);
        return {};
    }
    return fail(ErrorCode::unsupported, "{}", reasons);
}

Status SharedBuffer::try_host_pages(State& state, std::size_t padded, Devices devices) {
    std::size_t alignment = 1;
    for (const SharingDevice* device : devices)
        alignment = std::max(alignment, device->alignment());
    auto pages = map_anonymous(padded, alignment);
    if (!pages) return forward(pages);
    state.pages = std::move(*pages);
    for (SharingDevice* device : devices) {
        auto view = device->import_host_pages(state.pages.bytes());
        if (!view) {
            return fail(view.error().code, "{}: {}", device->name(), view.error().message);
        }
        state.views.push_back(std::move(*view));
    }
    state.host = state.pages.bytes().data();
    return {};
}

Status SharedBuffer::try_udmabuf(State& state, std::size_t padded, Devices devices) {
    const FileDescriptor driver(::open("/dev/udmabuf", O_RDWR | O_CLOEXEC));
    if (!driver) {
        return fail(ErrorCode::unsupported, "/dev/udmabuf: {}", std::strerror(errno));
    }
    const FileDescriptor file(::memfd_create("unicorn-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    // The driver wants a file that cannot shrink under it.
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(padded)) != 0 ||
        ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return fail(ErrorCode::out_of_memory, "a memory file of {} bytes: {}", padded,
                    std::strerror(errno));
    }
    udmabuf_create request = {};
    request.memfd = static_cast<std::uint32_t>(file.get());
    request.flags = UDMABUF_FLAGS_CLOEXEC;
    request.size = padded;
    state.dma_buf = FileDescriptor(::ioctl(driver.get(), UDMABUF_CREATE, &request));
    if (!state.dma_buf) {
        // EINVAL for what is larger than the module's size_limit_mb, too.
        return fail(ErrorCode::unsupported, "UDMABUF_CREATE of {} bytes: {}", padded,
                    std::strerror(errno));
    }
    auto pages = map_file(file.get(), padded, "the memory file");
    if (!pages) return forward(pages);
    state.pages = std::move(*pages);
    for (SharingDevice* device : devices) {
        auto view = device->import_dma_buf(state.dma_buf.get(), padded);
        if (!view) {
            return fail(view.error().code, "{}: {}", device->name(), view.error().message);
        }
        state.views.push_back(std::move(*view));
    }
    state.host = state.pages.bytes().data();
    return sync_dma_buf(state.dma_buf.get(), DMA_BUF_SYNC_START);
}

Status SharedBuffer::try_copy(State& state, std::size_t padded, Devices devices) {
    auto pages = map_anonymous(padded, 1);
    if (!pages) return forward(pages);
    state.pages = std::move(*pages);
    for (SharingDevice* device : devices) {
        auto mirror = device->mirror(padded);
        if (!mirror) {
            return fail(mirror.error().code, "{}: {}", device->name(), mirror.error().message);
        }
        state.mirrors.push_back(std::move(*mirror));
    }
    state.host = state.pages.bytes().data();
    return {};
}

std::uint64_t SharedBuffer::device_address(std::size_t device) const {
    if (state_->way == ShareWay::copy) return state_->mirrors.at(device)->device_address();
    return state_->views.at(device)->device_address();
}

Status SharedBuffer::hand_over(Party from, Party to, std::size_t offset, std::size_t bytes) {
    UNICORN_CHECK(offset <= state_->bytes && bytes <= state_->bytes - offset);
    if (from.index == to.index || bytes == 0) return {};
    const bool from_cpu = from.index == Party::kCpu;
    const bool to_cpu = to.index == Party::kCpu;
    if (state_->way != ShareWay::copy) {
        if (!state_->dma_buf || (!from_cpu && !to_cpu)) return {};  // the same pages, coherent
        return sync_dma_buf(state_->dma_buf.get(), to_cpu ? DMA_BUF_SYNC_START : DMA_BUF_SYNC_END);
    }
    const std::span<std::byte> range = host().subspan(offset, bytes);
    if (!from_cpu) {
        if (auto s = state_->mirrors.at(from.index)->download(offset, range); !s) return s;
        state_->bytes_copied += bytes;
    }
    if (!to_cpu) {
        if (auto s = state_->mirrors.at(to.index)->upload(offset, range); !s) return s;
        state_->bytes_copied += bytes;
    }
    return {};
}

}  // namespace unicorn::memory
