#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/progress.h"
#include "cli/prompt.h"
#include "cli/table.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

double least(const BenchRow& row) { return *std::min_element(row.tok_s.begin(), row.tok_s.end()); }
double most(const BenchRow& row) { return *std::max_element(row.tok_s.begin(), row.tok_s.end()); }

double median_of_all(const BenchReport& report, std::vector<double> BenchRow::*values) {
    std::vector<double> all;
    for (const auto& row : report.rows)
        all.insert(all.end(), (row.*values).begin(), (row.*values).end());
    return all.empty() ? 0 : median(all);
}
double read_gb_s(const BenchReport& report) { return median_of_all(report, &BenchRow::read_gb_s); }
double copy_gb_s(const BenchReport& report) { return median_of_all(report, &BenchRow::copy_gb_s); }

/// Shares of the time by kind of step, the most first; what is not in a step is "between steps".
std::vector<std::pair<std::string, double>> breakdown(const BenchRow& row) {
    std::vector<std::pair<std::string, double>> shares;
    if (row.step_seconds.empty()) return shares;
    double rest = row.seconds;
    for (const auto& [step, seconds] : row.step_seconds) {
        shares.emplace_back(step, seconds / row.seconds);
        rest -= seconds;
    }
    shares.emplace_back("between steps", rest / row.seconds);
    std::stable_sort(shares.begin(), shares.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    return shares;
}

/// One line a test: "tg128: project 61.2 %, gated_ffn 30.1 %, ..."
std::string breakdown_lines(const BenchReport& report) {
    std::string out;
    for (const auto& row : report.rows) {
        std::vector<std::string> parts;
        for (const auto& [step, share] : breakdown(row))
            parts.push_back(fmt::format("{} {:.1f} %", step, 100 * share));
        if (!parts.empty()) out += fmt::format("\n{}: {}\n", row.test, fmt::join(parts, ", "));
    }
    return out;
}

std::string as_json(const BenchReport& report) {
    Json out;
    out["machine"] = {{"cpu", report.machine.cpu},
                      {"cpus", report.machine.cpus},
                      {"threads", report.threads},
                      {"isa", report.isa},
                      {"device", report.device},
                      {"memory_bytes", report.machine.memory_bytes},
                      {"read_gb_s", read_gb_s(report)},
                      {"os", report.machine.os},
                      {"compiler", report.machine.compiler}};
    if (const double copies = copy_gb_s(report); copies > 0) out["machine"]["copy_gb_s"] = copies;
    out["model"] = {{"name", report.model.name},
                    {"file_bytes", report.model.file_bytes},
                    {"parameters", report.model.parameters},
                    {"types", report.model.types}};
    out["kv_type"] = report.kv_type;
    if (report.stream) {
        const engine::StreamReport& s = *report.stream;
        out["stream"] = {{"streamed_layers", s.layers},
                         {"pinned_layers", s.pinned},
                         {"buffers", s.buffers},
                         {"bytes_per_pass", s.bytes_per_pass},
                         {"hits", s.stats.hits},
                         {"misses", s.stats.misses},
                         {"read_bytes", s.stats.read_bytes},
                         {"stalls", s.stats.stalls},
                         {"stall_seconds", s.stats.stall_s}};
    }
    out["rows"] = Json::array();
    for (const auto& row : report.rows) {
        Json entry;
        entry["test"] = row.test;
        entry["tok_s"] = {{"median", row.median_tok_s()}, {"min", least(row)}, {"max", most(row)}};
        entry["bytes_per_token"] = row.bytes_per_token;
        entry["gb_s"] = row.gb_s();
        entry["bandwidth_share"] = row.bandwidth_share();
        entry["read_gb_s"] = median(row.read_gb_s);
        if (!row.copy_gb_s.empty()) entry["copy_gb_s"] = median(row.copy_gb_s);
        entry["cpu_ms_per_token"] = row.cpu_ms_per_token();
        entry["cpu_share"] = row.cpu_share();
        for (const auto& [step, share] : breakdown(row)) entry["breakdown"][step] = share;
        out["rows"].push_back(std::move(entry));
    }
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A field of RFC 4180: in quotes, quotes doubled.
std::string csv_text(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
}

std::string as_csv(const BenchReport& report) {
    std::string out =
        "cpu,threads,isa,model,parameters,types,kv_type,test,tok_s_median,tok_s_min,tok_s_max,gb_s,"
        "bandwidth_share,cpu_ms_per_token,cpu_share\n";
    for (const auto& row : report.rows) {
        out += fmt::format(
            "{},{},{},{},{},{},{},{},{:.3f},{:.3f},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f}\n",
            csv_text(report.machine.cpu), report.threads, report.isa, csv_text(report.model.name),
            report.model.parameters, csv_text(report.model.types), report.kv_type, row.test,
            row.median_tok_s(), least(row), most(row), row.gb_s(), row.bandwidth_share(),
            row.cpu_ms_per_token(), row.cpu_share());
    }
    return out;
}

std::vector<std::vector<std::string>> cells(const BenchReport& report) {
    std::vector<std::vector<std::string>> rows{
        {"test", "tok/s", "min", "max", "GB/s", "of bandwidth", "CPU ms/tok", "of a core"}};
    for (const auto& row : report.rows) {
        rows.push_back({row.test, fmt::format("{:.2f}", row.median_tok_s()),
                        fmt::format("{:.2f}", least(row)), fmt::format("{:.2f}", most(row)),
                        fmt::format("{:.2f}", row.gb_s()),
                        fmt::format("{:.0f} %", 100 * row.bandwidth_share()),
                        fmt::format("{:.3f}", row.cpu_ms_per_token()),
                        fmt::format("{:.1f} %", 100 * row.cpu_share())});
    }
    return rows;
}

std::string stream_line(const BenchReport& report) {
    return report.stream ? fmt::format("\n{}", describe_stream(*report.stream)) : "";
}

std::string heading(const BenchReport& report) {
    const double copies = copy_gb_s(report);
    return fmt::format(
        "{}, {} parameters, {} ({}), KV {}\n{}, {}; {}; {}; plain reads {:.1f} GB/s{}\n",
        report.model.name, report.model.parameters,
        human_bytes(static_cast<double>(report.model.file_bytes)), report.model.types,
        report.kv_type, report.machine.cpu, report.device, report.machine.os,
        report.machine.compiler, read_gb_s(report),
        copies > 0 ? fmt::format(", copies {:.1f} GB/s", copies) : "");
}

std::string as_markdown(const BenchReport& report) {
    std::string out = heading(report) + "\n";
    bool first = true;
    for (const auto& row : cells(report)) {
        out += fmt::format("| {} |\n", fmt::join(row, " | "));
        if (first) out += "|---|---:|---:|---:|---:|---:|---:|---:|\n";
        first = false;
    }
    return out + breakdown_lines(report) + stream_line(report);
}

}  // namespace

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double BenchRow::median_tok_s() const { return median(tok_s); }
double BenchRow::gb_s() const { return bytes_per_token * median_tok_s() / 1e9; }
double BenchRow::cpu_ms_per_token() const {
    return 1e3 * median(cpu_s) / static_cast<double>(tokens);
}
double BenchRow::cpu_share() const {
    return std::accumulate(cpu_s.begin(), cpu_s.end(), 0.0) /
           std::accumulate(wall_s.begin(), wall_s.end(), 0.0);
}
double BenchRow::bandwidth_share() const { return gb_s() / median(read_gb_s); }

std::string format_report(const BenchReport& report, const std::string& format, bool colour) {
    if (format == "json") return as_json(report);
    if (format == "csv") return as_csv(report);
    if (format == "md") return as_markdown(report);
    using enum Align;
    return heading(report) + "\n" +
           aligned_table(cells(report), {left, right, right, right, right, right, right, right},
                         colour) +
           breakdown_lines(report) + stream_line(report);
}

}  // namespace unicorn::cli
