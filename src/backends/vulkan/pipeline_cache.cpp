#include "backends/vulkan/pipeline_cache.h"

#include <cstring>
#include <filesystem>

#include "base/file.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{256} << 20;

/// In front of the driver's bytes.
struct Header {
    char magic[8] = {'U', 'N', 'I', 'V', 'K', 'P', 'C', '1'};
    std::uint64_t n_bytes = 0;
    std::uint64_t hash = 0;
};

// FNV-1a: two writers at once, or a full disk, leave a file that does not match its hash.
std::uint64_t hash_of(std::span<const std::byte> data) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const std::byte b : data) hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
    return hash;
}

}  // namespace

std::string pipeline_cache_path(const std::string& folder, std::span<const std::uint8_t> uuid) {
    if (folder.empty()) return {};
    std::string path = folder + "/vulkan-";
    for (const std::uint8_t byte : uuid) path += fmt::format("{:02x}", byte);
    return path + ".cache";
}

std::vector<std::byte> load_pipeline_cache(const std::string& path) {
    if (path.empty()) return {};
    const auto file = read_file(path, kMaxBytes);
    Header header;
    if (!file || file->size() < sizeof(header)) return {};
    std::memcpy(&header, file->data(), sizeof(header));
    const auto data = std::as_bytes(std::span(*file)).subspan(sizeof(header));
    if (std::memcmp(header.magic, Header().magic, sizeof(header.magic)) != 0) return {};
    if (header.n_bytes != data.size() || header.hash != hash_of(data)) return {};
    return {data.begin(), data.end()};
}

Status store_pipeline_cache(const std::string& path, std::span<const std::byte> data) {
    if (data.size() > kMaxBytes - sizeof(Header)) {
        return fail(ErrorCode::io, "{}: {} bytes are too many for a cache", path, data.size());
    }
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    auto writer = FileWriter::create(path);  // says what is wrong with the folder
    if (!writer) return forward(writer);
    Header header;
    header.n_bytes = data.size();
    header.hash = hash_of(data);
    if (auto s = writer->write(std::as_bytes(std::span(&header, 1))); !s) return s;
    if (auto s = writer->write(data); !s) return s;
    return writer->commit();
}

}  // namespace unicorn::backends::vulkan
