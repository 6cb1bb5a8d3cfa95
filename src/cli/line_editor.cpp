#include "cli/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <filesystem>
#include <string_view>

#include "cli/terminal.h"

namespace unicorn::cli {
namespace {

constexpr int kHistoryLines = 1000;

// libedit retries a read that Ctrl-C has interrupted; ours ends it, so that the prompt returns.
int read_character(EditLine*, wchar_t* character) {
    std::mbstate_t state{};
    for (;;) {
        char byte = 0;
        const ssize_t n = read_or_interrupt(&byte, 1);
        if (n == 0) return 0;
        if (n < 0) {
            if (errno == EINTR && !InterruptScope::requested()) continue;
            return n < 0 && errno == EINTR ? 0 : -1;
        }
        const std::size_t used = std::mbrtowc(character, &byte, 1, &state);
        if (used == static_cast<std::size_t>(-2)) continue;  // more bytes to come
        if (used == static_cast<std::size_t>(-1)) {
            state = {};
            continue;  // not a character: dropped
        }
        if (used == 0) *character = L'\0';
        return 1;
    }
}

void use_utf8_locale() {
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::State {
    std::string history_path;
    std::string prompt;
    EditLine* edit = nullptr;
    History* history = nullptr;
    std::string buffer;  // without libedit: bytes read past the last line
    bool at_end = false;

    Event read_plain(std::string& line);
    Event read_edited(std::string& line);
    void remember(const char* line);
};

LineEditor::LineEditor(std::string history_path) : state_(std::make_unique<State>()) {
    if (!is_terminal(STDIN_FILENO) || !is_terminal(STDERR_FILENO)) return;
    use_utf8_locale();
    state_->history_path = std::move(history_path);
    state_->edit = ::el_init("unicorn", stdin, stderr, stderr);
    if (state_->edit == nullptr) return;
    EditLine* edit = state_->edit;
    ::el_set(edit, EL_CLIENTDATA, state_.get());
    ::el_set(
        edit, EL_PROMPT, +[](EditLine* e) -> char* {
            State* state = nullptr;
            ::el_get(e, EL_CLIENTDATA, &state);
            return state->prompt.data();
        });
    ::el_set(edit, EL_EDITOR, "emacs");
    ::el_set(edit, EL_GETCFN, read_character);
    HistEvent event;
    state_->history = ::history_init();
    ::history(state_->history, &event, H_SETSIZE, kHistoryLines);
    ::history(state_->history, &event, H_SETUNIQUE, 1);
    if (!state_->history_path.empty())
        ::history(state_->history, &event, H_LOAD, state_->history_path.c_str());
    ::el_set(edit, EL_HIST, ::history, state_->history);
    ::el_source(edit, nullptr);
}

LineEditor::~LineEditor() {
    if (state_->history != nullptr) ::history_end(state_->history);
    if (state_->edit != nullptr) ::el_end(state_->edit);
}

bool LineEditor::interactive() const { return state_->edit != nullptr; }

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& line) {
    line.clear();
    state_->prompt = prompt;
    return interactive() ? state_->read_edited(line) : state_->read_plain(line);
}

LineEditor::Event LineEditor::State::read_edited(std::string& line) {
    int count = 0;
    const char* text = ::el_gets(edit, &count);
    if (InterruptScope::requested()) {
        InterruptScope::reset();
        ::el_reset(edit);
        return Event::interrupted;
    }
    if (text == nullptr || count <= 0) return Event::end;
    remember(text);
    line.assign(text, static_cast<std::size_t>(count));
    if (line.ends_with('\n')) line.pop_back();
    return Event::line;
}

// Kept after every line, so that nothing is lost when the program is killed.
void LineEditor::State::remember(const char* line) {
    if (std::string_view(line).find_first_not_of(" \t\n") == std::string_view::npos) return;
    HistEvent event;
    ::history(history, &event, H_ENTER, line);
    if (history_path.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(history_path).parent_path(), error);
    const mode_t before = ::umask(077);
    ::history(history, &event, H_SAVE, history_path.c_str());
    ::umask(before);
}

LineEditor::Event LineEditor::State::read_plain(std::string& line) {
    for (;;) {
        if (const std::size_t end = buffer.find('\n'); end != std::string::npos) {
            line = buffer.substr(0, end);
            buffer.erase(0, end + 1);
            if (line.ends_with('\r')) line.pop_back();
            return Event::line;
        }
        if (at_end) {
            line = std::exchange(buffer, {});
            return line.empty() ? Event::end : Event::line;
        }
        char bytes[4096];
        const ssize_t n = read_or_interrupt(bytes, sizeof bytes);
        if (n > 0) {
            buffer.append(bytes, static_cast<std::size_t>(n));
        } else if (n < 0 && errno == EINTR) {
            if (!InterruptScope::requested()) continue;
            InterruptScope::reset();
            return Event::interrupted;
        } else {
            at_end = true;  // a read error ends the input, too
        }
    }
}

std::string default_history_path() {
    if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
        return std::string(state) + "/unicorn/history";
    if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
        return std::string(home) + "/.local/state/unicorn/history";
    return {};
}

}  // namespace unicorn::cli
