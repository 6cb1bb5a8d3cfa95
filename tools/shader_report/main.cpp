// unicorn-shader-report: compiles every pipeline variant for the Radeon 780M, without one, and says
// what became of it. A build tool: it is not installed.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "report.h"

namespace unicorn::shader_report {
namespace {

constexpr int kFailed = 1, kError = 2;
constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE

struct Options {
    std::string model = UNICORN_SOURCE_DIR "/models/unicorn-stories-29m-q8_0.gguf";
    std::string markdown, compare;
    bool json = false;
};

Result<Report> make_report(const std::string& model) {
    // The layer hides cooperative matrices when it is older than they are (Debian 12's).
    auto instance = backends::vulkan::VulkanInstance::open({.validation = false});
    if (!instance) return forward(instance);
    auto device =
        backends::vulkan::VulkanDevice::open(**instance, "vulkan:radv", {.cache_folder = ""});
    if (!device) return forward(device);
    const auto& c = (*device)->capabilities();
    if (!c.compiles_only || (*device)->name().find("PHOENIX") == std::string::npos) {
        return fail(ErrorCode::unsupported, "{} is not RADV's compiler for the Radeon 780M",
                    (*device)->name());
    }
    auto variants = compile_variants(**device, model);
    if (!variants) return forward(variants);
    return Report{(*device)->name(), c.description.driver_info, std::move(*variants)};
}

Result<std::string> read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    if (!file || !(text << file.rdbuf())) return fail(ErrorCode::io, "{}: cannot be read", path);
    return text.str();
}

/// A line for what differs between the committed table and this one, with how to bring it up to
/// date; empty: nothing does, or they cannot be compared, which is then said.
Result<std::string> compare(const Report& report, const std::string& path) {
    const auto committed = read(path);
    if (!committed) return tl::unexpected(committed.error());
    const std::string name = std::filesystem::path(path).filename();
    if (committed->find("    " + driver_line(report) + "\n") == std::string::npos) {
        fmt::print("{} was made with another Mesa than {}: only the checks ran\n", name,
                   driver_line(report));
        return std::string();
    }
    std::istringstream old_lines(*committed), new_lines(to_markdown(report));
    std::string was, is;
    for (std::size_t line = 1;; ++line) {
        const bool more_old = static_cast<bool>(std::getline(old_lines, was));
        const bool more_new = static_cast<bool>(std::getline(new_lines, is));
        if (!more_old && !more_new) return std::string();
        if (more_old == more_new && was == is) continue;
        return fmt::format(
            "{}:{} is not what is compiled now: build the target shader_report and commit it\n"
            "  there: {}\n  now:   {}",
            name, line, more_old ? was : "(end)", more_new ? is : "(end)");
    }
}

int run(const Options& options) {
    const auto report = make_report(options.model);
    if (!report) {
        const char* required = std::getenv("UNICORN_REQUIRE_VULKAN");
        const bool must = required != nullptr && std::string_view(required) == "1";
        fmt::print(stderr, "unicorn-shader-report: {}\n", report.error().message);
        return options.compare.empty() || must ? kError : kSkipped;
    }
    std::vector<std::string> failures = find_failures(*report);
    const std::size_t n_failed = failures.size();
    if (!options.compare.empty()) {
        auto differs = compare(*report, options.compare);
        if (!differs) {
            fmt::print(stderr, "unicorn-shader-report: {}\n", differs.error().message);
            return kError;
        }
        if (!differs->empty()) failures.push_back(std::move(*differs));
    } else if (options.json) {
        fmt::print("{}", to_json(*report));
    } else if (options.markdown.empty()) {
        fmt::print("{}", to_markdown(*report));
    }
    if (!options.markdown.empty()) {
        std::ofstream file(options.markdown, std::ios::binary);
        if (!(file << to_markdown(*report)).flush()) {
            fmt::print(stderr, "unicorn-shader-report: {}: cannot be written\n", options.markdown);
            return kError;
        }
    }
    for (const std::string& line : failures) fmt::print(stderr, "FAILED {}\n", line);
    fmt::print(stderr, "{}: {} variants, {} failures\n", driver_line(*report),
               report->variants.size(), n_failed);
    return failures.empty() ? 0 : kFailed;
}

}  // namespace
}  // namespace unicorn::shader_report

int main(int argc, char** argv) {
    unicorn::shader_report::Options options;
    CLI::App app(
        "Compiles every pipeline that Gemma 3 uses on a Radeon 780M with Mesa's RADV, without the "
        "hardware, and prints a table. Exit code 1, and a line each on stderr, for what must not "
        "be.");
    app.add_option("--model", options.model, "a GGUF to report besides 27B, 4B and 1B");
    app.add_flag("--json", options.json, "print JSON, with all that the driver tells");
    auto* markdown = app.add_option("--md", options.markdown, "write the table to this file");
    app.add_option(
           "--compare", options.compare,
           "print no table, and fail when this file is not it, unless another Mesa made it; "
           "exit code 77 when there is no RADV here and UNICORN_REQUIRE_VULKAN is not 1")
        ->excludes(markdown);
    CLI11_PARSE(app, argc, argv);
    // Read by RADV when the instance is made.
    setenv("RADV_FORCE_FAMILY", "phoenix", 1);
    return unicorn::shader_report::run(options);
}
