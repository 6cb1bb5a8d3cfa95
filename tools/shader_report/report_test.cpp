// What find_failures() finds, on reports made by hand.
#include "report.h"

#include <gmock/gmock.h>

#include "tensor/dtype.h"

namespace unicorn::shader_report {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const VariantKey kMatvec = {
    "matvec_dot4", {256, 32, static_cast<std::uint32_t>(tensor::DType::q4_0), 1, 0, 1, 1, 4, 0}};
const VariantKey kMatmul = {"matmul_coopmat",
                            {128, 32, static_cast<std::uint32_t>(tensor::DType::q4_0), 1, 128, 64,
                             64, 64, 32, 16, 16, 16, 1, 0}};

/// A variant that is right.
Variant variant(double vgprs, double subgroups) {
    Variant v = {.subgroup_size = 32,
                 .statistics = {{"VGPRs", vgprs},
                                {"SGPRs", 128},
                                {"LDS size", 1024},
                                {"Spilled VGPRs", 0},
                                {"Spilled SGPRs", 0},
                                {"Scratch size", 0},
                                {"Subgroups per SIMD", subgroups},
                                {"Code size", 100},
                                {"Instructions", 20},
                                {"Inverse Throughput", 30}}};
    v.n_dot4 = 8;
    v.n_wmma = 8;
    return v;
}

Report report(const VariantKey& key, Variant v) {
    return {.device = "a device", .driver = "Mesa 1", .variants = {{key, std::move(v)}}};
}

TEST(ShaderReport, SaysNothingOfVariantsThatAreRight) {
    EXPECT_THAT(find_failures(report(kMatvec, variant(64, 16))), IsEmpty());
    EXPECT_THAT(find_failures(report(kMatmul, variant(256, 4))), IsEmpty());
}

TEST(ShaderReport, NamesTheVariantThatSpills) {
    for (const char* what : {"Spilled VGPRs", "Spilled SGPRs", "Scratch size"}) {
        Variant v = variant(256, 4);
        v.statistics[what] = 3;
        EXPECT_THAT(
            find_failures(report(kMatmul, v)),
            ElementsAre(AllOf(HasSubstr("matmul_coopmat (workgroup 128, type q4_0, epilogue gelu"),
                              HasSubstr(std::string(what) + " 3"))));
    }
}

TEST(ShaderReport, MissesTheInstructionsOfAPath) {
    Variant v = variant(64, 4);
    v.n_wmma = 0;
    EXPECT_THAT(find_failures(report(kMatmul, v)), ElementsAre(HasSubstr("no v_wmma")));
    v = variant(64, 16);
    v.n_dot4 = 0;
    EXPECT_THAT(find_failures(report(kMatvec, v)), ElementsAre(HasSubstr("no v_dot4")));
}

TEST(ShaderReport, HoldsEachKindToItsRegistersAndSubgroups) {
    EXPECT_THAT(find_failures(report(kMatvec, variant(72, 14))),
                ElementsAre(HasSubstr("72 VGPRs, at most 64 for matvec_dot4, 1 row"),
                            HasSubstr("14 subgroups per SIMD, at least 16")));
    // Shared memory lowers it, too.
    EXPECT_THAT(find_failures(report(kMatmul, variant(128, 3))),
                ElementsAre(HasSubstr("3 subgroups per SIMD, at least 4 for matmul, more rows")));
}

TEST(ShaderReport, AsksForAKindOfWhatItDoesNotKnow) {
    EXPECT_THAT(find_failures(report({"new_shader", {7}}, variant(8, 32))),
                ElementsAre(AllOf(HasSubstr("new_shader (7)"), HasSubstr("has no entry"))));
    VariantKey longer = kMatvec;
    longer.constants.push_back(1);
    EXPECT_THAT(find_failures(report(longer, variant(64, 16))),
                ElementsAre(HasSubstr("has no entry")));
}

// A driver that renames a number must not look as if nothing spilled.
TEST(ShaderReport, MissesANumber) {
    Variant v = variant(64, 16);
    v.statistics.erase("Spilled VGPRs");
    EXPECT_THAT(find_failures(report(kMatvec, v)),
                ElementsAre(HasSubstr("the driver tells no Spilled VGPRs")));
}

TEST(ShaderReport, ListsFailuresInBothForms) {
    Variant v = variant(64, 16);
    v.statistics["Scratch size"] = 16;
    const Report failing = report(kMatvec, v);
    EXPECT_THAT(to_markdown(failing),
                AllOf(HasSubstr("known failures"), HasSubstr("Scratch size 16"),
                      HasSubstr("    " + driver_line(failing) + "\n")));
    EXPECT_THAT(to_json(failing), AllOf(HasSubstr("\"failures\": [\n"), HasSubstr("\"T\": 1")));
}

}  // namespace
}  // namespace unicorn::shader_report
