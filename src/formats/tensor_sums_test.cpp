#include "formats/tensor_sums.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "formats/gguf_writer.h"

namespace unicorn::formats {
namespace {

class TensorSumsTest : public testing::Test {
protected:
    TensorSumsTest()
        : path_((std::filesystem::temp_directory_path() /
                 ("unicorn_tensor_sums_test_" + std::to_string(getpid()) + ".gguf"))
                    .string()) {
        GgufWriter writer;
        writer.set_string("general.architecture", "gemma3");
        const std::uint64_t dims[] = {64, 3};
        for (const char* name : {"a", "b", "c"}) writer.add_tensor(name, tensor::DType::f32, dims);
        EXPECT_TRUE(writer.begin(path_));
        std::vector<std::byte> bytes(3 * 64 * 3 * sizeof(float));
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
        // In parts that do not end where tensors do.
        EXPECT_TRUE(writer.write(std::span(bytes).first(1000)));
        EXPECT_TRUE(writer.write(std::span(bytes).subspan(1000)));
        EXPECT_TRUE(writer.finish());
    }
    ~TensorSumsTest() override { std::filesystem::remove(path_); }

    Gguf open() { return Gguf::open(path_).value(); }

    void flip_byte_of(std::string_view tensor, std::size_t at) {
        std::size_t offset = 0;
        {
            const Gguf file = open();
            offset = static_cast<std::size_t>(file.find_tensor(tensor)->bytes.data() -
                                              file.files()[0].bytes().data()) +
                     at;
        }
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(static_cast<std::streamoff>(offset));
        const int byte = file.get();
        file.seekp(static_cast<std::streamoff>(offset));
        file.put(static_cast<char>(byte ^ 1));
    }

    std::string path_;
};

TEST_F(TensorSumsTest, WhatWeWriteVerifies) {
    const Gguf file = open();
    std::uint64_t last = 0;
    EXPECT_TRUE(verify_tensors(file, 2, [&](std::uint64_t done) {
        last = done;
        return true;
    }));
    EXPECT_EQ(last, file.tensor_bytes());
}

TEST_F(TensorSumsTest, ADamagedTensorIsNamed) {
    flip_byte_of("b", 767);
    flip_byte_of("c", 0);
    for (const std::size_t n_threads : {1u, 3u}) {
        const auto status = verify_tensors(open(), n_threads);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::invalid_file);
        EXPECT_EQ(status.error().message.find(path_ + ": tensor 'b' is damaged"), 0U)
            << status.error().message;
    }
}

TEST_F(TensorSumsTest, CancelledAndWithoutSums) {
    const auto cancelled = verify_tensors(open(), 1, [](std::uint64_t) { return false; });
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, ErrorCode::cancelled);
    // The bundled file's writer knew of no sums.
    const auto older = Gguf::open(UNICORN_SOURCE_DIR "/models/unicorn-stories-29m-q8_0.gguf");
    ASSERT_TRUE(older);
    const auto status = verify_tensors(*older, 1);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::unsupported);
    EXPECT_NE(status.error().message.find("no sums"), std::string::npos);
}

}  // namespace
}  // namespace unicorn::formats
