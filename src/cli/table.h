#pragma once
// Rows of text as an aligned table.

#include <string>
#include <vector>

namespace unicorn::cli {

enum class Align { left, right };

/// Columns are as wide as their widest cell; the first row is the heading, in bold where `colour`.
/// Widths count bytes, but for UTF-8's continuation bytes.
std::string aligned_table(const std::vector<std::vector<std::string>>& rows,
                          const std::vector<Align>& columns, bool colour);

}  // namespace unicorn::cli
