// unicorn completions, and the hidden unicorn man-pages that the build installs from.

#include <filesystem>

#include "base/file.h"
#include "cli/app_tree.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/terminal.h"

namespace unicorn::cli {
namespace {

class CompletionsCommand : public Command {
public:
    explicit CompletionsCommand(CLI::App& parent) {
        app = parent.add_subcommand("completions",
                                    "Print a completion script for a shell\n\n"
                                    "The script completes commands, options, their choices and "
                                    "file names. It is made from\n"
                                    "the program's own table of options.");
        add_choice(*app, "SHELL", shell_, "bash|zsh|fish", "bash, zsh or fish")->required();
        app->footer(
            "Examples:\n"
            "  unicorn completions bash > ~/.local/share/bash-completion/completions/unicorn\n"
            "  unicorn completions zsh > ~/.zfunc/_unicorn        # with ~/.zfunc in fpath\n"
            "  unicorn completions fish > ~/.config/fish/completions/unicorn.fish");
    }

    Result<int> run() override {
        const CommandInfo program = describe(*app->get_parent());
        const std::string script = shell_ == "bash"  ? bash_completion(program)
                                   : shell_ == "zsh" ? zsh_completion(program)
                                                     : fish_completion(program);
        if (auto status = write_out(script); !status) return forward(status);
        return kSuccess;
    }

private:
    std::string shell_;
};

class ManPagesCommand : public Command {
public:
    explicit ManPagesCommand(CLI::App& parent) {
        app = parent.add_subcommand("man-pages",
                                    "Write the man pages into a folder\n\n"
                                    "One page for the program and one for each command, made from "
                                    "the same table as --help.\n"
                                    "For packagers: 'cmake --install' does this by itself.");
        app->group("");  // hidden: for packagers
        app->add_option("DIR", folder_, "The folder; it is made when it is not there")->required();
        app->footer(
            "Examples:\n"
            "  unicorn man-pages ~/.local/share/man/man1");
    }

    Result<int> run() override {
        std::error_code error;
        std::filesystem::create_directories(folder_, error);
        if (error) return fail(ErrorCode::io, "{}: {}", folder_, error.message());
        const CommandInfo program = describe(*app->get_parent());
        if (auto status = write(program, program); !status) return forward(status);
        for (const auto& command : program.commands)
            if (auto status = write(program, command); !status) return forward(status);
        return kSuccess;
    }

private:
    Status write(const CommandInfo& program, const CommandInfo& command) const {
        const std::string title =
            command.name == program.name ? program.name : program.name + "-" + command.name;
        auto file = FileWriter::create((std::filesystem::path(folder_) / (title + ".1")).string());
        if (!file) return forward(file);
        if (auto status = file->write(man_page(program, command, UNICORN_VERSION)); !status)
            return status;
        return file->commit();
    }

    std::string folder_;
};

}  // namespace

std::unique_ptr<Command> add_completions(CLI::App& parent) {
    return std::make_unique<CompletionsCommand>(parent);
}
std::unique_ptr<Command> add_man_pages(CLI::App& parent) {
    return std::make_unique<ManPagesCommand>(parent);
}

}  // namespace unicorn::cli
