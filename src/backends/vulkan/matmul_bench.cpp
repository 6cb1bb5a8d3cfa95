// Times the matrix kernels at Gemma 3's shapes on a device, each beside the plain read of its
// memory:
//   matmul_vulkan_bench vulkan:nvidia [model=27b] [types=q4_0,q2_k] [rows=1,4,8,16,32,512]
//     [path=coopmat] [matvec=256/1/1/4,...]  invocations/panels/unroll/lane_rows
//     [matmul=128/128/32/64/64/2,...]      bm/bn/bk/wm/wn/buffers, each is tried
//     [int8=64/16/256/16/2,...]            bm/bn/bk/wm/parts, where int8 matrices are taken
//     [int8_rows=64] rows that those take
//     [splits=1,4,...] [few=8] rows that matvec takes [only=down,o] [stats=1]  what the driver
//     tells of each shader
// Products are timed as matmul_timer.h says. GB/s counts the weights once, TFLOP/s two operations a
// weight and row. The last line of each configuration sums up a pass over all layers and the head.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "backends/vulkan/matmul.h"
#include "backends/vulkan/matmul_testing.h"
#include "backends/vulkan/matmul_timer.h"
#include "backends/vulkan/tier_bandwidth.h"
#include "backends/vulkan/weight_layout.h"

namespace unicorn::backends::vulkan {
namespace {

struct Model {
    std::string name;
    std::uint32_t d, f, heads, kv_heads, e, layers;
};
constexpr std::uint32_t kVocabulary = 262144;
const Model kModels[] = {{"27b", 5376, 21504, 32, 16, 128, 62},
                         {"4b", 2560, 10240, 8, 4, 256, 34},
                         {"1b", 1152, 6912, 4, 1, 256, 26}};

struct Product {
    std::string name;
    std::vector<std::uint32_t> rows;
    std::uint32_t cols;
    Epilogue epilogue;
    std::uint32_t times;  // in a pass
};

std::vector<Product> products(const Model& m) {
    const std::uint32_t q = m.heads * m.e;
    const std::uint32_t kv = m.kv_heads * m.e;
    return {{"qkv", {q, kv, kv}, m.d, Epilogue::none, m.layers},
            {"o", {m.d}, q, Epilogue::none, m.layers},
            {"gate_up", {m.f, m.f}, m.d, Epilogue::gelu, m.layers},
            {"down", {m.d}, m.f, Epilogue::none, m.layers},
            {"head", {kVocabulary}, m.d, Epilogue::none, 1}};
}

template <typename T>
T must(Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().message.c_str());
        std::exit(1);
    }
    return std::move(*result);
}

std::vector<std::string> split(const std::string& text, char by) {
    std::vector<std::string> parts;
    std::size_t begin = 0;
    while (begin <= text.size()) {
        const std::size_t end = std::min(text.find(by, begin), text.size());
        if (end > begin) parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::vector<std::uint32_t> numbers(const std::string& text, char by) {
    std::vector<std::uint32_t> out;
    for (const std::string& part : split(text, by))
        out.push_back(static_cast<std::uint32_t>(std::stoul(part)));
    return out;
}

TimedProduct timed(const Product& product, tensor::DType type) {
    return {
        .type = type,
        .rows = product.rows,
        .cols = product.cols,
        .epilogue = product.epilogue,
        .sample = matmul_testing::random_weights(type, TimedProduct::kSampleRows, product.cols, 3)};
}

/// One configuration: a line a product, and their sum over a pass.
void run(MatmulTimer& timer, Matmul& matmul, const Model& model, tensor::DType type,
         std::uint32_t n_rows, double plain, const std::string& what, const std::string& only) {
    double pass_seconds = 0, pass_bytes = 0, pass_flops = 0;
    std::string line;
    for (const Product& p : products(model)) {
        if (!only.empty() && ("," + only + ",").find("," + p.name + ",") == std::string::npos)
            continue;
        // The head sees the last row of a prompt.
        const std::uint32_t t = p.name == "head" ? std::min(n_rows, 32U) : n_rows;
        const double seconds = must(timer.time(matmul, timed(p, type), t));
        double bytes = 0, flops = 0;
        for (const std::uint32_t rows : p.rows) {
            bytes += static_cast<double>(stored_bytes(type, rows, p.cols));
            flops += 2.0 * rows * p.cols * t;
        }
        line += fmt::format(" {} {:.1f}us {:.0f}%/{:.0f}TF", p.name, seconds * 1e6,
                            100 * bytes / seconds / plain, flops / seconds * 1e-12);
        pass_seconds += p.times * seconds;
        pass_bytes += p.times * bytes;
        pass_flops += p.times * flops;
    }
    std::printf(
        "%s %s T=%u %s:%s | pass %.3f ms, %.0f GB/s = %.0f%% of read, %.1f TFLOP/s, %.0f tok/s\n",
        model.name.c_str(), std::string(tensor::name(type)).c_str(), n_rows, what.c_str(),
        line.c_str(), pass_seconds * 1e3, pass_bytes / pass_seconds * 1e-9,
        100 * pass_bytes / pass_seconds / plain, pass_flops / pass_seconds * 1e-12,
        n_rows / pass_seconds);
    std::fflush(stdout);
}

int main_of_bench(const std::map<std::string, std::string>& options, const std::string& wanted) {
    const auto option = [&](const std::string& key, const std::string& otherwise) {
        const auto found = options.find(key);
        return found == options.end() ? otherwise : found->second;
    };
    auto instance = must(VulkanInstance::open({.validation = false}));
    auto device = must(VulkanDevice::open(*instance, wanted, {.cache_folder = ""}));
    auto tiers = must(measure_tiers(*device, {.bytes = std::size_t{1} << 30}));
    const double plain = tiers[0].bytes_per_s;
    std::printf("%s: plain read %.0f GB/s\n", device->name().c_str(), plain * 1e-9);
    auto matmul =
        options.contains("path")
            ? must(Matmul::create(*device, options.at("path") == "coopmat" ? MatmulPath::coopmat
                                           : options.at("path") == "dot4"  ? MatmulPath::dot4
                                                                           : MatmulPath::plain))
            : must(Matmul::create(*device));
    matmul->keep_statistics = options.contains("stats");
    auto timer = must(
        MatmulTimer::create(*device, {.weight_bytes = std::stoull(option("bytes", "3000000000")),
                                      .cols = 21504,
                                      .outs = std::size_t{512} * 2 * 21504}));
    for (const std::string& model_name : split(option("model", "27b,4b,1b"), ',')) {
        for (const Model& model : kModels) {
            if (model.name != model_name) continue;
            for (const std::string& type_name :
                 split(option("types", "q4_0,q8_0,q2_k,bf16"), ',')) {
                const auto type = tensor::dtype_from_name(type_name);
                if (!type) continue;
                for (const std::uint32_t n_rows : numbers(option("rows", "1,4,8,16,32,512"), ',')) {
                    const std::string only = option("only", "");
                    const std::uint32_t few_rows =
                        static_cast<std::uint32_t>(std::stoul(option("few", "8")));
                    const bool few = n_rows <= few_rows || matmul->path() != MatmulPath::coopmat;
                    const bool int8 = !few && options.contains("int8");
                    const auto shapes = split(option(few    ? "matvec"
                                                     : int8 ? "int8"
                                                            : "matmul",
                                                     "chosen"),
                                              ',');
                    for (const std::string& shape : shapes) {
                        matmul->overrides = {};
                        if (options.contains("few")) matmul->overrides.most_matvec_rows = few_rows;
                        if (options.contains("int8_rows"))
                            matmul->overrides.most_int8_rows =
                                static_cast<std::uint32_t>(std::stoul(options.at("int8_rows")));
                        if (shape != "chosen") {
                            const auto n = numbers(shape, '/');
                            if (few)
                                matmul->overrides.matvec = {n.at(0), n.at(1), n.at(2), n.at(3)};
                            else if (int8)
                                matmul->overrides.int8 = {n.at(0), n.at(1), n.at(2), n.at(3),
                                                          n.at(4)};
                            else
                                matmul->overrides.matmul = {n.at(0), n.at(1), n.at(2), n.at(3),
                                                            n.at(4), n.at(5), 0};
                        }
                        for (const std::string& splits :
                             split(few ? "chosen" : option("splits", "chosen"), ',')) {
                            if (splits != "chosen")
                                matmul->overrides.splits =
                                    static_cast<std::uint32_t>(std::stoul(splits));
                            run(timer, *matmul, model, *type, n_rows, plain, shape + " x" + splits,
                                only);
                        }
                    }
                }
            }
        }
    }
    matmul->each_pipeline([](std::string_view name, auto constants, const Pipeline& pipeline) {
        const auto statistics = pipeline.statistics();
        if (!statistics) return;
        std::string line(name);
        for (const std::uint32_t c : constants) line += fmt::format(" {}", c);
        line += ":";
        for (const PipelineStatistic& s : *statistics)
            line += fmt::format(" {} {},", s.name, s.value);
        std::printf("%s\n", line.c_str());
    });
    return 0;
}

}  // namespace
}  // namespace unicorn::backends::vulkan

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 2; i < argc; ++i) {
        const std::string text = argv[i];
        const std::size_t at = text.find('=');
        if (at != std::string::npos) options[text.substr(0, at)] = text.substr(at + 1);
    }
    return unicorn::backends::vulkan::main_of_bench(options, argc > 1 ? argv[1] : "vulkan");
}
