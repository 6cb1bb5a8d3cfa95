#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/progress.h"

namespace unicorn {
namespace {

tl::unexpected<Error> errno_error(const std::string& path, const char* action) {
    const int code = errno;
    return fail(code == ENOENT ? ErrorCode::not_found : ErrorCode::io, "{}: cannot {}: {}", path,
                action, std::strerror(code));
}

std::int64_t modified_ns(const struct stat& info) {
    return info.st_mtim.tv_sec * std::int64_t{1'000'000'000} + info.st_mtim.tv_nsec;
}

/// madvise wants whole pages: every page that `range` touches. All advice we give is harmless to
/// the neighbours on the first and last page.
void advise(std::span<const std::byte> range, int advice) {
    if (range.empty()) return;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto first = reinterpret_cast<std::uintptr_t>(range.data()) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(range.data()) + range.size();
    madvise(reinterpret_cast<void*>(first), end - first, advice);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer before we can refuse it.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno_error(path, "open");
    MappedFile file;
    file.path_ = path;
    file.fd_ = fd;
    struct stat info {};
    if (fstat(fd, &info) != 0) return errno_error(path, "stat");
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::io, "{}: not a regular file", path);
    file.modified_ns_ = modified_ns(info);
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size > 0) {
        void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) return errno_error(path, "map");
        file.data_ = static_cast<const std::byte*>(data);
        file.size_ = size;
        file.guard_ = FaultGuard(file.bytes());
    }
    return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)),
      modified_ns_(other.modified_ns_),
      guard_(std::move(other.guard_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(fd_, other.fd_);
    std::swap(modified_ns_, other.modified_ns_);
    std::swap(guard_, other.guard_);
    return *this;
}

MappedFile::~MappedFile() {
    guard_ = FaultGuard();  // the addresses may soon be someone else's
    if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
    if (fd_ >= 0) close(fd_);
}

Status MappedFile::unchanged() const {
    if (fd_ < 0) return {};
    struct stat info {};
    if (fstat(fd_, &info) != 0) return errno_error(path_, "stat");
    if (static_cast<std::size_t>(info.st_size) != size_) {
        return fail(ErrorCode::io, "{}: the file changed while it was in use: {} bytes, was {}",
                    path_, info.st_size, size_);
    }
    if (guard_.broken()) {
        return fail(ErrorCode::io, "{}: the file cannot be read from byte {} on any more", path_,
                    guard_.first_lost_byte());
    }
    if (modified_ns(info) != modified_ns_) {
        return fail(ErrorCode::io, "{}: the file was written to while it was in use", path_);
    }
    return {};
}

void MappedFile::will_need(std::span<const std::byte> range) const { advise(range, MADV_WILLNEED); }

void MappedFile::populate(std::span<const std::byte> range) const {
    advise(range, MADV_POPULATE_READ);
}

void MappedFile::drop(std::span<const std::byte> range) const { advise(range, MADV_DONTNEED); }

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
    auto file = MappedFile::open(path);
    if (!file) return forward(file);
    const auto bytes = file->bytes();
    if (bytes.size() > max_bytes) {
        return fail(ErrorCode::invalid_file, "{}: {} bytes, expected at most {}", path,
                    bytes.size(), max_bytes);
    }
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (auto status = file->unchanged(); !status) return forward(status);
    return text;
}

Result<FileWriter> FileWriter::create(const std::string& path) {
    FileWriter writer;
    writer.path_ = path;
    struct stat info {};
    const bool exists = !path.empty() && stat(path.c_str(), &info) == 0;
    if (path.empty() || path.back() == '/' || (exists && S_ISDIR(info.st_mode))) {
        return fail(ErrorCode::io, "{}: cannot create: a folder",
                    path.empty() ? "(no name)" : path);
    }
    // Renaming over a device, a pipe or a socket would end it for everyone.
    if (exists && !S_ISREG(info.st_mode))
        return fail(ErrorCode::io, "{}: cannot create: what is there is not a file", path);
    const std::string part = path + ".part";
    writer.fd_ = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (writer.fd_ < 0) {
        // Any reason, a missing folder included, is a failure to write here.
        return fail(ErrorCode::io, "{}: cannot create: {}", part, std::strerror(errno));
    }
    return writer;
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      position_(std::exchange(other.position_, 0)) {}

FileWriter& FileWriter::operator=(FileWriter&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    std::swap(position_, other.position_);
    return *this;
}

FileWriter::~FileWriter() { abandon(); }

void FileWriter::abandon() noexcept {
    if (fd_ < 0) return;
    close(std::exchange(fd_, -1));
    unlink((path_ + ".part").c_str());
}

Status FileWriter::reserve(std::uint64_t bytes) {
    struct statvfs space {};
    if (bytes == 0 || fstatvfs(fd_, &space) != 0) return {};
    const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
    if (free >= bytes) return {};
    return fail(ErrorCode::io, "{}: no room: {} are needed, {} are free", path_,
                human_bytes(static_cast<double>(bytes)), human_bytes(static_cast<double>(free)));
}

Status FileWriter::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno_error(path_, "write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        position_ += static_cast<std::uint64_t>(n);
    }
    return {};
}

Status FileWriter::write(std::string_view text) {
    return write(std::as_bytes(std::span(text.data(), text.size())));
}

Status FileWriter::overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno_error(path_, "write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

Status FileWriter::commit() {
    if (fdatasync(fd_) != 0) {
        auto error = errno_error(path_, "flush");
        close(std::exchange(fd_, -1));
        unlink((path_ + ".part").c_str());
        return error;
    }
    if (close(std::exchange(fd_, -1)) != 0) {
        auto error = errno_error(path_, "close");
        unlink((path_ + ".part").c_str());
        return error;
    }
    if (rename((path_ + ".part").c_str(), path_.c_str()) != 0) {
        auto error = errno_error(path_, "rename into place");
        unlink((path_ + ".part").c_str());
        return error;
    }
    return {};
}

}  // namespace unicorn
