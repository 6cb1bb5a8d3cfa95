// unicorn plan: where a model would go, before a byte of it is read.

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/machine.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/terminal.h"
#include "cli/this_machine.h"
#include "engine/open_devices.h"
#include "engine/plan_model.h"
#include "quant/synth.h"

namespace unicorn::cli {
namespace {

plan::ModelSpec describe_shape(const quant::SynthShape& shape,
                               std::vector<quant::SynthTensor> tensors) {
    plan::ModelSpec model;
    model.n_layers = shape.n_layers;
    model.dim = shape.dim;
    model.ffn_dim = shape.ffn_dim;
    model.n_heads = shape.n_heads;
    model.n_kv_heads = shape.n_kv_heads;
    model.head_dim = shape.head_dim;
    model.n_vocab = shape.n_vocab;
    model.max_context = shape.max_context;
    model.window = shape.window;
    model.global_every = shape.global_every;
    for (quant::SynthTensor& t : tensors)
        model.tensors.push_back(plan::describe_tensor(std::move(t.name), t.type, t.rows, t.cols));
    return model;
}

class PlanCommand : public Command {
public:
    explicit PlanCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "plan",
            "Show where a model would go in memory, and how fast it could be\n\n"
            "Only the header of a GGUF file is read; with --shape there need be no file at all, "
            "and with\n"
            "--hardware no such machine. A table by tier of memory, one by part of the model, the "
            "largest\n"
            "context that fits, the bytes that each token reads and the tokens a second that the "
            "memory's\n"
            "bandwidth allows for that. Whether it fits or not, a plan is an answer and the exit "
            "code 0.");
        app->add_option("MODEL", positional_, "GGUF file; default: the bundled model");
        add_model_option(*app, model_);
        app->add_option("--shape", shape_,
                        "Plan for a model of this size: 270m, 1b, 4b, 12b or 27b")
            ->type_name("NAME");
        app->add_option("--recipe", recipe_,
                        "With --shape: weight types by role, mixed, q4_k_m, or any one type\n"
                        "(default q4_0)")
            ->type_name("NAME");
        app->add_option("--hardware", hardware_,
                        "The machine: a profile that ships, such as\n"
                        "ryzen-8945hs-96gb, or a TOML file; default: this one")
            ->type_name("NAME|FILE");
        add_count(*app, "-b,--batch", engine_.max_sequences, 1, 4096,
                  "Sequences that are decoded at once (default 1)");
        app->add_flag("--strict", options_.strict,
                      "Nothing may overflow to memory that only the CPU reads, or be streamed");
        app->add_flag("--json", json_, "Print one JSON object");
        add_engine_options(*app, engine_, false);
        app->footer(
            "Examples:\n"
            "  unicorn plan gemma-3-4b-it-q4_0.gguf\n"
            "  unicorn plan --shape 27b --recipe mixed --hardware ryzen-8945hs-96gb\n"
            "  unicorn plan --shape 27b --hardware cpu-only-16gb --ctx 8192\n"
            "  unicorn plan --shape 12b --memory-limit 6GiB --json | jq .verdict");
    }

    Result<int> run() override {
        if (auto s = at_most_one({{!positional_.empty(), "MODEL"},
                                  {!model_.empty(), "--model"},
                                  {!shape_.empty(), "--shape"}});
            !s)
            return forward(s);
        if (shape_.empty() && !recipe_.empty())
            return fail(ErrorCode::invalid_argument, "--recipe goes with --shape");
        PlanSubject subject;
        auto model = shape_.empty() ? from_file(subject) : from_shape(subject);
        if (!model) return forward(model);
        auto machine =
            hardware_.empty() ? this_machine_measured(path_, false) : plan::load_profile(hardware_);
        if (!machine) return forward(machine);

        options_.policy = engine_.policy;
        options_.memory_limit_bytes = engine_.memory_limit_bytes;
        options_.stream = engine_.stream;
        options_.process_bytes = engine::estimated_process_bytes(model->n_vocab);
        options_.reserve_bytes = engine::reserve_bytes(model->weight_bytes());
        for (const plan::DeviceProfile& device : machine->devices) {
            if (device.kind == plan::DeviceKind::cpu && engine_.threads == 0)
                engine_.threads = device.threads;
        }
        options_.cpu_only = engine_.device == "cpu";
        const bool on_cpu =
            options_.cpu_only ||
            std::ranges::none_of(machine->devices, [](const plan::DeviceProfile& device) {
                return device.kind == plan::DeviceKind::gpu && !device.software;
            });
        if (engine::is_gpu(engine_.device)) {
            if (engine_.device != "vulkan") {
                return fail(ErrorCode::invalid_argument,
                            "--device {}: a plan knows a machine's GPU only as vulkan",
                            engine_.device);
            }
            if (on_cpu) {
                return fail(ErrorCode::not_found, "--device vulkan: {} has no GPU", machine->name);
            }
        }
        if (on_cpu) engine::repack_for_cpu(*model);
        subject.machine = machine->name;
        subject.options = options_;
        subject.model_context = model->max_context;
        subject.workload = engine::describe_workload(*model, engine_, on_cpu);
        auto plan = plan::make_plan(*model, subject.workload, *machine, options_);
        if (!plan) return forward(plan);
        if (hardware_.empty() && !plan->streaming.layers.empty() && plan->bound.tok_s == 0) {
            // Only now does it matter how fast the disk is.
            machine = this_machine_measured(path_, true);
            if (!machine) return forward(machine);
            plan = plan::make_plan(*model, subject.workload, *machine, options_);
            if (!plan) return forward(plan);
        }
        const bool mixes =
            std::ranges::any_of(plan->placements, [](const plan::Placement& placement) {
                return placement.what != plan::What::staging &&
                       placement.tier != memory::Tier::vram && placement.tier != memory::Tier::gtt;
            });
        if (!on_cpu && hardware_.empty() && mixes)
            note(
                "run, chat and bench use a GPU that can hold all, or the CPU alone, which "
                "--device cpu plans");
        const std::string text =
            json_ ? plan_json(subject, *plan) : plan_text(subject, *plan, colour_wanted(1));
        if (auto status = write_out(text); !status) return forward(status);
        return kSuccess;
    }

private:
    Result<plan::ModelSpec> from_file(PlanSubject& subject) {
        auto path = resolve_model(positional_.empty() ? model_ : positional_);
        if (!path) return forward(path);
        auto file = formats::Gguf::open(*path);
        if (!file) return forward(file);
        path_ = *path;
        auto config = model::read_config(*file);
        if (!config) return forward(config);
        const ModelInfo info = model_info(*file);
        subject.model = fmt::format("{}, {}", info.name, info.types);
        return engine::describe_model(*file, *config);
    }

    Result<plan::ModelSpec> from_shape(PlanSubject& subject) const {
        quant::SynthOptions options;
        auto shape = quant::find_shape(shape_);
        if (!shape) return forward(shape);
        auto recipe = quant::find_recipe(recipe_.empty() ? "q4_0" : recipe_);
        if (!recipe) return forward(recipe);
        options.shape = *shape;
        options.recipe = *recipe;
        auto tensors = quant::synthetic_tensors(options);
        if (!tensors) return forward(tensors);
        subject.model = fmt::format("Gemma 3 {}, {}", shape->name, recipe->name);
        return describe_shape(*shape, std::move(*tensors));
    }

    std::string positional_, model_, shape_, recipe_, hardware_;
    std::string path_ = ".";  // whose disk is read
    bool json_ = false;
    engine::EngineOptions engine_;
    plan::PlanOptions options_;
};

}  // namespace

std::unique_ptr<Command> add_plan(CLI::App& parent) {
    return std::make_unique<PlanCommand>(parent);
}

}  // namespace unicorn::cli
