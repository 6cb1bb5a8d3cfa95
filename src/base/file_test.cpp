#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

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

}  // namespace
}  // namespace unicorn
