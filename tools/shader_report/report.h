#pragma once
// The variants as a table, and what is wrong with them.

#include <string>
#include <vector>

#include "variants.h"

namespace unicorn::shader_report {

/// What one run of the compiler found.
struct Report {
    std::string device;  // "Null hardware (RADV PHOENIX)"
    std::string driver;  // "Mesa 25.0.7": the numbers are this driver's
    Variants variants;
};

/// One line for each thing that must not be: spilled registers or scratch memory, a shader without
/// the instructions that it is made for, more VGPRs or fewer subgroups on a SIMD than the shader's
/// kind is allowed, a shader that has no kind yet. Empty: all is well.
std::vector<std::string> find_failures(const Report& report);

/// docs/shader-report.md.
std::string to_markdown(const Report& report);

/// {"device", "driver", "variants": [{"shader", "constants", "subgroup_size", "statistics",
/// "v_wmma", "v_dot4"}], "failures": [...]}; statistics have the driver's names.
std::string to_json(const Report& report);

/// The line of to_markdown() that names the driver; two reports can be compared when it is the
/// same.
std::string driver_line(const Report& report);

}  // namespace unicorn::shader_report
