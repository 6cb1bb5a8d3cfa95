#include "base/read_queue.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <numeric>

namespace unicorn {
namespace {

/// A clock that only moves when it is told to, or when someone sleeps.
class ManualClock final : public WaitableClock {
public:
    double now_s() const override { return now_; }
    void wait_until_s(double time_s) override { now_ = std::max(now_, time_s); }

private:
    double now_ = 0;
};

struct Free {
    void operator()(std::byte* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

Buffer buffer(std::size_t bytes) {
    return Buffer(static_cast<std::byte*>(std::aligned_alloc(kReadAlignment, read_room(bytes))));
}

constexpr std::size_t kFileBytes = (std::size_t{3} << 20) + 12345;  // not whole blocks

std::byte content(std::size_t at) { return static_cast<std::byte>((at * 2654435761u) >> 13); }

class ReadQueueTest : public testing::TestWithParam<const char*> {
protected:
    ReadQueueTest()
        : folder_(std::filesystem::temp_directory_path() /
                  ("unicorn_read_queue_test_" + std::to_string(getpid()))) {
        std::filesystem::create_directories(folder_);
        std::vector<std::byte> bytes(kFileBytes);
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = content(i);
        auto writer = FileWriter::create(path());
        if (!writer || !writer->write(bytes) || !writer->commit()) std::abort();
        files_.push_back(MappedFile::open(path()).value());
        direct_ = std::make_unique<DirectFiles>(DirectFiles::open(files_).value());
    }
    ~ReadQueueTest() override { std::filesystem::remove_all(folder_); }

    std::string path() const { return (folder_ / "data").string(); }

    std::unique_ptr<ReadQueue> open(std::size_t depth) {
        auto queue = std::string_view(GetParam()) == "uring" ? open_uring_queue(*direct_, depth)
                                                             : open_thread_queue(*direct_, depth);
        if (!queue) return nullptr;
        return std::move(*queue);
    }

    std::filesystem::path folder_;
    std::vector<MappedFile> files_;
    std::unique_ptr<DirectFiles> direct_;
};

TEST_P(ReadQueueTest, ReadsAnyRangeByteForByte) {
    constexpr std::size_t kDepth = 4;
    const auto queue = open(kDepth);
    if (queue == nullptr) GTEST_SKIP() << GetParam() << " is not available here";
    const std::size_t cases[][2] = {
        {0, 1},           {0, 4096},      {1, 4096},           {4095, 2},
        {12288, 1 << 20}, {777, 1000000}, {kFileBytes - 1, 1}, {kFileBytes - 5000, 5000},
        {0, kFileBytes}};
    std::vector<Buffer> buffers;
    for (std::size_t i = 0; i < kDepth; ++i) buffers.push_back(buffer(kFileBytes));
    std::vector<std::size_t> free(kDepth), which(kDepth);
    std::iota(free.begin(), free.end(), std::size_t{0});
    std::size_t next = 0, n_done = 0;
    while (n_done < std::size(cases)) {
        while (next < std::size(cases) && !free.empty()) {
            const std::size_t id = free.back();
            free.pop_back();
            which[id] = next;
            ASSERT_TRUE(queue->start({0, cases[next][0], cases[next][1], buffers[id].get(), id}));
            ++next;
        }
        const auto done = queue->finish();
        ASSERT_TRUE(done) << done.error().message;
        const auto& [offset, bytes] = cases[which[done->id]];
        ASSERT_EQ(done->bytes.size(), bytes);
        bool same = true;
        for (std::size_t i = 0; i < bytes; ++i)
            same = same && done->bytes[i] == content(offset + i);
        EXPECT_TRUE(same) << bytes << " bytes from " << offset;
        free.push_back(done->id);
        ++n_done;
    }
    EXPECT_EQ(queue->in_flight(), 0U);
}

TEST_P(ReadQueueTest, FileThatWasCutOffIsAnError) {
    const auto queue = open(1);
    if (queue == nullptr) GTEST_SKIP() << GetParam() << " is not available here";
    ASSERT_EQ(truncate(path().c_str(), 100000), 0);
    const Buffer b = buffer(1 << 20);
    ASSERT_TRUE(queue->start({0, 50000, 1 << 20, b.get(), 0}));
    const auto done = queue->finish();
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ErrorCode::io);
    EXPECT_NE(done.error().message.find(path()), std::string::npos) << done.error().message;
    EXPECT_EQ(queue->in_flight(), 0U);
}

TEST_P(ReadQueueTest, ClosingWaitsForWhatIsOnItsWay) {
    const Buffer b = buffer(1 << 20);
    {
        const auto queue = open(1);
        if (queue == nullptr) GTEST_SKIP() << GetParam() << " is not available here";
        ASSERT_TRUE(queue->start({0, 0, 1 << 20, b.get(), 0}));
    }
    std::fill_n(b.get(), read_room(1 << 20), std::byte{7});  // nobody writes to it any more
    EXPECT_TRUE(std::all_of(b.get(), b.get() + read_room(1 << 20),
                            [](std::byte x) { return x == std::byte{7}; }));
}

// 1 MB/s, each read arriving 10 s late: what several reads on their way at once gain is exact.
TEST_P(ReadQueueTest, SlowDiskOverlapsLatencyButNotBandwidth) {
    constexpr std::size_t kBytes = 8192;  // aligned: a read of as much
    const double transfer_s = kBytes / 1e6;
    for (const std::size_t depth : {std::size_t{1}, std::size_t{4}}) {
        ManualClock clock;
        SlowDisk disk(1e6, 10, clock);
        auto inner = open(depth);
        if (inner == nullptr) GTEST_SKIP() << GetParam() << " is not available here";
        const auto queue = slow_down(std::move(inner), disk);
        std::vector<Buffer> buffers;
        for (std::size_t id = 0; id < depth; ++id) buffers.push_back(buffer(kBytes));
        std::vector<std::size_t> order;
        for (std::size_t n = 0; n < 8; n += depth) {
            for (std::size_t id = 0; id < depth; ++id)
                ASSERT_TRUE(queue->start({0, (n + id) * kBytes, kBytes, buffers[id].get(), id}));
            for (std::size_t id = 0; id < depth; ++id) {
                const auto done = queue->finish();
                ASSERT_TRUE(done) << done.error().message;
                EXPECT_EQ(done->id, id);  // in the disk's order
                EXPECT_EQ(done->bytes[1], content((n + id) * kBytes + 1));
            }
        }
        EXPECT_NEAR(clock.now_s(), depth == 1 ? 8 * (10 + transfer_s) : 2 * (10 + 4 * transfer_s),
                    1e-9);
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, ReadQueueTest, testing::Values("uring", "threads"));

TEST_P(ReadQueueTest, PageCacheKnowsWhatItHolds) {
    std::vector<std::byte> bytes(kFileBytes);
    ASSERT_TRUE(read_through_cache(files_[0], 0, bytes));
    EXPECT_EQ(bytes.back(), content(kFileBytes - 1));
    EXPECT_TRUE(in_page_cache(files_[0], files_[0].bytes()));
    EXPECT_TRUE(in_page_cache(files_[0], {}));
    const auto past = read_through_cache(files_[0], kFileBytes - 1, std::span(bytes).first(2));
    ASSERT_FALSE(past);
    EXPECT_NE(past.error().message.find("ends at byte"), std::string::npos);
}

}  // namespace
}  // namespace unicorn
