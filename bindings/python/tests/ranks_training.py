"""Training by dure and by gloo, as each rank does it: torchrun ... -m unittest ranks_training."""

import unittest

import dure.torch  # noqa: F401, registers the back end
import torch
import torch.distributed as dist
import transformer

STEPS = 12
# The two add up in different orders, and training widens the difference.
TOLERANCE = 1e-4


def setUpModule() -> None:
    dist.init_process_group("dure")


def tearDownModule() -> None:
    dist.destroy_process_group()


class Training(unittest.TestCase):
    def compare(self, way: str) -> None:
        """Fails unless both learn, and in the same way."""
        ours = torch.tensor(transformer.train(way, dist.new_group(backend="dure"), STEPS))
        theirs = torch.tensor(transformer.train(way, dist.new_group(backend="gloo"), STEPS))
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)
        self.assertLess(ours[-1].item(), 0.9 * ours[0].item())

    def test_distributed_data_parallel(self) -> None:
        self.compare("ddp")

    def test_fully_sharded_data_parallel(self) -> None:
        self.compare("fsdp")
