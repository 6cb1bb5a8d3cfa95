#!/usr/bin/env python3
"""bench/vulkan_tables --quick with a built binary: the rows are there, and their numbers are numbers.

    bench/vulkan_tables_test.py UNICORN DEVICE
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent / "vulkan_tables"
ROWS = [("tiny Q4_0", test) for test in ("pp16", "tg4", "pp16@d32", "tg4@d32", "tg4x2@d8")]
ROWS.append(("tiny mixed", "tg4"))


class VulkanTables(unittest.TestCase):
    unicorn, device = "", ""

    def run_script(self, folder, *options):
        return subprocess.run([sys.executable, SCRIPT, self.unicorn, "--device", self.device, "--quick",
                               "--folder", folder, *options],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)

    def test_prints_every_row(self):
        with tempfile.TemporaryDirectory() as parent:
            folder, written = pathlib.Path(parent) / "models", pathlib.Path(parent) / "out.json"
            result = self.run_script(folder, "--json", written)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertFalse(folder.exists(), "models are deleted")
            lines = result.stdout.splitlines()
            self.assertIn("Plain reads ", lines[1])
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| tiny")]
            self.assertEqual([(row[0], row[2]) for row in cells], ROWS)
            for row in cells:
                for cell in [row[1], *row[3:]]:
                    if cell != "-":
                        self.assertGreaterEqual(float(cell.removesuffix(" %").replace(",", "")), 0)
                self.assertGreater(float(row[3].replace(",", "")), 0)
            reports = json.loads(written.read_text(encoding="utf-8"))
            self.assertEqual([entry["name"] for entry in reports], ["tiny Q4_0", "tiny mixed"])

    def test_keeps_models_when_told_to(self):
        with tempfile.TemporaryDirectory() as folder:
            result = self.run_script(folder, "--keep", "--only", "tiny-mixed")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual([path.name for path in pathlib.Path(folder).iterdir()], ["tiny-mixed.gguf"])

    def test_says_what_failed(self):
        with tempfile.TemporaryDirectory() as folder:
            self.device = "nonsense"
            result = self.run_script(folder)
            self.assertEqual(result.returncode, 1)
            self.assertIn("'nonsense' is none of", result.stderr)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])


if __name__ == "__main__":
    VulkanTables.unicorn, VulkanTables.device = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
