#include "machine/npu_driver.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace unicorn::machine {
namespace {

// The part of the kernel's interface (include/uapi/drm/amdxdna_accel.h and drm.h) that is used
// here. Our own copy: distributions ship headers older than the drivers that they ship.
struct DrmVersion {
    int major, minor, patch;
    std::size_t name_length;
    char* name;
    std::size_t date_length;
    char* date;
    std::size_t description_length;
    char* description;
};
struct GetInfo {
    std::uint32_t parameter;
    std::uint32_t buffer_bytes;  // in and out
    std::uint64_t buffer;
};
struct SetState {
    std::uint32_t parameter;
    std::uint32_t buffer_bytes;
    std::uint64_t buffer;
};
struct AieMetadata {
    std::uint32_t column_bytes;
    std::uint16_t columns, rows;
    std::uint32_t version_major, version_minor;
    struct {
        std::uint16_t row_count, row_start, dma_channels, locks, event_registers, pad[3];
    } core, memory, shim;
};
struct Clock {
    std::uint8_t name[16];
    std::uint32_t mhz, pad;
};
struct ClockMetadata {
    Clock mp_npu, h;
};
struct FirmwareVersion {
    std::uint32_t major, minor, patch, build;
};
struct PowerModeBuffer {
    std::uint8_t mode;
    std::uint8_t pad[7];
};
static_assert(sizeof(GetInfo) == 16 && sizeof(SetState) == 16);
static_assert(sizeof(AieMetadata) == 64 && sizeof(ClockMetadata) == 48);
static_assert(sizeof(FirmwareVersion) == 16 && sizeof(PowerModeBuffer) == 8);

constexpr unsigned long kVersion = _IOWR('d', 0x00, DrmVersion);
constexpr unsigned long kGetInfo = _IOWR('d', 0x40 + 7, GetInfo);
constexpr unsigned long kSetState = _IOWR('d', 0x40 + 8, SetState);

constexpr std::uint32_t kAieMetadata = 1, kClockMetadata = 3, kFirmwareVersion = 8,
                        kGetPowerMode = 9;
constexpr std::uint32_t kSetPowerMode = 0;

/// An open device node.
class Node {
public:
    static Result<Node> open(const std::string& path) {
        const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            const int code = errno;
            return fail(code == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                        "{}: cannot open: {}", path, std::strerror(code));
        }
        return Node(path, fd);
    }
    Node(Node&& other) noexcept
        : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
    Node& operator=(Node&&) = delete;
    ~Node() {
        if (fd_ >= 0) ::close(fd_);
    }

    Status call(unsigned long request, void* argument, const char* what) const {
        int result = 0;
        do {
            result = ::ioctl(fd_, request, argument);
        } while (result != 0 && errno == EINTR);
        if (result == 0) return {};
        const int code = errno;
        const bool unknown = code == EOPNOTSUPP || code == EINVAL || code == ENOTTY;
        return fail(unknown ? ErrorCode::unsupported : ErrorCode::io, "{}: cannot {}: {}", path_,
                    what, std::strerror(code));
    }
    template <typename T>
    Status get(std::uint32_t parameter, T& value, const char* what) const {
        GetInfo info{.parameter = parameter,
                     .buffer_bytes = sizeof value,
                     .buffer = reinterpret_cast<std::uintptr_t>(&value)};
        return call(kGetInfo, &info, what);
    }

private:
    Node(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    std::string path_;
    int fd_;
};

Result<NpuPowerMode> read_power_mode(const Node& node) {
    PowerModeBuffer buffer{};
    if (auto status = node.get(kGetPowerMode, buffer, "read the power mode"); !status)
        return forward(status);
    if (buffer.mode > static_cast<std::uint8_t>(NpuPowerMode::turbo))
        return fail(ErrorCode::unsupported, "the NPU's driver names an unknown power mode, {}",
                    buffer.mode);
    return static_cast<NpuPowerMode>(buffer.mode);
}

constexpr std::pair<NpuPowerMode, std::string_view> kNames[] = {
    {NpuPowerMode::automatic, "default"}, {NpuPowerMode::low, "low"},
    {NpuPowerMode::medium, "medium"},     {NpuPowerMode::high, "high"},
    {NpuPowerMode::turbo, "turbo"},
};

}  // namespace

std::string_view name(NpuPowerMode mode) {
    for (const auto& [value, text] : kNames)
        if (value == mode) return text;
    return "unknown";
}

std::optional<NpuPowerMode> power_mode_from_name(std::string_view wanted) {
    for (const auto& [value, text] : kNames)
        if (text == wanted) return value;
    return {};
}

Result<NpuAnswers> AmdxdnaDriver::query(const std::string& path) {
    auto node = Node::open(path);
    if (!node) return forward(node);
    DrmVersion version{};
    if (auto status = node->call(kVersion, &version, "ask for the driver's version"); !status)
        return forward(status);
    NpuAnswers answers;
    answers.driver_version = fmt::format("{}.{}", version.major, version.minor);
    if (FirmwareVersion f{}; node->get(kFirmwareVersion, f, "read the firmware's version"))
        answers.firmware = fmt::format("{}.{}.{}.{}", f.major, f.minor, f.patch, f.build);
    if (AieMetadata array{}; node->get(kAieMetadata, array, "read the array's shape"))
        answers.columns = array.columns;
    if (ClockMetadata clocks{}; node->get(kClockMetadata, clocks, "read the clocks"))
        answers.clock_mhz = clocks.h.mhz;
    if (auto mode = read_power_mode(*node)) answers.power_mode = *mode;
    return answers;
}

Result<NpuPowerMode> AmdxdnaDriver::power_mode(const std::string& path) {
    auto node = Node::open(path);
    if (!node) return forward(node);
    return read_power_mode(*node);
}

Status AmdxdnaDriver::set_power_mode(const std::string& path, NpuPowerMode mode) {
    auto node = Node::open(path);
    if (!node) return forward(node);
    PowerModeBuffer buffer{.mode = static_cast<std::uint8_t>(mode), .pad = {}};
    SetState state{.parameter = kSetPowerMode,
                   .buffer_bytes = sizeof buffer,
                   .buffer = reinterpret_cast<std::uintptr_t>(&buffer)};
    return node->call(kSetState, &state, "set the power mode");
}

}  // namespace unicorn::machine
