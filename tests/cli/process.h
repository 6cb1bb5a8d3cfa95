#pragma once
// Runs the built unicorn as a user would: arguments, standard streams, an exit code.

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace unicorn::cli_tests {

struct Outcome {
    int exit_code = -1;     // 128 + signal, when one ended it
    long peak_rss_kib = 0;  // the most memory that was resident at once
    std::string out;
    std::string err;
};

/// What a program is given besides its arguments.
struct Streams {
    std::string input = {};                               // standard input
    std::map<std::string, std::string> environment = {};  // on top of a small fixed one
    std::string out_path = {};  // standard output goes to this file instead
    bool close_out = false;     // standard output is closed
    bool hang_up = false;       // the reader of standard output leaves at once
    std::optional<std::string> interrupt_after = {};  // SIGINT when standard output holds this text
};

/// Runs unicorn with `arguments` and waits for its end.
Outcome unicorn(const std::vector<std::string>& arguments, const Streams& streams = {});

/// The first of bash, man... on the PATH; empty when it is not installed.
std::string find_program(const std::string& name);

/// Runs any program by its path.
Outcome run_program(const std::string& path, const std::vector<std::string>& arguments,
                    const Streams& streams = {});

/// The number of lines, and whether the text is one line that begins with "unicorn: ".
std::size_t count_lines(const std::string& text);
bool is_one_error_line(const std::string& text);

}  // namespace unicorn::cli_tests
