#!/usr/bin/env python3
"""check_includes on small trees: the arrows it must allow, and planted ones it must refuse."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).with_name("check_includes")
TABLE = """
| folder | owns | may include |
|---|---|---|
| `base/` | things | - |
| `tensor/` | things | base |
| `backends/` | things | base tensor |
| `model/` | things | all above but backends |
| `cli/` | things | any |
| `testing/` | things | any |
"""


def check(files, table=TABLE):
    """(exit status, output) over a tree with this table and {path below src/: content}."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "src")
        for name, content in {"README.md": table, **files}.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        done = subprocess.run(
            [sys.executable, TOOL, folder], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


class CheckIncludes(unittest.TestCase):
    def assert_refused(self, name, include, reason, **kwargs):
        status, output = check({name: f'#include <span>\n#include "{include}"\n'}, **kwargs)
        self.assertEqual(status, 1, output)
        self.assertIn(f"src/{name}:2: ", output)
        self.assertIn(reason, output)

    def test_allows_what_the_table_says(self):
        status, output = check(
            {
                "base/a.h": '#include "base/b.h"\n#include <vector>\n',
                "tensor/a.h": '  #  include "base/a.h"\n',
                "backends/cpu/a.cpp": '#include "backends/cpu/b.h"\n#include "tensor/a.h"\n',
                "model/a.cpp": '#include "tensor/a.h"\n',
                "model/a_test.cpp": '#include "testing/random.h"\n',
                "cli/main.cpp": '#include "backends/cpu/a.h"\n#include "model/a.h"\n',
                "testing/a.h": '#include "model/a.h"\n#include "testing/b.h"\n',
            }
        )
        self.assertEqual(status, 0, output)
        self.assertIn("7 files, 0 not allowed", output)

    def test_refuses_an_arrow_down(self):
        self.assert_refused("base/a.h", "tensor/a.h", "base/ may not include tensor/")

    def test_refuses_what_but_takes_away(self):
        self.assert_refused("model/a.h", "backends/cpu/a.h", "model/ may not include backends/")

    def test_refuses_one_backend_in_another(self):
        self.assert_refused(
            "backends/cpu/a.h", "backends/null/a.h", "backends/cpu/ may not include backends/null/"
        )

    def test_refuses_testing_outside_tests(self):
        self.assert_refused("cli/main.cpp", "testing/random.h", "cli/ may not include testing/")

    def test_refuses_a_path_that_does_not_start_at_src(self):
        self.assert_refused("base/a.cpp", "a.h", "not a path from src/")

    def test_refuses_a_folder_that_the_table_lacks(self):
        status, output = check({"utils/a.h": "", "base/a.h": ""})
        self.assertEqual(status, 1, output)
        self.assertIn("src/utils/a.h:1: its folder is not in the table", output)

    def test_refuses_a_table_it_cannot_read(self):
        for table in ("no table\n", TABLE.replace("| base |", "| bsae |")):
            status, output = check({"base/a.h": ""}, table=table)
            self.assertEqual(status, 1, output)
            self.assertIn("README.md", output)


if __name__ == "__main__":
    unittest.main()
