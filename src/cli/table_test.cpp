#include "cli/table.h"

#include <gtest/gtest.h>

namespace unicorn::cli {
namespace {

TEST(AlignedTable, PadsEveryColumnButTheEndOfALine) {
    const std::vector<std::vector<std::string>> rows{{"name", "n"}, {"a", "1234"}, {"longer", "5"}};
    EXPECT_EQ(aligned_table(rows, {Align::left, Align::right}, false),
              "name       n\n"
              "a       1234\n"
              "longer     5\n");
    EXPECT_EQ(aligned_table(rows, {Align::right, Align::left}, false),
              "  name  n\n"
              "     a  1234\n"
              "longer  5\n");
}

TEST(AlignedTable, CountsCharactersAndColoursTheHeadingOnly) {
    const std::vector<std::vector<std::string>> rows{{"p", "x"}, {"\u2581the", "1"}};
    EXPECT_EQ(aligned_table(rows, {Align::left, Align::left}, true),
              "\033[1mp     x\033[0m\n"
              "\u2581the  1\n");
}

}  // namespace
}  // namespace unicorn::cli
