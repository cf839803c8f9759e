"""The back end for torch, under torchrun with 2 and 4 processes."""

import re
import unittest

from launch import HERE, expect_success, ranks, torchrun

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
        run = torchrun(2, str(EXAMPLES / "train.py"))
        expect_success(run)
        first, last = (float(loss) for loss in re.findall(r"loss ([0-9.]+)", run.stdout))
        self.assertLess(last, 0.1 * first)

    def test_ranks_need_not_destroy_their_group(self) -> None:
        expect_success(torchrun(2, str(HERE / "leaving_ranks.py")))

    def test_a_rank_that_is_gone_is_named(self) -> None:
        for how in ("dies", "ends"):
            with self.subTest(how=how):
                run = torchrun(2, str(HERE / "dying_rank.py"), how)
                self.assertRegex(run.stdout, "DistBackendError: all_reduce: .*rank 1")
