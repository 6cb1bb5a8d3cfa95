// unicorn synth: models of any Gemma 3 shape with random weights.

#include <fmt/format.h>

#include <optional>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/stop_signals.h"
#include "cli/terminal.h"
#include "quant/synth.h"

namespace unicorn::cli {
namespace {

class SynthCommand : public Command {
public:
    explicit SynthCommand(CLI::App& parent) {
        app = parent.add_subcommand("synth",
                                    "Write a model of a given shape with random weights\n\n"
                                    "For measuring: it has the size, layout and speed of the real "
                                    "model, and talks nonsense.\n"
                                    "SHAPE is one of 270m, 1b, 4b, 12b and 27b; --config takes any "
                                    "other shape from a file with\n"
                                    "the keys of Hugging Face's config.json. The weights are those "
                                    "of --seed, whatever the machine.");
        app->add_option("SHAPE", shape_, "270m, 1b, 4b, 12b or 27b; left out with --config");
        app->add_option("OUT", out_, "The GGUF file to write");
        app->add_option("--type", type_,
                        "Weight type of the matrices, such as q4_0 (the default), q8_0, bf16;\n"
                        "where that has fewer bits than q6_k, the embedding is q6_k (see\n"
                        "--embedding)")
            ->type_name("T");
        app->add_option("--recipe", recipe_, "Weight types by role: mixed, q4_k_m, or any one type")
            ->type_name("NAME");
        app->add_option("--embedding", embedding_,
                        "Weight type of the embedding instead of the recipe's")
            ->type_name("T");
        app->add_option("--config", config_, "Take the shape from this file")->type_name("FILE");
        add_seed(*app, options_.seed, "Seed of the weights (default 1)");
        add_count(*app, "-t,--threads", options_.n_threads, 0, kMaxThreads,
                  "Threads; default or 0: one for each CPU allowed");
        app->footer(
            "Examples:\n"
            "  unicorn synth 1b gemma-1b-shape.gguf --type q4_0\n"
            "  unicorn synth 27b gemma-27b-shape.gguf --recipe mixed\n"
            "  unicorn synth --config tiny.json tiny.gguf --type f32\n"
            "  unicorn bench -m gemma-1b-shape.gguf");
    }

    Result<int> run() override {
        if (auto s = at_most_one({{!type_.empty(), "--type"}, {!recipe_.empty(), "--recipe"}}); !s)
            return forward(s);
        // With --config there is one argument, the output, and CLI11 has taken it for the first.
        if (!config_.empty() && out_.empty()) std::swap(shape_, out_);
        if (!config_.empty() && !shape_.empty())
            return fail(ErrorCode::invalid_argument, "SHAPE and --config exclude each other");
        if (config_.empty() && shape_.empty())
            return fail(ErrorCode::invalid_argument,
                        "no shape given: one of 270m, 1b, 4b, 12b, 27b, or --config FILE");
        if (out_.empty()) return fail(ErrorCode::invalid_argument, "no output file given");

        auto shape = config_.empty() ? quant::find_shape(shape_) : quant::read_shape(config_);
        if (!shape) return forward(shape);
        auto recipe = quant::find_recipe(!recipe_.empty() ? recipe_
                                         : !type_.empty() ? type_
                                                          : "q4_0");
        if (!recipe) return forward(recipe);
        options_.shape = std::move(*shape);
        options_.recipe = *recipe;
        if (!embedding_.empty()) {
            options_.embedding = tensor::dtype_from_name(embedding_);
            if (!options_.embedding)
                return fail(ErrorCode::invalid_argument, "--embedding: '{}' is no weight type",
                            embedding_);
        }
        if (app->count("--threads") == 0 || options_.n_threads == 0)
            options_.n_threads = available_cpus();

        const StopSignals stop;  // an end of the program would leave the unfinished file
        std::optional<Progress> progress;
        auto report = quant::write_synthetic_model(
            options_, out_, [&](std::uint64_t done, std::uint64_t total) {
                if (!progress) progress.emplace("write", total, ProgressUnit::bytes);
                progress->update(done);
                return !StopSignals::requested();
            });
        progress.reset();
        if (!report && report.error().code == ErrorCode::cancelled) return StopSignals::exit_code();
        if (!report) return forward(report);
        for (const auto& fallback : report->fallbacks) {
            note("{} {}: {} columns do not fit {} blocks of {}", subject(fallback),
                 tensor::name(fallback.used), fallback.cols, tensor::name(fallback.wanted),
                 tensor::info(fallback.wanted).block_size);
        }
        std::string shares;
        for (const auto& share : report->shares)
            shares += fmt::format(", {} {}", tensor::name(share.type),
                                  human_bytes(static_cast<double>(share.bytes)));
        note("{}: {} parameters, {}{}", out_, report->n_weights,
             human_bytes(static_cast<double>(report->tensor_bytes)), shares);
        return kSuccess;
    }

private:
    // "the embedding is", "the embedding and 90 matrices are", "1 matrix is"
    std::string subject(const quant::SynthReport::Fallback& fallback) const {
        const tensor::DType embedding = options_.embedding.value_or(quant::wanted_type(
            options_.recipe, quant::Role::embedding, 0, options_.shape.n_layers));
        const bool with_embedding =
            fallback.wanted == embedding && fallback.cols == options_.shape.dim;
        const std::size_t others = fallback.n_matrices - (with_embedding ? 1 : 0);
        std::string text = with_embedding ? "the embedding" : "";
        if (others > 0)
            text += fmt::format("{}{} {}", with_embedding ? " and " : "", others,
                                others == 1 ? "matrix" : "matrices");
        return text + (fallback.n_matrices == 1 ? " is" : " are");
    }

    std::string shape_, out_, type_, recipe_, embedding_, config_;
    quant::SynthOptions options_;
};

}  // namespace

std::unique_ptr<Command> add_synth(CLI::App& parent) {
    return std::make_unique<SynthCommand>(parent);
}

}  // namespace unicorn::cli
