#include "base/program_files.h"

#include <system_error>

namespace unicorn {

std::filesystem::path program_file() {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/self/exe", error);
}

std::filesystem::path shared_folder() {
    return program_file().parent_path().parent_path() / "share/unicorn";
}

}  // namespace unicorn
