"""The back end for torch, as each rank tests it: torchrun ... -m unittest ranks_torch."""

import datetime
import itertools
import unittest

import dure.torch  # noqa: F401, registers the back end
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import AllreduceOptions, BarrierOptions, _make_nccl_premul_sum
from torch.distributed import DistBackendError, ReduceOp

INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64]
FLOATS = [torch.half, torch.bfloat16, torch.float, torch.double]
# Types that travel, although nobody combines their elements.
OTHERS = [torch.int16, torch.complex64, torch.float8_e4m3fn]

# Operations on two tensors of numbers, and on two of truth values.
FOLDS = {
    ReduceOp.SUM: (torch.add, torch.logical_or),
    ReduceOp.PRODUCT: (torch.mul, torch.logical_and),
    ReduceOp.MIN: (torch.minimum, torch.logical_and),
    ReduceOp.MAX: (torch.maximum, torch.logical_or),
    ReduceOp.BAND: (torch.bitwise_and, torch.logical_and),
    ReduceOp.BOR: (torch.bitwise_or, torch.logical_or),
    ReduceOp.BXOR: (torch.bitwise_xor, torch.logical_xor),
}
BITWISE = (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR)


def setUpModule() -> None:
    dist.init_process_group("dure", timeout=datetime.timedelta(seconds=60))


def tearDownModule() -> None:
    dist.destroy_process_group()


def values(rank: int, dtype: torch.dtype, count: int = 37) -> torch.Tensor:
    """What a rank begins with: small whole numbers, of which sums and products are exact in every type."""
    return ((torch.arange(count) + rank) % 3).to(dtype)


class Case(unittest.TestCase):
    """Tests know who they are."""

    def setUp(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def equal(self, actual: torch.Tensor, expected: torch.Tensor, text: str = "") -> None:
        """Fails unless two tensors are the same, bit for bit."""
        self.assertEqual(actual.dtype, expected.dtype, text)
        if not torch.equal(actual.view(torch.uint8), expected.contiguous().view(torch.uint8)):
            self.fail(f"rank {self.rank}: {text} {actual} instead of {expected}")

    def every(self, dtype: torch.dtype, count: int = 37) -> list[torch.Tensor]:
        """What all ranks begin with."""
        return [values(rank, dtype, count) for rank in range(self.size)]

    def fold(self, op: ReduceOp, tensors: list[torch.Tensor]) -> torch.Tensor:
        """What a reduction of tensors is."""
        dtype = tensors[0].dtype
        combine = FOLDS[op][dtype == torch.bool]
        folded = tensors[0]
        for tensor in tensors[1:]:
            folded = combine(folded, tensor)
        return folded.to(dtype)


class Reductions(Case):
    def test_all_reduce_of_all_types_and_operations(self) -> None:
        for op, dtype in itertools.product(FOLDS, INTEGERS + FLOATS):
            if op in BITWISE and dtype in FLOATS:
                continue
            tensor = values(self.rank, dtype)
            dist.all_reduce(tensor, op=op)
            self.equal(tensor, self.fold(op, self.every(dtype)), f"{op} of {dtype}")

    def test_average(self) -> None:
        for dtype in FLOATS:
            tensor = torch.full((5,), float(self.rank), dtype=dtype)
            dist.all_reduce(tensor, op=ReduceOp.AVG)
            self.equal(tensor, torch.full((5,), (self.size - 1) / 2, dtype=dtype), str(dtype))

    def test_sum_of_scaled_elements(self) -> None:
        for factor in (0.5, torch.tensor([0.5])):
            for dtype in FLOATS:
                tensor = values(self.rank, dtype)
                dist.all_reduce(tensor, op=_make_nccl_premul_sum(factor))
                self.equal(tensor, self.fold(ReduceOp.SUM, [0.5 * t for t in self.every(dtype)]), str(dtype))

    def test_long_and_empty_tensors(self) -> None:
        for count in (0, 1, 1_000_003):
            tensor = values(self.rank, torch.float, count)
            dist.all_reduce(tensor)
            self.equal(tensor, self.fold(ReduceOp.SUM, self.every(torch.float, count)), str(count))

    def test_coalesced_all_reduce(self) -> None:
        tensors = [values(self.rank, dtype, count) for dtype, count in ((torch.float, 5), (torch.float, 70_000))]
        dist.all_reduce_coalesced(tensors)
        for tensor in tensors:
            self.equal(tensor, self.fold(ReduceOp.SUM, self.every(torch.float, tensor.numel())))

    def test_reduce_changes_the_root_only(self) -> None:
        for root in range(self.size):
            tensor = values(self.rank, torch.int32)
            dist.reduce(tensor, dst=root, op=ReduceOp.MAX)
            mine = (
                self.fold(ReduceOp.MAX, self.every(torch.int32))
                if self.rank == root
                else values(self.rank, torch.int32)
            )
            self.equal(tensor, mine, f"root {root}")

    def test_reduce_scatter(self) -> None:
        total = self.fold(ReduceOp.SUM, self.every(torch.double, 3 * self.size))
        mine = total.chunk(self.size)[self.rank]
        output = torch.empty(3, dtype=torch.double)
        dist.reduce_scatter(
            output, [block.clone() for block in values(self.rank, torch.double, 3 * self.size).chunk(self.size)]
        )
        self.equal(output, mine, "of a list")
        output = torch.empty(3, dtype=torch.double)
        dist.reduce_scatter_tensor(output, values(self.rank, torch.double, 3 * self.size))
        self.equal(output, mine, "of a tensor")

    def test_reduce_scatter_of_blocks_of_different_length(self) -> None:
        lengths = [rank + 1 for rank in range(self.size)]
        total = self.fold(ReduceOp.SUM, self.every(torch.int64, sum(lengths)))
        output = torch.empty(self.rank + 1, dtype=torch.int64)
        dist.reduce_scatter(output, list(values(self.rank, torch.int64, sum(lengths)).split(lengths)))
        self.equal(output, total.split(lengths)[self.rank])

    def test_coalesced_reduce_scatter_and_all_gather(self) -> None:
        inputs = [values(self.rank, torch.float, count * self.size) for count in (2, 9)]
        blocks = [torch.empty(count) for count in (2, 9)]
        with dist._coalescing_manager(async_ops=True) as manager:
            for block, tensor in zip(blocks, inputs, strict=True):
                dist.reduce_scatter_tensor(block, tensor)
        manager.wait()
        outputs = [torch.empty(count * self.size) for count in (2, 9)]
        with dist._coalescing_manager():
            for output, block in zip(outputs, blocks, strict=True):
                dist.all_gather_into_tensor(output, block)
        for output in outputs:
            self.equal(output, self.fold(ReduceOp.SUM, self.every(torch.float, output.numel())))


class Moves(Case):
    def test_broadcast_of_all_types(self) -> None:
        for root, dtype in itertools.product(range(self.size), INTEGERS + FLOATS + OTHERS):
            tensor = values(self.rank, dtype)
            dist.broadcast(tensor, src=root)
            self.equal(tensor, values(root, dtype), f"{dtype} from {root}")

    def test_all_gather(self) -> None:
        for dtype in INTEGERS + FLOATS + OTHERS:
            outputs = [torch.empty(37, dtype=dtype) for _ in range(self.size)]
            dist.all_gather(outputs, values(self.rank, dtype))
            for output, expected in zip(outputs, self.every(dtype), strict=True):
                self.equal(output, expected, str(dtype))

    def test_all_gather_to_views_of_one_tensor(self) -> None:
        whole = torch.empty(37 * self.size)
        dist.all_gather(list(whole.chunk(self.size)), values(self.rank, torch.float))
        self.equal(whole, torch.cat(self.every(torch.float)))

    def test_all_gather_of_different_lengths(self) -> None:
        outputs = [torch.empty(rank + 1, dtype=torch.int16) for rank in range(self.size)]
        dist.all_gather(outputs, values(self.rank, torch.int16, self.rank + 1))
        for rank, output in enumerate(outputs):
            self.equal(output, values(rank, torch.int16, rank + 1))

    def test_all_gather_to_one_tensor(self) -> None:
        output = torch.empty(self.size, 37)
        dist.all_gather_into_tensor(output, values(self.rank, torch.float).unsqueeze(0))
        self.equal(output, torch.stack(self.every(torch.float)))

    def test_coalesced_all_gather(self) -> None:
        inputs = [values(self.rank, torch.float, count) for count in (3, 8)]
        outputs = [[torch.empty(3), torch.empty(8)] for _ in range(self.size)]
        dist.group.WORLD.allgather_coalesced(outputs, inputs).wait()
        for rank, pair in enumerate(outputs):
            for output in pair:
                self.equal(output, values(rank, torch.float, output.numel()))

    def test_gather_and_scatter(self) -> None:
        for root in range(self.size):
            at_root = self.rank == root
            gathered = [torch.empty(37, dtype=torch.int32) for _ in range(self.size)] if at_root else None
            dist.gather(values(self.rank, torch.int32), gathered, dst=root)
            if at_root:
                for output, expected in zip(gathered, self.every(torch.int32), strict=True):
                    self.equal(output, expected, f"gathered at {root}")
            output = torch.empty(37, dtype=torch.int32)
            dist.scatter(output, self.every(torch.int32) if at_root else None, src=root)
            self.equal(output, values(self.rank, torch.int32), f"scattered from {root}")

    def test_all_to_all(self) -> None:
        # Rank r sends r + s + 1 elements to rank s.
        inputs = [values(self.rank + to, torch.double, self.rank + to + 1) for to in range(self.size)]
        outputs = [torch.empty(self.rank + of + 1, dtype=torch.double) for of in range(self.size)]
        dist.all_to_all(outputs, inputs)
        for of, output in enumerate(outputs):
            self.equal(output, values(of + self.rank, torch.double, of + self.rank + 1))

    def test_all_to_all_of_one_tensor(self) -> None:
        for dtype in (torch.float, torch.complex64):
            tensor = values(self.rank, dtype, 2 * self.size)
            output = torch.empty_like(tensor)
            dist.all_to_all_single(output, tensor)
            blocks = [values(of, dtype, 2 * self.size).chunk(self.size)[self.rank] for of in range(self.size)]
            self.equal(output, torch.cat(blocks), str(dtype))

    def test_all_to_all_with_splits(self) -> None:
        # Rows of three; rank r sends s rows to rank s, so it receives r rows from each.
        sent, received = list(range(self.size)), [self.rank] * self.size
        tensor = (100 * self.rank + torch.arange(3 * sum(sent))).view(-1, 3)
        output = torch.empty(sum(received), 3, dtype=torch.int64)
        dist.all_to_all_single(output, tensor, received, sent)
        rows = [(100 * of + torch.arange(3 * sum(sent))).view(-1, 3).split(sent)[self.rank] for of in range(self.size)]
        self.equal(output, torch.cat(rows))

    def test_objects(self) -> None:
        objects = [None] * self.size
        dist.all_gather_object(objects, {"rank": self.rank, "text": "x" * self.rank})
        self.assertEqual(objects, [{"rank": rank, "text": "x" * rank} for rank in range(self.size)])


class Messages(Case):
    def test_a_ring_of_long_messages(self) -> None:
        # Everybody sends first: nothing may wait for its receive.
        following, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        output = torch.empty(1 << 20)
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, torch.full((1 << 20,), float(self.rank)), following),
                dist.P2POp(dist.irecv, output, before),
            ]
        )
        for work in works:
            work.wait()
        self.equal(output, torch.full((1 << 20,), float(before)))

    def test_messages_keep_their_order(self) -> None:
        if self.rank == 0:
            for number in range(20):
                dist.send(torch.full((3,), number), 1)
        elif self.rank == 1:
            for number in range(20):
                output = torch.empty(3, dtype=torch.int64)
                dist.recv(output, 0)
                self.equal(output, torch.full((3,), number))

    def test_messages_to_one_peer_do_not_wait_for_those_to_another(self) -> None:
        # Rank 0 sends to 1 and then to the last one, which must have its message before 1 receives anything.
        last = self.size - 1
        if self.size < 3:
            self.skipTest("it takes three ranks")
        long = torch.ones(1 << 20)
        if self.rank == 0:
            works = [dist.isend(long, 1), dist.isend(long, last)]
            for work in works:
                work.wait()
        elif self.rank == last:
            dist.recv(torch.empty(1 << 20), 0)
            dist.send(torch.ones(1), 1)
        elif self.rank == 1:
            dist.recv(torch.empty(1), last)
            dist.recv(torch.empty(1 << 20), 0)

    def test_messages_of_other_tags_pass_one_another(self) -> None:
        if self.rank == 0:
            sent = [dist.isend(torch.full((1 << 18,), float(tag)), 1, tag=tag) for tag in (5, 0, 63)]
            for work in sent:
                work.wait()
        elif self.rank == 1:
            for tag in (63, 5, 0):
                received = torch.empty(1 << 18)
                dist.recv(received, 0, tag=tag)
                self.assertTrue(received.eq(tag).all())

    def test_what_cannot_be_matched_is_refused(self) -> None:
        peer = (self.rank + 1) % self.size
        with self.assertRaisesRegex(NotImplementedError, f"on rank {self.rank}.*src="):
            dist.recv(torch.empty(1))
        with self.assertRaisesRegex(ValueError, f"tag 64 on rank {self.rank} .allowed: 0 to 63"):
            dist.send(torch.empty(1), peer, tag=64)


class Async(Case):
    def test_futures(self) -> None:
        tensor = values(self.rank, torch.float)
        work = dist.all_reduce(tensor, async_op=True)
        doubled = work.get_future().then(lambda future: [2 * t for t in future.value()])
        expected = self.fold(ReduceOp.SUM, self.every(torch.float))
        self.equal(doubled.wait()[0], 2 * expected)
        self.assertTrue(work.is_completed())
        work.wait()
        self.equal(work.result()[0], expected)

    def test_a_callback_may_wait_for_later_calls(self) -> None:
        tensors = [torch.full((3,), float(number)) for number in range(3)]

        def reduced(number: int) -> torch.Tensor:
            return dist.all_reduce(tensors[number], async_op=True).get_future().wait()[0]

        future = dist.all_reduce(tensors[0], async_op=True).get_future()
        deeper = future.then(lambda _: [reduced(1), reduced(2)])
        for number, tensor in enumerate(deeper.wait(), start=1):
            self.equal(tensor, torch.full((3,), float(self.size * number)))

    def test_a_future_of_what_is_done(self) -> None:
        tensor = values(self.rank, torch.float)
        work = dist.all_reduce(tensor, async_op=True)
        work.wait()
        self.equal(work.get_future().wait()[0], self.fold(ReduceOp.SUM, self.every(torch.float)))

    def test_calls_keep_their_order_in_the_background_and_before(self) -> None:
        tensors = [torch.full((1000,), float(number)) for number in range(30)]
        works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        dist.all_reduce(tensors[0])
        for work in works:
            work.wait()
        for number, tensor in enumerate(tensors):
            factor = self.size**2 if number == 0 else self.size
            self.equal(tensor, torch.full((1000,), float(factor * number)))

    def test_coalesced_calls_of_any_sort(self) -> None:
        group = dist.group.WORLD
        device = torch.device("cpu")
        tensor, peer = torch.ones(3), (self.rank + 1) % self.size
        output = torch.empty(3)
        group._start_coalescing(device)
        dist.all_reduce(tensor, async_op=True)
        group.send([torch.full((3,), float(self.rank))], peer, 0)
        group.recv([output], (self.rank - 1) % self.size, 0)
        group._end_coalescing(device).wait()
        self.equal(tensor, torch.full((3,), float(self.size)))
        self.equal(output, torch.full((3,), float((self.rank - 1) % self.size)))

    def test_barrier(self) -> None:
        dist.barrier()
        dist.barrier(async_op=True).wait()


class Groups(Case):
    def test_new_group(self) -> None:
        group = dist.new_group([0, self.size - 1])
        if self.rank in (0, self.size - 1):
            tensor = torch.tensor([float(self.rank)])
            dist.all_reduce(tensor, group=group)
            self.equal(tensor, torch.tensor([float(self.size - 1)]))
            dist.destroy_process_group(group)

    def test_split_group(self) -> None:
        half = self.size // 2
        halves = [list(range(half)), list(range(half, self.size))]
        group = dist.split_group(split_ranks=halves)
        mine = halves[self.rank // half]
        tensor = torch.tensor([self.rank])
        dist.all_reduce(tensor, group=group)
        self.equal(tensor, torch.tensor([sum(mine)]))
        dist.destroy_process_group(group)

    def test_groups_side_by_side(self) -> None:
        groups = [dist.new_group() for _ in range(3)]
        tensors = [torch.full((10_000,), float(number)) for number in range(3)]
        order = range(3) if self.rank % 2 == 0 else reversed(range(3))
        works = [dist.all_reduce(tensors[number], group=groups[number], async_op=True) for number in order]
        for work in works:
            work.wait()
        for number, tensor in enumerate(tensors):
            self.equal(tensor, torch.full((10_000,), float(self.size * number)))
        for group in groups:
            dist.destroy_process_group(group)


class Errors(Case):
    def refused(self, pattern: str, call: object, *arguments: object, **keywords: object) -> None:
        """Fails unless a call is a ValueError whose text matches."""
        with self.assertRaisesRegex(ValueError, pattern):
            call(*arguments, **keywords)

    def test_tensors_that_cannot_be_taken(self) -> None:
        group = dist.group.WORLD
        ones = torch.ones(4, 4)
        self.refused(r"all_reduce: .*strides \[1, 4\] .allowed: contiguous", dist.all_reduce, ones.t()[:2])
        # torch itself looks for a back end for the device; these are for whoever asks this one.
        backend = group._get_backend(torch.device("cpu"))
        self.refused("all_reduce: a tensor on meta on rank \\d+ .allowed: cpu", backend.allreduce, [torch.ones(1, device="meta")])
        self.refused("all_reduce: .*layout Sparse .allowed: dense", backend.allreduce, [ones.to_sparse()])
        self.refused(r"all_gather: a list of 1 tensors .allowed: \d", group.allgather, [[ones]], [ones])
        self.refused("all_gather_into_tensor: the longer tensor of 16", group._allgather_base, ones, ones)
        self.refused(
            "types Float and Double", group._allgather_base, torch.ones(self.size), torch.ones(1, dtype=torch.double)
        )
        self.refused(
            f"splits of the input add up to 1 .allowed: {self.size}",
            group.alltoall_base,
            torch.ones(self.size),
            torch.ones(self.size),
            [],
            [1] + [0] * (self.size - 1),
        )
        self.refused("root 9 .*allowed: 0 to", group.broadcast, ones, 9)

    def test_operations_that_cannot_be(self) -> None:
        self.refused("AVG of Bool", dist.all_reduce, torch.ones(2, dtype=torch.bool), op=ReduceOp.AVG)
        self.refused("bitwise operation on Float", dist.all_reduce, torch.ones(2), op=ReduceOp.BAND)
        self.refused("type Short cannot be combined .allowed: Bool", dist.all_reduce, torch.ones(2, dtype=torch.int16))
        self.refused(
            "PREMUL_SUM of Int", dist.all_reduce, torch.ones(2, dtype=torch.int32), op=_make_nccl_premul_sum(2.0)
        )

    def test_calls_that_differ_are_errors_on_all_ranks(self) -> None:
        group = dist.new_group()
        tensor = torch.ones(4)
        with self.assertRaisesRegex(DistBackendError, "(?i)all-?reduce"):
            if self.rank == 0:
                dist.broadcast(tensor, 0, group=group)
                dist.barrier(group=group)
            else:
                dist.all_reduce(tensor, group=group)
        dist.destroy_process_group(group)

    def test_a_call_that_nobody_joins_times_out(self) -> None:
        group = dist.new_group()
        if self.rank == 0:
            options = BarrierOptions()
            options.timeout = datetime.timedelta(milliseconds=300)
            with self.assertRaisesRegex(DistBackendError, "barrier: not done on rank 0 within 300 ms, and"):
                group.barrier(options).wait()
        dist.barrier()

    def test_a_groups_timeout_names_who_did_not_come(self) -> None:
        group = dist.new_group(timeout=datetime.timedelta(seconds=3))
        if self.rank == 0:
            with self.assertRaisesRegex(DistBackendError, "Timeout.*rank 0"):
                dist.all_reduce(torch.ones(1), group=group)
        dist.barrier()

    def test_abort_ends_calls_on_all_ranks(self) -> None:
        group = dist.new_group()
        if self.rank == 0:
            group.abort()
            with self.assertRaisesRegex(DistBackendError, "aborted"):
                dist.barrier(group=group)
        else:
            with self.assertRaisesRegex(DistBackendError, "(?i)abort"):
                dist.barrier(group=group)
        dist.barrier()

    def test_abort_ends_messages(self) -> None:
        group = dist.new_group()
        work = group.recv([torch.empty(1)], (self.rank + 1) % self.size, 0)
        group.abort()
        with self.assertRaisesRegex(DistBackendError, "recv: the process group was aborted"):
            work.wait()

    def test_after_shutdown_calls_are_refused(self) -> None:
        group = dist.new_group()
        group.shutdown()
        with self.assertRaisesRegex(DistBackendError, "shut down"):
            group.allreduce([torch.ones(1)], AllreduceOptions()).wait()

    def test_monitored_barrier(self) -> None:
        group = dist.new_group()
        group.monitored_barrier(datetime.timedelta(seconds=60), wait_all_ranks=False)
        missing = ", ".join(str(rank) for rank in range(1, self.size))
        if self.rank == 0:
            with self.assertRaisesRegex(DistBackendError, f"Ranks? {missing} failed to pass monitoredBarrier in 300 ms"):
                group.monitored_barrier(datetime.timedelta(milliseconds=300), wait_all_ranks=True)
        dist.barrier()
        dist.destroy_process_group(group)
