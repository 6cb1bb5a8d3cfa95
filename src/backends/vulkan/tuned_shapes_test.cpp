#include "backends/vulkan/tuned_shapes.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace unicorn::backends::vulkan {
namespace {

using ::testing::HasSubstr;

const ShapeLimits kLimits = {
    .invocations = 1024, .shared_bytes = 49152, .subgroup = 32, .matrix = {16, 16, 16}};
const TunedFor kWhom = {.device = "00ab", .driver = "NVIDIA 580.1", .shaders = 0x1234};

TunedShapes some() {
    return {
        {{ProductShader::matvec_dot4, tensor::DType::q4_0, ProductUse::gated_int8, 43008, 5376, 1},
         MatvecShape{512, 2, 1, 1}},
        {{ProductShader::matmul_coopmat, tensor::DType::q2_k, ProductUse::single, 5376, 21504,
          UINT32_MAX},
         MatmulShape{128, 64, 64, 64, 32, 1, 3}}};
}

class TunedShapesFile : public testing::Test {
protected:
    void TearDown() override { std::filesystem::remove_all(folder_); }
    void write(const std::string& text) const {
        std::filesystem::create_directories(folder_);
        std::ofstream(path_, std::ios::binary) << text;
    }
    std::string problem() const {
        const auto loaded = load_tuned_shapes(path_, kWhom, kLimits);
        return loaded ? "" : loaded.error().message;
    }

    const std::string folder_ =
        fmt::format("{}unicorn_tuned_shapes_{}", testing::TempDir(), ::getpid());
    const std::string path_ = tuned_shapes_path(folder_, std::array<std::uint8_t, 2>{0x00, 0xAB});
};

TEST_F(TunedShapesFile, ComesBackAsItWas) {
    EXPECT_EQ(path_, folder_ + "/matmul-00ab.shapes");
    EXPECT_EQ(tuned_shapes_path("", {}), "");
    const auto absent = load_tuned_shapes(path_, kWhom, kLimits);
    ASSERT_TRUE(absent);
    EXPECT_TRUE(absent->empty());
    ASSERT_TRUE(store_tuned_shapes(path_, kWhom, some()));
    const auto loaded = load_tuned_shapes(path_, kWhom, kLimits);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(*loaded, some());
    EXPECT_EQ(format_tuned_shapes(kWhom, some()),
              "unicorn matmul shapes 1\n"
              "device 00ab\n"
              "driver NVIDIA 580.1\n"
              "shaders 0000000000001234\n"
              "matvec_dot4 q4_0 gated_int8 43008x5376 1 512/2/1/1\n"
              "matmul_coopmat q2_k single 5376x21504 more 128/64/64/64/32/1/3\n"
              "sum " +
                  format_tuned_shapes(kWhom, some())
                      .substr(format_tuned_shapes(kWhom, some()).rfind("sum ") + 4));
}

TEST_F(TunedShapesFile, IsLeftOutWhenDamaged) {
    const std::string text = format_tuned_shapes(kWhom, some());
    for (std::size_t at = 0; at < text.size(); ++at) {
        std::string damaged = text;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        EXPECT_FALSE(parse_tuned_shapes(damaged, kWhom, kLimits)) << at;
        EXPECT_FALSE(parse_tuned_shapes(text.substr(0, at), kWhom, kLimits)) << "cut to " << at;
    }
    EXPECT_FALSE(parse_tuned_shapes(text + "x", kWhom, kLimits));
    write("nonsense");
    EXPECT_EQ(problem(), path_ + " is damaged; not used: unicorn tune --gpu --apply makes it anew");
}

TEST_F(TunedShapesFile, IsLeftOutWhenMadeForSomethingElse) {
    const auto with = [&](auto change) {
        TunedFor whom = kWhom;
        change(whom);
        write(format_tuned_shapes(whom, some()));
        return problem();
    };
    EXPECT_EQ(with([](TunedFor&) {}), "");
    EXPECT_THAT(with([](TunedFor& w) { w.device = "ff"; }), HasSubstr("another GPU"));
    EXPECT_THAT(with([](TunedFor& w) { w.driver = "NVIDIA 580.2"; }), HasSubstr("another driver"));
    EXPECT_THAT(with([](TunedFor& w) { w.shaders = 1; }), HasSubstr("other shaders"));
}

TEST_F(TunedShapesFile, ShapesThatAreNotValidHereAreRefused) {
    TunedShapes shapes = some();
    std::get<MatvecShape>(shapes.begin()->second).invocations = 48;
    write(format_tuned_shapes(kWhom, shapes));
    EXPECT_THAT(problem(), HasSubstr("cannot use (invocations"));
    EXPECT_THAT(problem(), HasSubstr("48/2/1/1"));
    // A shape of another shader.
    shapes.begin()->second = MatmulShape{128, 64, 64, 64, 32, 1, 0};
    EXPECT_FALSE(parse_tuned_shapes(format_tuned_shapes(kWhom, shapes), kWhom, kLimits));
}

TEST_F(TunedShapesFile, SaysWhereItCannotBeKept) {
    std::ofstream(folder_) << "a file, where a folder should be";
    const auto stored = store_tuned_shapes(path_, kWhom, some());
    ASSERT_FALSE(stored);
    EXPECT_EQ(stored.error().code, ErrorCode::io);
    EXPECT_THAT(stored.error().message, HasSubstr(path_));
}

}  // namespace
}  // namespace unicorn::backends::vulkan
