#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

namespace unicorn {
namespace {

class FileTest : public testing::Test {
protected:
    FileTest()
        : folder_(std::filesystem::temp_directory_path() /
                  ("unicorn_file_test_" + std::to_string(getpid()))) {
        std::filesystem::create_directories(folder_);
    }
    ~FileTest() override { std::filesystem::remove_all(folder_); }
    std::string path(const char* name) const { return (folder_ / name).string(); }
    std::filesystem::path folder_;
};

TEST_F(FileTest, WritesAppearOnCommitOnly) {
    {
        auto writer = FileWriter::create(path("a"));
        ASSERT_TRUE(writer) << writer.error().message;
        ASSERT_TRUE(writer->write("hello "));
        EXPECT_FALSE(std::filesystem::exists(path("a")));
        ASSERT_TRUE(writer->write("world"));
        EXPECT_EQ(writer->position(), 11U);
        ASSERT_TRUE(writer->commit());
    }
    EXPECT_EQ(read_file(path("a"), 100).value(), "hello world");
    EXPECT_FALSE(std::filesystem::exists(path("a.part")));
}

TEST_F(FileTest, AbandonedWriteKeepsTheOldFile) {
    auto first = FileWriter::create(path("a"));
    ASSERT_TRUE(first && first->write("old") && first->commit());
    {
        auto second = FileWriter::create(path("a"));
        ASSERT_TRUE(second && second->write("new"));
    }
    EXPECT_EQ(read_file(path("a"), 100).value(), "old");
    EXPECT_FALSE(std::filesystem::exists(path("a.part")));
}

TEST_F(FileTest, ErrorsNameThePath) {
    const auto missing = MappedFile::open(path("missing"));
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ErrorCode::not_found);
    EXPECT_NE(missing.error().message.find(path("missing")), std::string::npos);

    const auto folder = MappedFile::open(folder_.string());
    ASSERT_FALSE(folder);
    EXPECT_NE(folder.error().message.find("not a regular file"), std::string::npos);

    EXPECT_FALSE(FileWriter::create(path("no/such/folder")));
    EXPECT_FALSE(FileWriter::create(folder_.string()));
    EXPECT_FALSE(FileWriter::create(""));

    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    const auto fifo = MappedFile::open(path("fifo"));  // used to wait for a writer
    ASSERT_FALSE(fifo);
    EXPECT_NE(fifo.error().message.find("not a regular file"), std::string::npos);

    auto writer = FileWriter::create(path("big"));
    ASSERT_TRUE(writer && writer->write("12345") && writer->commit());
    const auto big = read_file(path("big"), 4);
    ASSERT_FALSE(big);
    EXPECT_EQ(big.error().code, ErrorCode::invalid_file);
}

TEST_F(FileTest, EmptyFileMapsToNothing) {
    auto writer = FileWriter::create(path("empty"));
    ASSERT_TRUE(writer && writer->commit());
    const auto file = MappedFile::open(path("empty"));
    ASSERT_TRUE(file);
    EXPECT_TRUE(file->bytes().empty());
}

TEST_F(FileTest, MovedFromMapIsEmpty) {
    auto writer = FileWriter::create(path("m"));
    ASSERT_TRUE(writer && writer->write("x") && writer->commit());
    auto a = MappedFile::open(path("m"));
    ASSERT_TRUE(a);
    const MappedFile b = std::move(*a);
    EXPECT_EQ(b.bytes().size(), 1U);
    EXPECT_TRUE(a->bytes().empty());
}

// Reading past the end of a file that was cut off used to end the process with SIGBUS.
TEST_F(FileTest, FileCutOffWhileMappedIsAnError) {
    auto writer = FileWriter::create(path("cut"));
    ASSERT_TRUE(writer && writer->write(std::string(std::size_t{1} << 20, 'x')) &&
                writer->commit());
    auto opened = MappedFile::open(path("cut"));
    ASSERT_TRUE(opened);
    const MappedFile file = std::move(*opened);  // the guard moves with it
    EXPECT_TRUE(file.unchanged());
    ASSERT_EQ(truncate(path("cut").c_str(), 100), 0);
    // From several threads at once, as kernels read.
    std::atomic<std::size_t> zeros{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) {
        readers.emplace_back([&] {
            for (std::size_t at = 4096; at < file.bytes().size(); at += 512) {
                if (*const_cast<const volatile std::byte*>(&file.bytes()[at]) == std::byte{0})
                    ++zeros;
            }
        });
    }
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(zeros, 4 * (file.bytes().size() - 4096) / 512);
    const auto status = file.unchanged();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::io);
    EXPECT_NE(status.error().message.find(path("cut") + ": the file changed"), std::string::npos)
        << status.error().message;

    // Even when the file has its old size again, what was lost stays lost.
    ASSERT_EQ(truncate(path("cut").c_str(), 1 << 20), 0);
    EXPECT_FALSE(file.unchanged());
    const auto again = MappedFile::open(path("cut"));
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->unchanged());
}

TEST_F(FileTest, FileWrittenToWhileMappedIsAnError) {
    auto writer = FileWriter::create(path("w"));
    ASSERT_TRUE(writer && writer->write("abc") && writer->commit());
    const auto file = MappedFile::open(path("w"));
    ASSERT_TRUE(file);
    const timespec times[2] = {{1, 0}, {1, 0}};  // whatever the clock's steps are
    ASSERT_EQ(utimensat(AT_FDCWD, path("w").c_str(), times, 0), 0);
    const auto status = file->unchanged();
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("written to"), std::string::npos);
}

// The guard must leave faults that are none of its own to whoever else wants them.
// Bug: root's `synth /dev/full` replaced the device by a file.
TEST(FileWriterTargets, WhatIsNoFileIsLeftAlone) {
    const std::string path =
        testing::TempDir() + "unicorn_file_writer_fifo_" + std::to_string(::getpid());
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    const auto writer = FileWriter::create(path);
    ASSERT_FALSE(writer);
    EXPECT_EQ(writer.error().code, ErrorCode::io);
    EXPECT_NE(writer.error().message.find("what is there is not a file"), std::string::npos);
    ::unlink(path.c_str());
}

TEST(FileWriterTargets, RoomIsAskedForBeforeAnythingIsWritten) {
    const std::string path =
        testing::TempDir() + "unicorn_file_writer_room_" + std::to_string(::getpid());
    auto writer = FileWriter::create(path);
    ASSERT_TRUE(writer);
    EXPECT_TRUE(writer->reserve(4096));
    const auto status = writer->reserve(std::uint64_t{1} << 60);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("no room"), std::string::npos);
}

TEST_F(FileTest, OtherBusErrorsStillEndTheProcess) {
    auto writer = FileWriter::create(path("other"));
    ASSERT_TRUE(writer && writer->write(std::string(8192, 'x')) && writer->commit());
    const auto guarded = MappedFile::open(path("other"));
    ASSERT_TRUE(guarded);
    const int fd = open(path("other").c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    void* const map = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd, 0);
    ASSERT_NE(map, MAP_FAILED);
    ASSERT_EQ(ftruncate(fd, 0), 0);
    EXPECT_DEATH(std::exit(*static_cast<const volatile char*>(map)), "");
    munmap(map, 8192);
    close(fd);
}

}  // namespace
}  // namespace unicorn
