// unicorn tune: the system's settings that cost speed, shown, changed and brought back.

#include "machine/tune.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/tune_gpu.h"
#include "engine/open_devices.h"

namespace unicorn::cli {
namespace {

using machine::Change;
using machine::Setting;

class TuneCommand : public Command {
public:
    explicit TuneCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "tune",
            "Set the system for speed, and back\n\n"
            "Shows what it would set: the CPU's governor and energy preference, amdgpu's "
            "performance\n"
            "level, the NPU's power mode, vm.swappiness, vm.vfs_cache_pressure and transparent "
            "huge\n"
            "pages. --apply sets them and reads each back; what they were is kept in\n"
            "/var/lib/unicorn/tune.json for --restore. Both need root. A restart of the machine "
            "brings\n"
            "the old settings back too. The NPU's mode is set by its driver's own call, which has "
            "not\n"
            "yet been tried on a real NPU.\n"
            "\n"
            "--gpu is about the GPU's matrix shaders instead: it times how they can cut the work "
            "of "
            "a\n"
            "model's matrices, for about 10 seconds, and shows what is faster. --apply keeps that "
            "for\n"
            "this GPU and driver in ~/.cache/unicorn, where every command finds it; --restore "
            "removes\n"
            "it. That needs no rights.");
        app->add_flag("--apply", apply_, "Set what is not as it should be");
        app->add_flag("--restore", restore_, "Bring back what --apply changed");
        app->add_option("--sysfs-root", options_.sysfs_root,
                        "Work on the machine whose /proc, /sys, ... lie in this folder")
            ->type_name("DIR");
        CLI::Option* const gpu =
            app->add_flag("--gpu", gpu_, "The shapes of the GPU's matrix shaders")
                ->excludes("--sysfs-root");
        if (const std::string device = default_device(); engine::is_gpu(device))
            tune_gpu_.device = device;
        app->add_option("--device", tune_gpu_.device,
                        "The GPU: vulkan, vulkan:N, vulkan:NAME (default vulkan)")
            ->type_name("NAME")
            ->needs(gpu);
        add_model_option(*app, tune_gpu_.model);
        app->get_option("--model")->needs(gpu);
        app->footer(
            "Examples:\n"
            "  unicorn tune\n"
            "  sudo unicorn tune --apply\n"
            "  sudo unicorn tune --restore\n"
            "  unicorn tune --gpu -m model.gguf --apply");
    }

    Result<int> run() override {
        if (auto status = at_most_one({{apply_, "--apply"}, {restore_, "--restore"}}); !status)
            return forward(status);
        if (gpu_) {
            tune_gpu_.apply = apply_;
            tune_gpu_.restore = restore_;
            return tune_gpu(tune_gpu_);
        }
        if (!apply_ && !restore_) return show();
        const char* flag = apply_ ? "--apply" : "--restore";
        if (options_.sysfs_root.empty() && ::geteuid() != 0)
            return fail(ErrorCode::io, "tune {} needs root's rights: {}", flag,
                        machine::tune_command(flag));
        auto changes =
            apply_ ? machine::apply_settings(options_) : machine::restore_settings(options_);
        if (!changes) return forward(changes);
        return report(*changes);
    }

private:
    Result<int> show() {
        auto settings = machine::tunable_settings(options_);
        if (!settings) return forward(settings);
        std::vector<std::vector<std::string>> rows{{"setting", "now", "would be"}};
        bool any = false;
        for (const Setting& setting : *settings) {
            const bool change = setting.problem.empty() && !setting.is_as_wanted();
            any = any || change;
            rows.push_back({setting.name, setting.current.empty() ? "-" : setting.current,
                            !setting.problem.empty() ? setting.problem
                            : change                 ? setting.wanted
                                                     : "as it is"});
        }
        std::string text = settings->empty() ? "nothing here that could be set\n"
                                             : aligned_table(rows, kColumns, colour_wanted(1));
        if (any) {
            const std::string root = options_.sysfs_root.empty()
                                         ? ""
                                         : fmt::format("--sysfs-root '{}' ", options_.sysfs_root);
            text += fmt::format("\nTo set them: {}\n", machine::tune_command(root + "--apply"));
        }
        return print(text, kSuccess);
    }

    Result<int> report(const std::vector<Change>& changes) {
        if (changes.empty()) return print("everything is as it should be\n", kSuccess);
        std::vector<std::vector<std::string>> rows{{"setting", "was", "is", "problem"}};
        bool failed = false;
        for (const Change& change : changes) {
            failed = failed || !change.problem.empty();
            rows.push_back({change.name, change.before.empty() ? "-" : change.before,
                            change.after.empty() ? "-" : change.after, change.problem});
        }
        return print(aligned_table(rows, kColumns, colour_wanted(1)), failed ? kFailure : kSuccess);
    }

    static Result<int> print(const std::string& text, int exit_code) {
        if (auto status = write_out(text); !status) return forward(status);
        return exit_code;
    }

    static inline const std::vector<Align> kColumns{Align::left, Align::left, Align::left,
                                                    Align::left};
    machine::TuneOptions options_;
    TuneGpuOptions tune_gpu_;
    bool apply_ = false, restore_ = false, gpu_ = false;
};

}  // namespace

std::unique_ptr<Command> add_tune(CLI::App& parent) {
    return std::make_unique<TuneCommand>(parent);
}

}  // namespace unicorn::cli
