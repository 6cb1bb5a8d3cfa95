// unicorn bench: prompt processing and generation, against the bandwidth of the memory.

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/bench_load.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/measure_gpu.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/terminal.h"
#include "engine/engine.h"
#include "engine/open_devices.h"
#include "engine/sampler.h"
#include "kernels/isa.h"
#include "memory/bandwidth.h"

namespace unicorn::cli {
namespace {

constexpr std::size_t kMaxRepetitions = 100'000;

struct Test {
    bool prompt = false;  // else generation
    std::size_t tokens = 0;
    std::size_t depth = 0;      // tokens in the cache before
    std::size_t sequences = 1;  // that do this at once

    std::string name() const {
        return fmt::format("{}{}{}{}", prompt ? "pp" : "tg", tokens,
                           sequences > 1 ? fmt::format("x{}", sequences) : "",
                           depth > 0 ? fmt::format("@d{}", depth) : "");
    }
};

/// CPU time of the process so far, all threads, the driver's too.
double cpu_seconds() {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// What one repetition took.
struct Taken {
    double wall_s = 0, cpu_s = 0;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class BenchCommand : public Command {
public:
    explicit BenchCommand(CLI::App& parent) {
        app = parent.add_subcommand("bench",
                                    "Measure speed against the memory's bandwidth\n\n"
                                    "pp512 is a prompt of 512 tokens processed at once, tg128 is "
                                    "128 tokens made one by one,\n"
                                    "tg128x8 the same by 8 sequences at once (tok/s of all "
                                    "together), and @d4096 means with 4,096\n"
                                    "tokens in the context already. Each test runs once to warm up "
                                    "and then -r times.\n"
                                    "GB/s is what the model reads from memory for that; the share "
                                    "compares it with plain reads of\n"
                                    "the same memory by the same threads (or the GPU), measured "
                                    "between the repetitions.\n"
                                    "CPU ms/tok is the process's CPU time for each token, of a "
                                    "core the same over wall time: with\n"
                                    "4 busy threads 400 %.");
        app->add_option("-p,--pp", prompts_, "Prompt sizes; 0: none (default 512)")
            ->type_name("N,...");
        app->add_option("-n,--tg", generations_, "Tokens to make; 0: none (default 128)")
            ->type_name("N,...");
        app->add_option("-d,--depth", depths_, "Tokens in the context before each test (default 0)")
            ->type_name("N,...");
        app->add_option("-b,--batch", batches_, "Sequences that generate at once (default 1)")
            ->type_name("N,...");
        add_count(*app, "-r,--repetitions", repetitions_, 1, kMaxRepetitions,
                  "Repetitions of each test (default 5)");
        add_model_option(*app, model_);
        add_choice(*app, "--format", format_, "table|json|csv|md",
                   "How to print the results (default table)");
        app->add_flag("--json", json_, "The same as --format json");
        app->add_flag("--load", load_,
                      "Measure loading instead: cold, warm, against raw reads of\nthe same file; "
                      "repacking; peak memory");
        app->add_flag("--breakdown", breakdown_, "Also show where the time went, by kind of step");
        add_engine_options(*app, engine_);
        app->footer(
            "Examples:\n"
            "  unicorn bench\n"
            "  unicorn bench -m model.gguf -p 128,512 -n 128 -d 0,4096\n"
            "  unicorn bench -p 0 -n 64 -r 10 --format csv > generation.csv\n"
            "  unicorn bench --breakdown\n"
            "  unicorn synth 1b shape.gguf --type q4_0 && unicorn bench -m shape.gguf");
    }

    Result<int> run() override {
        if (json_ && app->count("--format") > 0 && format_ != "json")
            return fail(ErrorCode::invalid_argument, "--json and --format {} exclude each other",
                        format_);
        if (load_) {
            if (!json_ && format_ != "table" && format_ != "json")
                return fail(ErrorCode::invalid_argument, "--load prints a table or JSON");
            auto path = resolve_model(model_);
            if (!path) return forward(path);
            auto text = bench_load(*path, engine_, repetitions_, json_ || format_ == "json");
            if (!text) return forward(text);
            if (auto s = write_out(*text); !s) return forward(s);
            return kSuccess;
        }
        auto tests = plan();
        if (!tests) return forward(tests);
        for (const Test& test : *tests) {
            if (app->count("--ctx") > 0 && test.depth + test.tokens > engine_.context)
                return fail(ErrorCode::invalid_argument, "--ctx {}: a test takes {} tokens",
                            engine_.context, test.depth + test.tokens);
            engine_.context = std::max(engine_.context, test.depth + test.tokens);
            engine_.max_sequences = std::max(engine_.max_sequences, test.sequences);
        }
        // Under a memory limit there is no room for what plain reads need beside the model: they
        // are measured before, and less of them.
        double read_before_gb_s = 0;
        if (engine_.memory_limit_bytes > 0 && !engine::is_gpu(engine_.device)) {
            ThreadPool pool(engine_.threads == 0 ? available_cpus() : engine_.threads);
            constexpr std::size_t kMost = std::size_t{256} << 20;
            memory::ReadBandwidth bandwidth(pool, std::min(kMost, engine_.memory_limit_bytes / 2));
            read_before_gb_s = bandwidth.measure_gb_per_s();
        }
        engine_.time_steps = breakdown_;
        auto engine = open_engine(model_, engine_);
        if (!engine) return forward(engine);
        note("plan: {}", plan_line((*engine)->plan()));
        std::vector<engine::Sequence> sequences;
        for (std::size_t i = 0; i < engine_.max_sequences; ++i) {
            auto sequence = (*engine)->create_sequence();
            if (!sequence) return forward(sequence);
            sequences.push_back(std::move(*sequence));
        }
        auto isa = kernels::choose_isa();
        if (!isa) return forward(isa);

        BenchReport report;
        report.machine = machine_info();
        report.model = model_info((*engine)->file());
        report.device = (*engine)->device_name();
        report.threads = (*engine)->options().threads;
        report.isa = kernels::name(*isa);
        report.kv_type = tensor::name((*engine)->options().kv_type);

        // The engine's own threads are parked while these read, and the other way round. A GPU
        // reads its own memory.
        const bool on_gpu = engine::is_gpu((*engine)->options().device);
        ThreadPool pool(on_gpu ? 1 : report.threads);
        std::optional<memory::ReadBandwidth> bandwidth;
        std::optional<GpuMemoryProbe> gpu;
        if (on_gpu) {
            auto probe = GpuMemoryProbe::open((*engine)->options().device);
            if (!probe) return forward(probe);
            gpu.emplace(std::move(*probe));
        } else if (read_before_gb_s == 0) {
            bandwidth.emplace(pool);
        }
        const InterruptScope interrupt;
        Progress progress("bench", tests->size() * (repetitions_ + 1), ProgressUnit::items);
        std::size_t done = 0;
        for (const Test& test : *tests) {
            BenchRow row;
            row.test = test.name();
            row.bytes_per_token = bytes_per_token(**engine, test);
            row.tokens = test.tokens * test.sequences;
            for (std::size_t i = 0; i <= repetitions_; ++i) {
                GpuMemorySpeed speed{.read_gb_s = read_before_gb_s};
                if (bandwidth) speed.read_gb_s = bandwidth->measure_gb_per_s();
                if (gpu) {
                    auto measured = gpu->measure();
                    if (!measured) return forward(measured);
                    speed = *measured;
                }
                auto taken = measure(**engine, sequences, test);
                if (!taken && taken.error().code == ErrorCode::cancelled) return kInterrupted;
                if (!taken) return forward(taken);
                progress.update(++done);
                if (i == 0) continue;  // the warm-up
                row.tok_s.push_back(static_cast<double>(row.tokens) / taken->wall_s);
                row.read_gb_s.push_back(speed.read_gb_s);
                if (gpu) row.copy_gb_s.push_back(speed.copy_gb_s);
                row.cpu_s.push_back(taken->cpu_s);
                row.wall_s.push_back(taken->wall_s);
                if (breakdown_) add_steps(row, taken->wall_s);
            }
            report.rows.push_back(std::move(row));
        }
        report.stream = (*engine)->stream_report();
        if (auto s = write_out(format_report(report, json_ ? "json" : format_, colour_wanted(1)));
            !s)
            return forward(s);
        return kSuccess;
    }

private:
    Result<std::vector<Test>> plan() const {
        constexpr std::int64_t kMost = 1 << 20;
        constexpr std::int64_t kMostSequences = 64;
        std::vector<Test> tests;
        std::vector<std::int64_t> lists[4];
        const std::pair<const std::string&, const char*> texts[4] = {{prompts_, "--pp"},
                                                                     {generations_, "--tg"},
                                                                     {depths_, "--depth"},
                                                                     {batches_, "--batch"}};
        for (std::size_t i = 0; i < 4; ++i) {
            auto list = parse_list(texts[i].first, texts[i].second);
            if (!list) return forward(list);
            for (const std::int64_t n : *list)
                if (n < 0 || n > kMost)
                    return fail(ErrorCode::invalid_argument, "{}: {} is not between 0 and {}",
                                texts[i].second, n, kMost);
            if (i == 3 && (std::ranges::min(*list) < 1 || std::ranges::max(*list) > kMostSequences))
                return fail(ErrorCode::invalid_argument, "--batch: expected 1 to {} sequences",
                            kMostSequences);
            lists[i] = std::move(*list);
        }
        const auto add = [&](bool prompt, std::int64_t n, std::int64_t depth, std::int64_t batch) {
            if (n > 0)
                tests.push_back({prompt, static_cast<std::size_t>(n),
                                 static_cast<std::size_t>(depth), static_cast<std::size_t>(batch)});
        };
        for (const std::int64_t depth : lists[2]) {
            for (const std::int64_t n : lists[0]) add(true, n, depth, 1);
            for (const std::int64_t n : lists[1])
                for (const std::int64_t batch : lists[3]) add(false, n, depth, batch);
        }
        if (tests.empty())
            return fail(ErrorCode::invalid_argument, "nothing to measure: -p and -n are both 0");
        return tests;
    }

    // Decoding reads the weights once for the tokens of all sequences and each one's cache; a
    // prompt reads both once for every chunk, but the head only once, for the last token's logits.
    static double bytes_per_token(const engine::Engine& engine, const Test& test) {
        if (!test.prompt) {
            const auto weights = static_cast<double>(engine.read_bytes_per_token(0));
            const auto all =
                static_cast<double>(engine.read_bytes_per_token(test.depth + test.tokens / 2));
            return weights / static_cast<double>(test.sequences) + (all - weights);
        }
        const std::size_t chunk = engine.options().chunk_tokens;
        std::uint64_t bytes = engine.head_bytes();
        for (std::size_t begin = 0; begin < test.tokens; begin += chunk)
            bytes += engine.read_bytes_per_token(test.depth + begin) - engine.head_bytes();
        return static_cast<double>(bytes) / static_cast<double>(test.tokens);
    }

    // One repetition. Tokens are pseudo-random: what they are does not change the work.
    Result<Taken> measure(engine::Engine& engine, std::span<engine::Sequence> sequences,
                          const Test& test) {
        const auto n_vocab = static_cast<std::uint32_t>(engine.n_vocab());
        const auto fill = [&](std::size_t n) {
            tokens_.resize(n);
            for (std::int32_t& id : tokens_) {
                state_ = state_ * 1664525u + 1013904223u;  // Numerical Recipes' generator
                id = static_cast<std::int32_t>((state_ >> 8) % n_vocab);
            }
        };
        const auto evaluate = [&](std::span<const engine::Input> inputs) {
            return engine.evaluate(
                inputs, [](std::size_t, std::size_t, std::span<const float>) {},
                InterruptScope::requested);
        };
        // Up to the depth, untimed. The last token of it is evaluated again for every repetition,
        // because that also brings back what local layers have dropped since.
        inputs_.clear();
        for (engine::Sequence& sequence : sequences) {
            const bool used = inputs_.size() < test.sequences;
            const std::size_t kept =
                used && test.depth > 0 ? std::min(sequence.length(), test.depth - 1) : 0;
            sequence.truncate(kept);
            if (!used) continue;
            if (test.depth > kept) {
                fill(test.depth - kept);
                const engine::Input input{&sequence, tokens_, engine::Logits::none};
                if (auto s = evaluate({&input, 1}); !s) return forward(s);
            }
            inputs_.push_back({&sequence, {}, engine::Logits::last});
        }
        fill(test.tokens);
        const std::size_t together = test.prompt ? test.tokens : 1;
        steps_before_ = engine.step_seconds();
        const double cpu_start = cpu_seconds();
        const auto start = std::chrono::steady_clock::now();
        if (!test.prompt && test.sequences <= engine.max_decoding()) {
            // As a run with temperature 0 decodes.
            engine::SamplerOptions greedy;
            greedy.temperature = 0;
            std::vector<engine::Sampler> samplers;
            std::vector<engine::Decoding> decodings;
            for (std::size_t i = 0; i < inputs_.size(); ++i) {
                auto sampler = engine::Sampler::create(greedy, engine.n_vocab());
                if (!sampler) return forward(sampler);
                samplers.push_back(std::move(*sampler));
            }
            for (std::size_t i = 0; i < inputs_.size(); ++i)
                decodings.push_back({inputs_[i].sequence, &samplers[i], tokens_[0], test.tokens});
            auto s = engine.decode(
                decodings, [](std::size_t, std::int32_t) { return true; },
                InterruptScope::requested);
            if (!s) return forward(s);
            const Taken taken{seconds_since(start), cpu_seconds() - cpu_start};
            steps_after_ = engine.step_seconds();
            return taken;
        }
        for (std::size_t at = 0; at < test.tokens; at += together) {
            for (engine::Input& input : inputs_)
                input.tokens = std::span(tokens_).subspan(at, together);
            if (auto s = evaluate(inputs_); !s) return forward(s);
        }
        const Taken taken{seconds_since(start), cpu_seconds() - cpu_start};
        steps_after_ = engine.step_seconds();
        return taken;
    }

    // Adds the last repetition's steps to the row.
    void add_steps(BenchRow& row, double seconds) const {
        if (row.step_seconds.empty())
            for (const auto& [step, unused] : steps_after_)
                row.step_seconds.emplace_back(step, 0.0);
        for (std::size_t i = 0; i < steps_after_.size(); ++i)
            row.step_seconds[i].second += steps_after_[i].second - steps_before_[i].second;
        row.seconds += seconds;
    }

    std::string prompts_ = "512", generations_ = "128", depths_ = "0", batches_ = "1", model_,
                format_ = "table";
    std::size_t repetitions_ = 5;
    bool json_ = false, breakdown_ = false, load_ = false;
    std::vector<std::pair<std::string_view, double>> steps_before_, steps_after_;
    engine::EngineOptions engine_;
    std::vector<engine::Input> inputs_;  // of the sequences in use
    std::vector<std::int32_t> tokens_;
    std::uint32_t state_ = 1;
};

}  // namespace

std::unique_ptr<Command> add_bench(CLI::App& parent) {
    return std::make_unique<BenchCommand>(parent);
}

}  // namespace unicorn::cli
