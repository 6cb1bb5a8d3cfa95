#pragma once
// The numbers of a benchmark, and the four ways to write them.

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/machine.h"
#include "engine/load_stats.h"

namespace unicorn::cli {

struct BenchRow {
    std::string test;                    // "pp512", "tg128", "tg128@d4096"
    std::vector<double> tok_s;           // one a repetition
    std::vector<double> read_gb_s;       // plain reads measured between the repetitions
    std::vector<double> copy_gb_s = {};  // the same of copies, of a GPU's memory
    std::vector<double> cpu_s = {};      // of the process, all threads; one a repetition
    std::vector<double> wall_s = {};
    std::size_t tokens = 0;      // of a repetition, all sequences'
    double bytes_per_token = 0;  // read from memory, on average
    /// Seconds in each kind of step, over all repetitions; empty unless asked for.
    std::vector<std::pair<std::string, double>> step_seconds = {};
    double seconds = 0;  // over all repetitions: the steps, and what lies between them

    double median_tok_s() const;
    double gb_s() const;
    /// gb_s over the median of the plain reads.
    double bandwidth_share() const;
    /// The process's CPU time: milliseconds for each token, and over wall time, so in cores.
    double cpu_ms_per_token() const;
    double cpu_share() const;
};

struct BenchReport {
    MachineInfo machine;
    ModelInfo model;
    std::string device;  // "cpu, 2 threads, avx512"
    std::size_t threads = 0;
    std::string isa;
    std::string kv_type = "f16";  // of the KV cache
    std::vector<BenchRow> rows;
    std::optional<engine::StreamReport> stream = {};  // over all of the run
};

/// The middle one; of an even number, the mean of the two in the middle. `values` is not empty.
double median(std::vector<double> values);

/// `format`: table, json, csv or md.
std::string format_report(const BenchReport& report, const std::string& format, bool colour);

}  // namespace unicorn::cli
