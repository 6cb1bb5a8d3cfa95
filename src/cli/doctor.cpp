// unicorn doctor: whether this machine can be used whole, and what to run where it cannot.

#include "machine/doctor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/cache_folder.h"
#include "cli/command.h"
#include "cli/measure_gpu.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "formats/gguf.h"
#include "machine/json.h"
#include "machine/measure.h"
#include "machine/profile.h"

namespace unicorn::cli {
namespace {

using machine::Check;
using machine::Verdict;

// Not those of other commands: the verdict is the answer.
int exit_code(Verdict verdict) { return static_cast<int>(verdict); }
static_assert(static_cast<int>(Verdict::pass) == 0 && static_cast<int>(Verdict::fail) == 2);

class DoctorCommand : public Command {
public:
    explicit DoctorCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "doctor",
            "Check what this machine has, and say what is in the way\n\n"
            "One line for each check: pass, warn (works, but slower or smaller than it could) or "
            "fail\n"
            "(something that is there cannot be used). Below it, after $, a command that helps. "
            "Exits\n"
            "with 0 when all pass, 1 after warnings, 2 after failures or when the machine cannot "
            "be\n"
            "examined. The speed of memory and disk is measured the first time and kept in\n"
            "$XDG_CACHE_HOME/unicorn. Nothing on the machine is changed; that is what tune is "
            "for.");
        app->add_flag("--json", json_,
                      "Print one JSON object: verdict, checks, machine and profile");
        app->add_option("-m,--model", model_,
                        "A GGUF model that is to run: whether it fits, and its disk's speed")
            ->type_name("FILE");
        add_byte_size(
            *app, "--gtt", [this](std::uint64_t bytes) { options_.wanted_gtt_bytes = bytes; },
            "How much memory the GPU should be able to map (40GiB)");
        app->add_flag("--measure", measure_, "Measure memory and disk again");
        app->add_flag("--no-measure", no_measure_, "Measure nothing, show what is known");
        app->add_option("--sysfs-root", detect_.sysfs_root,
                        "Look at the machine whose /proc, /sys, /dev, ... lie in this folder")
            ->type_name("DIR");
        app->footer(
            "Examples:\n"
            "  unicorn doctor\n"
            "  unicorn doctor --gtt 48GiB\n"
            "  unicorn doctor -m gemma-3-27b-it-q4_0.gguf\n"
            "  unicorn doctor --json | jq -r '.checks[] | select(.status == \"fail\") | "
            ".command'");
    }

    Result<int> run() override {
        if (auto status = at_most_one({{measure_, "--measure"}, {no_measure_, "--no-measure"}});
            !status)
            return forward(status);
        auto report = examine();
        if (!report) {
            print_error(report.error().message);
            return kUsage;  // 1 would say "with warnings"
        }
        if (auto status = write_out(*report); !status) return forward(status);
        return exit_code(machine::verdict(checks_));
    }

private:
    Result<std::string> examine() {
        if (!model_.empty()) {
            auto file = formats::Gguf::open(model_);
            if (!file) return forward(file);
            std::uint64_t bytes = 0;
            for (const MappedFile& part : file->files()) bytes += part.bytes().size();
            options_.model_bytes = bytes;
            detect_.path = model_;
        }
        auto found = machine::detect(detect_);
        if (!found) return forward(found);
        if (found->is_this_machine) take_measurements(*found);
        checks_ = machine::examine(*found, options_);
        return json_ ? as_json(*found) : as_text();
    }

    /// What is known of this machine's speed, and what is not yet, measured. What cannot be
    /// measured or kept is a remark, never an error.
    void take_measurements(machine::Machine& machine) const {
        const std::string folder = cache_folder();
        if (auto known = machine::load_measured(folder, machine); known && !measure_)
            machine.measured = *known;
        machine.measured.disk_device = machine.disk.device;
        if (no_measure_) return;
        bool news = false;
        const auto fill = [&](std::optional<double>& place, Result<double> gb_s) {
            if (gb_s)
                place = *gb_s;
            else
                note("not measured: {}", gb_s.error().message);
            news = news || gb_s.has_value();
        };
        if (!machine.measured.host_gb_s) {
            note("measuring how fast memory is read");
            fill(machine.measured.host_gb_s,
                 machine::measure_host_gb_s(machine.memory.usable_bytes()));
        }
        if (!machine.measured.disk_gb_s) {
            note("measuring how fast {} is read", machine.disk.path);
            fill(machine.measured.disk_gb_s, machine::measure_disk_gb_s(machine.disk.path));
        }
        const machine::Gpu* const gpu = machine.primary_gpu();
        if (gpu != nullptr && gpu->accessible && !machine.measured.vram_gb_s) {
            note("measuring how fast {} reads its memory", gpu->name);
            if (auto status = measure_gpu(machine))
                news = true;
            else
                note("not measured: {}", status.error().message);
        }
        if (!news || folder.empty()) return;
        if (auto status = machine::store_measured(folder, machine); !status)
            note("not kept: {}", status.error().message);
    }

    std::string as_text() const {
        const bool colour = colour_wanted(1);
        std::string text;
        for (const Check& check : checks_) {
            const char* escape = check.verdict == Verdict::pass   ? "\033[32m"
                                 : check.verdict == Verdict::warn ? "\033[33m"
                                                                  : "\033[31m";
            text += fmt::format("{}{}{}  {:<9}  {}\n", colour ? escape : "",
                                machine::name(check.verdict), colour ? "\033[0m" : "", check.name,
                                check.detail);
            if (check.verdict != Verdict::pass && !check.command.empty())
                text += fmt::format("        $ {}\n", check.command);
        }
        return text;
    }

    std::string as_json(const machine::Machine& machine) const {
        const Verdict worst = machine::verdict(checks_);
        nlohmann::ordered_json out;
        out["verdict"] = std::string(machine::name(worst));
        out["exit_code"] = exit_code(worst);
        out["checks"] = machine::to_json(checks_);
        out["machine"] = machine::to_json(machine);
        out["profile"] = machine::to_json(machine::to_profile(machine));
        return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    }

    machine::DetectOptions detect_;
    machine::DoctorOptions options_;
    std::string model_;
    bool json_ = false, measure_ = false, no_measure_ = false;
    std::vector<Check> checks_;
};

}  // namespace

std::unique_ptr<Command> add_doctor(CLI::App& parent) {
    return std::make_unique<DoctorCommand>(parent);
}

}  // namespace unicorn::cli
