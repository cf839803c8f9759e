"""The back end for torch, under torchrun with 2 and 4 processes."""

import re
import sys
import unittest

from launch import HERE, expect_success, ranks, run, torchrun

EXAMPLES = HERE.parent / "examples"


class Torch(unittest.TestCase):
    def run_ranks(self, module: str) -> None:
        """Runs a module's tests on 2 and on 4 ranks."""
        for size in (2, 4):
            with self.subTest(ranks=size):
                expect_success(torchrun(size, "-m", "unittest", "--failfast", module))

    def test_calls(self) -> None:
        self.run_ranks("ranks_torch")

    def test_training_as_with_gloo(self) -> None:
        self.run_ranks("ranks_training")

    def test_the_package_takes_tensors_and_arrays(self) -> None:
        for size in (1, 2):
            with self.subTest(ranks=size):
                expect_success(*ranks(size, "-m", "unittest", "--failfast", "ranks_dlpack"))

    def test_the_example_learns(self) -> None:
        example = torchrun(2, str(EXAMPLES / "train.py"))
        expect_success(example)
        first, last = (float(loss) for loss in re.findall(r"loss ([0-9.]+)", example.stdout))
        self.assertLess(last, 0.1 * first)

    def test_ranks_need_not_destroy_their_group(self) -> None:
        expect_success(torchrun(2, str(HERE / "leaving_ranks.py")))

    def test_cases_of_torch(self) -> None:
        for name, size, least, *only in (("dure", 2, 60), ("gloo", 4, 80), ("mpi", 4, 8, "-k", "all_to_all")):
            with self.subTest(name=name, ranks=size):
                command = [sys.executable, "-W", "ignore", "cases_of_torch.py", *only]
                cases = run(command, {"BACKEND": name, "WORLD_SIZE": str(size), "CUDA_VISIBLE_DEVICES": ""})
                expect_success(cases)
                count = int(re.findall(r"^Ran (\d+) tests", cases.stdout, re.MULTILINE)[-1])
                skipped = int(re.findall(r"^OK \(skipped=(\d+)\)", cases.stdout, re.MULTILINE)[-1])
                print(f"torch's cases for {name}, {size} ranks: {count - skipped} passed, {skipped} skipped")
                self.assertGreaterEqual(count - skipped, least)

    def test_a_rank_that_is_gone_is_named(self) -> None:
        for how in ("dies", "ends"):
            with self.subTest(how=how):
                ended = torchrun(2, str(HERE / "dying_rank.py"), how)
                self.assertRegex(ended.stdout, "DistBackendError: all_reduce: .*rank 1")
