"""The package without torch: with 1, 2 and 4 processes, which find each other by DURE_ROOT."""

import os
import subprocess
import sys
import unittest

from launch import HERE, expect_success, ranks

EXAMPLES = HERE.parent / "examples"


class Package(unittest.TestCase):
    def test_calls(self) -> None:
        for size in (1, 2, 4):
            with self.subTest(ranks=size):
                expect_success(*ranks(size, "-m", "unittest", "--failfast", "ranks_package"))

    def test_the_first_example(self) -> None:
        processes = ranks(2, str(EXAMPLES / "first.py"))
        expect_success(*processes)
        for process in processes:
            self.assertIn("[2.0, 4.0, 6.0]\n", process.stdout)

    def test_the_readme_begins_with_it(self) -> None:
        program = (EXAMPLES / "first.py").read_text()
        self.assertTrue(
            (HERE.parent / "README.md").read_text().startswith(f"# Dure from Python\n\n```python\n{program}```\n")
        )

    def test_a_rank_that_dies_is_a_remote_error(self) -> None:
        code = (
            "import dure, os\n"
            "comm = dure.Communicator()\n"
            "if comm.rank == 1: os._exit(0)\n"
            "try: comm.barrier()\n"
            "except dure.RemoteError as error: print('as expected:', error)\n"
        )
        first, _ = ranks(2, "-c", code)
        self.assertRegex(first.stdout, "as expected: .*rank 0, peer 1")

    def test_a_rank_that_does_not_come_is_named(self) -> None:
        code = (
            "import dure\n"
            "try: dure.Communicator(rank=0, size=2, id=dure.unique_id(), timeout=0.3)\n"
            "except dure.TimeoutError as error: print('as expected:', error)\n"
        )
        (alone,) = ranks(1, "-c", code)
        self.assertRegex(alone.stdout, "as expected: .*rank")

    def test_without_a_launcher_it_says_what_to_set(self) -> None:
        env = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
        code = "import dure; dure.Communicator()"
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        self.assertIn("set DURE_ROOT, DURE_RANK and DURE_SIZE", run.stderr)
