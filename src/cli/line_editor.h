#pragma once
// Lines of input: edited and remembered on a terminal, plain otherwise.

#include <memory>
#include <optional>
#include <string>

namespace unicorn::cli {

/// Reads lines from standard input. On a terminal with libedit: cursor keys, Emacs or vi bindings
/// from ~/.editrc, and a history kept in `history_path` (made with its folders, readable by its
/// owner alone; nothing is kept when it cannot be written). The prompt goes to stderr.
class LineEditor {
public:
    explicit LineEditor(std::string history_path);
    ~LineEditor();
    LineEditor(const LineEditor&) = delete;
    LineEditor& operator=(const LineEditor&) = delete;

    enum class Event { line, end, interrupted };

    /// The next line without its newline, in `line`. interrupted: Ctrl-C while waiting.
    Event read(const std::string& prompt, std::string& line);
    bool interactive() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// $XDG_STATE_HOME/unicorn/history, else ~/.local/state/unicorn/history; empty without a home.
std::string default_history_path();

}  // namespace unicorn::cli
