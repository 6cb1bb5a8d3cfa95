#pragma once
// Where this program lies, and what was installed with it.

#include <filesystem>

namespace unicorn {

/// The running program's file; "" where the system does not tell.
std::filesystem::path program_file();

/// share/unicorn beside the folder that the program is in: models, profiles. Need not exist.
std::filesystem::path shared_folder();

}  // namespace unicorn
