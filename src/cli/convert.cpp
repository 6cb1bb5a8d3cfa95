// unicorn convert: a Hugging Face folder as one GGUF.

#include <fmt/format.h>

#include <optional>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/stop_signals.h"
#include "cli/terminal.h"
#include "quant/convert.h"

namespace unicorn::cli {
namespace {

class ConvertCommand : public Command {
public:
    explicit ConvertCommand(CLI::App& parent) {
        app = parent.add_subcommand("convert",
                                    "Make a GGUF from a Hugging Face folder\n\n"
                                    "DIR holds config.json, tokenizer.model or tokenizer.json, and "
                                    "the weights as safetensors,\n"
                                    "in one file or many. Other GGUF tools open the result. "
                                    "Tensors of a vision tower are left\n"
                                    "out. Memory stays small for a model of any size, and OUT "
                                    "appears complete or not at all.");
        app->add_option("DIR", folder_, "The folder with config.json")->required();
        app->add_option("OUT", out_, "The GGUF file to write")->required();
        add_choice(*app, "--type", type_, "f32|f16|bf16|q8_0|q4_0",
                   "Type of the matrices (default q8_0)");
        app->add_option("--name", options_.name,
                        "Name of the model in the file; default: that of the folder")
            ->type_name("TEXT");
        add_count(*app, "-t,--threads", options_.n_threads, 0, kMaxThreads,
                  "Threads; default or 0: one for each CPU allowed");
        app->footer(
            "Examples:\n"
            "  unicorn convert ./gemma-3-1b-it gemma-3-1b-it-q8_0.gguf\n"
            "  unicorn convert ./gemma-3-4b-it gemma-3-4b-it-q4_0.gguf --type q4_0");
    }

    Result<int> run() override {
        options_.type = tensor::dtype_from_name(type_).value();
        const StopSignals stop;  // an end of the program would leave the unfinished file
        std::optional<Progress> progress;
        auto report = quant::convert_hf(
            folder_, out_, options_, [&](std::uint64_t done, std::uint64_t total) {
                if (!progress) progress.emplace("convert", total, ProgressUnit::bytes);
                progress->update(done);
                return !StopSignals::requested();
            });
        progress.reset();
        if (!report && report.error().code == ErrorCode::cancelled) return StopSignals::exit_code();
        if (!report) return forward(report);
        if (report->n_vision_skipped > 0)
            note("{} tensors of the vision tower are left out", report->n_vision_skipped);
        for (const auto& name : report->other_skipped) note("{} is left out", name);
        for (const auto& name : report->stored_as_f16)
            note("{} is f16: its rows are no whole number of {} blocks", name, type_);
        if (report->embedding_rows_dropped > 0)
            note("{} untrained rows of the embedding are left out", report->embedding_rows_dropped);
        if (report->pieces_dropped > 0)
            note("{} pieces past the last row of the embedding are left out",
                 report->pieces_dropped);
        note("{}: {} tensors, {}", out_, report->n_tensors,
             human_bytes(static_cast<double>(report->tensor_bytes)));
        return kSuccess;
    }

private:
    std::string folder_, out_, type_ = "q8_0";
    quant::ConvertOptions options_;
};

}  // namespace

std::unique_ptr<Command> add_convert(CLI::App& parent) {
    return std::make_unique<ConvertCommand>(parent);
}

}  // namespace unicorn::cli
