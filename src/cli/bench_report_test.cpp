#include "cli/bench_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace unicorn::cli {
namespace {

BenchReport report() {
    BenchReport r;
    r.machine = {.cpu = "A \"CPU\", fast",
                 .cpus = 4,
                 .memory_bytes = 1000,
                 .os = "Linux 1",
                 .compiler = "gcc 1"};
    r.model = {.name = "model", .file_bytes = 2000, .parameters = 3000, .types = "q4_0 100 %"};
    r.device = "cpu, 2 threads, scalar";
    r.threads = 2;
    r.isa = "scalar";
    r.kv_type = "q8_0";
    r.rows.push_back({.test = "pp512",
                      .tok_s = {100, 300, 200},
                      .read_gb_s = {40, 40, 40},
                      .cpu_s = {4, 6, 2},
                      .wall_s = {2, 3, 1},
                      .tokens = 512,
                      .bytes_per_token = 1e7});
    r.rows.push_back({.test = "tg128@d4096",
                      .tok_s = {10, 20},
                      .read_gb_s = {30, 50},
                      .cpu_s = {0.5, 0.78},
                      .wall_s = {12.8, 6.4},
                      .tokens = 128,
                      .bytes_per_token = 2e9});
    return r;
}

TEST(Median, IsTheMiddleOrTheMeanOfTheTwo) {
    EXPECT_EQ(median({3}), 3);
    EXPECT_EQ(median({5, 1, 3}), 3);
    EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

TEST(BenchReport, JsonHasTheAgreedShape) {
    const auto json = nlohmann::json::parse(format_report(report(), "json", false));
    EXPECT_EQ(json["machine"]["cpu"], "A \"CPU\", fast");
    EXPECT_EQ(json["machine"]["threads"], 2);
    EXPECT_EQ(json["machine"]["read_gb_s"], 40);
    EXPECT_EQ(json["model"]["parameters"], 3000);
    EXPECT_EQ(json["kv_type"], "q8_0");
    ASSERT_EQ(json["rows"].size(), 2u);
    EXPECT_EQ(json["rows"][0]["test"], "pp512");
    EXPECT_EQ(json["rows"][0]["tok_s"],
              (nlohmann::json{{"median", 200}, {"min", 100}, {"max", 300}}));
    EXPECT_DOUBLE_EQ(json["rows"][0]["bytes_per_token"].get<double>(), 1e7);
    EXPECT_DOUBLE_EQ(json["rows"][0]["gb_s"].get<double>(), 2);
    EXPECT_DOUBLE_EQ(json["rows"][1]["gb_s"].get<double>(), 30);
    EXPECT_DOUBLE_EQ(json["rows"][1]["bandwidth_share"].get<double>(), 0.75);
    EXPECT_DOUBLE_EQ(json["rows"][1]["read_gb_s"].get<double>(), 40);
    EXPECT_DOUBLE_EQ(json["rows"][1]["cpu_ms_per_token"].get<double>(), 5);
    EXPECT_NEAR(json["rows"][1]["cpu_share"].get<double>(), 1.28 / 19.2, 1e-12);
    EXPECT_FALSE(json["machine"].contains("copy_gb_s"));
}

TEST(BenchReport, CsvQuotesText) {
    EXPECT_EQ(
        format_report(report(), "csv", false),
        "cpu,threads,isa,model,parameters,types,kv_type,test,tok_s_median,tok_s_min,tok_s_max,gb_s,"
        "bandwidth_share,cpu_ms_per_token,cpu_share\n"
        "\"A \"\"CPU\"\", fast\",2,scalar,\"model\",3000,\"q4_0 100 "
        "%\",q8_0,pp512,200.000,100.000,300.000,2.000,0.0500,7.8125,2.0000\n"
        "\"A \"\"CPU\"\", fast\",2,scalar,\"model\",3000,\"q4_0 100 "
        "%\",q8_0,tg128@d4096,15.000,10.000,20.000,30.000,"
        "0.7500,5.0000,0.0667\n");
}

TEST(BenchReport, TableAndMarkdownShowTheSameRows) {
    const std::string heading =
        "model, 3000 parameters, 2.00 kB (q4_0 100 %), KV q8_0\n"
        "A \"CPU\", fast, cpu, 2 threads, scalar; Linux 1; gcc 1; plain reads 40.0 GB/s\n\n";
    EXPECT_EQ(format_report(report(), "md", false),
              heading +
                  "| test | tok/s | min | max | GB/s | of bandwidth | CPU ms/tok | of a core |\n"
                  "|---|---:|---:|---:|---:|---:|---:|---:|\n"
                  "| pp512 | 200.00 | 100.00 | 300.00 | 2.00 | 5 % | 7.812 | 200.0 % |\n"
                  "| tg128@d4096 | 15.00 | 10.00 | 20.00 | 30.00 | 75 % | 5.000 | 6.7 % |\n");
    EXPECT_EQ(
        format_report(report(), "table", false),
        heading +
            "test          tok/s     min     max   GB/s  of bandwidth  CPU ms/tok  of a core\n"
            "pp512        200.00  100.00  300.00   2.00           5 %       7.812    200.0 %\n"
            "tg128@d4096   15.00   10.00   20.00  30.00          75 %       5.000      6.7 %\n");
}

TEST(BenchReport, SaysHowFastAGpuCopies) {
    BenchReport with_copies = report();
    with_copies.rows[0].copy_gb_s = {30, 35, 33};
    const auto json = nlohmann::json::parse(format_report(with_copies, "json", false));
    EXPECT_EQ(json["machine"]["copy_gb_s"], 33);
    EXPECT_NE(format_report(with_copies, "md", false).find("reads 40.0 GB/s, copies 33.0 GB/s\n"),
              std::string::npos);
}

TEST(BenchReport, BreakdownNamesTheMostFirstAndWhatIsLeft) {
    BenchReport broken_down = report();
    broken_down.rows[0].seconds = 4;
    broken_down.rows[0].step_seconds = {{"project", 1}, {"gated_ffn", 2.5}, {"head", 0}};
    const std::string table = format_report(broken_down, "table", false);
    EXPECT_TRUE(table.ends_with(
        "\npp512: gated_ffn 62.5 %, project 25.0 %, between steps 12.5 %, head 0.0 %\n"))
        << table;
    const auto json = nlohmann::json::parse(format_report(broken_down, "json", false));
    EXPECT_EQ(json["rows"][0]["breakdown"]["gated_ffn"], 0.625);
    EXPECT_FALSE(json["rows"][1].contains("breakdown"));
}

}  // namespace
}  // namespace unicorn::cli
