// unicorn: one program, a command for each thing it does.

#include <exception>
#include <new>

#include "cli/program.h"
#include "cli/terminal.h"

int main(int argc, char** argv) {
    unicorn::cli::prepare_standard_streams();
    try {
        return unicorn::cli::Program().run(argc, argv);
    } catch (const std::bad_alloc&) {
        unicorn::cli::print_error("out of memory");
    } catch (const std::exception& error) {
        // Libraries' exceptions are caught where they are called; what gets here is a mistake of
        // ours.
        unicorn::cli::print_error(error.what());
    }
    return unicorn::cli::kFailure;
}
