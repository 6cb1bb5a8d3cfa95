#pragma once
// Files as we use them: mapped for reading, written beside their place and then renamed.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/fault_guard.h"
#include "base/result.h"

namespace unicorn {

/// A whole file mapped read-only. Move-only; unmapped when destroyed. An empty file maps to an
/// empty span. Only regular files are accepted: a directory or a device is an error.
/// A file may change or be cut off while it is mapped. What is gone then reads as zeros, and
/// unchanged() says so: whoever used the bytes asks it before trusting the result.
class MappedFile {
public:
    /// Errors: not_found, io; the message names the path.
    static Result<MappedFile> open(const std::string& path);

    MappedFile() = default;
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::string& path() const { return path_; }

    /// Tells the kernel that `range` (part of bytes()) will be read soon, front to back.
    void will_need(std::span<const std::byte> range) const;
    /// Reads `range` into the page cache, and returns when it is there as far as it can be read.
    void populate(std::span<const std::byte> range) const;
    /// Gives the pages of `range` back to the kernel; they are mapped again when touched.
    void drop(std::span<const std::byte> range) const;

    /// Whether the file is still what was mapped, by its size, its time of modification and the
    /// pages that could be read. Costs a system call. Errors: io, with what changed.
    Status unchanged() const;

    /// The descriptor, for reading past the map; -1 when there is no file.
    int fd() const { return fd_; }

private:
    std::string path_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    int fd_ = -1;
    std::int64_t modified_ns_ = 0;
    FaultGuard guard_;
};

/// Reads a small text or JSON file whole. Errors: not_found, io; invalid_file when it is larger
/// than `max_bytes`.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);

/// Writes a file so that it appears complete or not at all: bytes go to "<path>.part", and
/// commit() flushes them to the disk and renames. Destroyed without commit(), it removes the part
/// file, so a failed or cancelled job leaves what was there before.
class FileWriter {
public:
    /// Errors: io; the message names the path.
    static Result<FileWriter> create(const std::string& path);

    FileWriter(FileWriter&& other) noexcept;
    FileWriter& operator=(FileWriter&& other) noexcept;
    ~FileWriter();

    /// Whether there is room for `bytes` now, before any is written. Errors: io, with the numbers.
    Status reserve(std::uint64_t bytes);
    /// Appends. Errors: io, with the path and errno's text (a full disk, for one).
    Status write(std::span<const std::byte> bytes);
    Status write(std::string_view text);
    std::uint64_t position() const { return position_; }
    /// Writes over bytes that were written before, from `offset` on. Errors: io.
    Status overwrite(std::uint64_t offset, std::span<const std::byte> bytes);
    Status commit();

private:
    FileWriter() = default;
    void abandon() noexcept;

    std::string path_;
    int fd_ = -1;
    std::uint64_t position_ = 0;
};

}  // namespace unicorn
