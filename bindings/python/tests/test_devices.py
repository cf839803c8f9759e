"""The back end for torch with tensors on devices in software, under torchrun with 2 and 4 processes."""

import tempfile
import unittest
from pathlib import Path

import npu
from launch import expect_success, torchrun


class Devices(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.environment = npu.build(Path(folder.name))

    def run_ranks(self, size: int, makers: str) -> None:
        """Runs the tests of each rank, whose devices are of these makers in turn."""
        environment = self.environment | {"TEST_MAKERS": makers}
        expect_success(torchrun(size, "-m", "unittest", "--failfast", "ranks_npu", **environment))

    def test_memory_in_another_process(self) -> None:
        self.run_ranks(2, "npu-a")

    def test_memory_of_another_layout_without_reductions(self) -> None:
        self.run_ranks(2, "npu-b")

    def test_two_makers_in_one_group(self) -> None:
        self.run_ranks(4, "npu-a,npu-b")
