"""The back end for torch with tensors on a device, as each rank tests it: torchrun ... -m unittest ranks_npu."""

import datetime
import os
import unittest

import npu

npu.load()

import dure.torch  # noqa: E402, F401, registers the back end
import ranks_torch  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import transformer  # noqa: E402
from ranks_torch import values  # noqa: E402

NPU = torch.device("npu:0")
# Nobody may touch the memory of this one.
UNKNOWN = torch.device("npu:1")
STEPS = 5


def setUpModule() -> None:
    dist.init_process_group("dure", timeout=datetime.timedelta(seconds=60), device_id=NPU)
    torch.set_default_device(NPU)


def tearDownModule() -> None:
    torch.set_default_device(None)
    dist.destroy_process_group()


# Whatever these make is on the device.
class Reductions(ranks_torch.Reductions):
    pass


class Moves(ranks_torch.Moves):
    pass


class Messages(ranks_torch.Messages):
    pass


class Async(ranks_torch.Async):
    pass


class Groups(ranks_torch.Groups):
    pass


class Waiting(ranks_torch.Case):
    """What the device still has to do is done before a call begins."""

    def late(self, rank: int) -> torch.Tensor:
        """What a rank begins with, written by the device when somebody waits for it."""
        source, tensor = values(rank, torch.float).cpu(), torch.zeros(37)
        torch.ops.dure_npu.put_off_copy(tensor, source)
        return tensor

    def test_all_reduce(self) -> None:
        for background in (False, True):
            tensor = self.late(self.rank)
            work = dist.all_reduce(tensor, async_op=background)
            if background:
                work.wait()
            self.equal(tensor, self.fold(dist.ReduceOp.SUM, self.every(torch.float)))

    def test_all_gather(self) -> None:
        outputs = [torch.empty(37) for _ in range(self.size)]
        dist.all_gather(outputs, self.late(self.rank))
        for output, expected in zip(outputs, self.every(torch.float), strict=True):
            self.equal(output, expected)

    def test_nothing_is_written_over_a_result(self) -> None:
        tensor = values(0, torch.float) if self.rank == 0 else self.late(7)
        dist.broadcast(tensor, 0)
        self.equal(tensor, values(0, torch.float))

    def test_messages(self) -> None:
        if self.rank == 0:
            dist.send(self.late(0), 1)
        elif self.rank == 1:
            output = self.late(7)
            dist.recv(output, 0)
            self.equal(output, values(0, torch.float))

    def test_a_device_without_events(self) -> None:
        torch.ops.dure_npu.set_events(False)
        self.addCleanup(torch.ops.dure_npu.set_events, True)
        self.test_all_reduce()
        self.test_all_gather()


class Neighbours(ranks_torch.Case):
    """Some ranks have their tensors on the device, and others in the host's memory."""

    def setUp(self) -> None:
        super().setUp()
        self.device = NPU if self.rank == 0 else torch.device("cpu")

    def test_collectives(self) -> None:
        tensor = values(self.rank, torch.float).to(self.device)
        dist.all_reduce(tensor)
        self.equal(tensor.to(NPU), self.fold(dist.ReduceOp.SUM, self.every(torch.float)))
        outputs = [torch.empty(37, device=self.device) for _ in range(self.size)]
        dist.all_gather(outputs, values(self.rank, torch.float).to(self.device))
        for output, expected in zip(outputs, self.every(torch.float), strict=True):
            self.equal(output.to(NPU), expected)

    def test_messages(self) -> None:
        if self.rank == 0:
            dist.send(values(0, torch.float), 1)
        elif self.rank == 1:
            output = torch.empty(37, device=self.device)
            dist.recv(output, 0)
            self.equal(output.to(NPU), values(0, torch.float))


class Refusals(ranks_torch.Case):
    def test_memory_that_nobody_knows(self) -> None:
        where = f"npu:1 on rank {self.rank} .allowed: cpu, and memory of the devices that DURE_DEVICE names"
        tensor, peer = torch.empty(4, device=UNKNOWN), (self.rank + 1) % self.size
        for name, call in (
            ("all_reduce", lambda: dist.all_reduce(tensor)),
            ("all_reduce", lambda: dist.all_reduce(tensor, async_op=True)),
            ("all_gather", lambda: dist.all_gather([torch.empty(4, device=UNKNOWN) for _ in range(self.size)], tensor)),
            ("send", lambda: dist.send(tensor, peer)),
            ("recv", lambda: dist.recv(tensor, peer)),
        ):
            with self.assertRaisesRegex(ValueError, f"^{name}: a tensor on {where}"):
                call()
        dist.barrier()

    def test_tensors_on_several_devices(self) -> None:
        whole = torch.empty(4 * self.size, device="cpu")
        for name, call in (
            ("all_gather_into_tensor", lambda: dist.all_gather_into_tensor(whole, torch.ones(4))),
            ("reduce_scatter_tensor", lambda: dist.reduce_scatter_tensor(torch.ones(4), whole)),
            ("all_to_all", lambda: dist.all_to_all(list(whole.chunk(self.size)), list(torch.ones(self.size, 4)))),
            ("gather", lambda: dist.gather(torch.ones(4), list(whole.chunk(self.size)), dst=self.rank)),
            ("scatter", lambda: dist.scatter(torch.ones(4), list(whole.chunk(self.size)), src=self.rank)),
        ):
            pattern = f"^{name}: tensors on (cpu and on npu:0|npu:0 and on cpu) on rank {self.rank} .allowed: one device"
            with self.assertRaisesRegex(ValueError, pattern):
                call()
        dist.barrier()


class Training(ranks_torch.Case):
    def test_as_in_the_hosts_memory(self) -> None:
        ours = transformer.train("ddp", dist.group.WORLD, STEPS)
        torch.set_default_device("cpu")
        self.addCleanup(torch.set_default_device, NPU)
        theirs = transformer.train("ddp", dist.group.WORLD, STEPS)
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-4, atol=1e-4)
        self.assertLess(ours[-1], ours[0])
