#pragma once
// A fuzzer's input as a file: the readers map files, so they get one that lies in memory.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"

namespace unicorn::fuzz {

class MemoryFile {
public:
    explicit MemoryFile(std::span<const std::uint8_t> bytes)
        : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
        UNICORN_CHECK(fd_ >= 0);
        UNICORN_CHECK(bytes.empty() ||
                      write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    }
    ~MemoryFile() { close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
    int fd_;
};

}  // namespace unicorn::fuzz
