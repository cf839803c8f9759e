"""The package without torch, as each rank tests it: DURE_RANK=... python -m unittest ranks_package."""

import array
import ctypes
import functools
import itertools
import operator
import threading
import unittest

import dure
from dure import Op

# Formats of array.array by what the library knows.
INTEGERS = "bBiIqQ"
FLOATS = "fd"
FOLDS = {
    Op.SUM: operator.add,
    Op.PROD: operator.mul,
    Op.MIN: min,
    Op.MAX: max,
    Op.AND: operator.and_,
    Op.OR: operator.or_,
    Op.XOR: operator.xor,
}
BITWISE = (Op.AND, Op.OR, Op.XOR)


def setUpModule() -> None:
    global comm
    comm = dure.Communicator(name="test")


def tearDownModule() -> None:
    comm.finalize()


def values(rank: int, count: int = 37) -> list[int]:
    """What a rank begins with: small numbers, of which sums and products fit every type."""
    return [(index + rank) % 3 for index in range(count)]


def mine(kind: str, count: int = 37) -> array.array:
    """What this rank begins with."""
    return array.array(kind, values(comm.rank, count))


def zeros(kind: str, count: int) -> array.array:
    """Where something is received."""
    return array.array(kind, [0] * count)


def every(count: int = 37) -> list[list[int]]:
    """What all ranks begin with."""
    return [values(rank, count) for rank in range(comm.size)]


def folded(op: Op, count: int = 37) -> list[int]:
    """What a reduction of all ranks' elements is."""
    return [functools.reduce(FOLDS[op], column) for column in zip(*every(count), strict=True)]


class Reductions(unittest.TestCase):
    def test_all_reduce_of_all_types_and_operations(self) -> None:
        for op, kind in itertools.product(FOLDS, INTEGERS + FLOATS):
            if op in BITWISE and kind in FLOATS:
                continue
            with self.subTest(op=op, kind=kind):
                data, result = mine(kind), zeros(kind, 37)
                comm.all_reduce(data, result, op)
                self.assertEqual(result.tolist(), folded(op))
                self.assertEqual(data, mine(kind))
                comm.all_reduce(data, op=op)
                self.assertEqual(data, result)

    def test_arrays_of_ctypes(self) -> None:
        # Their formats begin with the order of bytes.
        data = (ctypes.c_int32 * 3)(1, comm.rank, -1)
        comm.all_reduce(data)
        self.assertEqual(list(data), [comm.size, sum(range(comm.size)), -comm.size])

    def test_average(self) -> None:
        data = array.array("d", [comm.rank])
        comm.all_reduce(data, op=Op.AVG)
        self.assertEqual(data[0], (comm.size - 1) / 2)

    def test_reduce(self) -> None:
        for root in range(comm.size):
            data = mine("i")
            comm.reduce(data, op=Op.MAX, root=root)
            self.assertEqual(data.tolist(), folded(Op.MAX) if comm.rank == root else values(comm.rank))
            result = zeros("i", 37) if comm.rank == root else None
            comm.reduce(mine("i"), result, root=root)
            if result is not None:
                self.assertEqual(result.tolist(), folded(Op.SUM))

    def test_reduce_scatter(self) -> None:
        count = 3 * comm.size
        result = zeros("q", 3)
        comm.reduce_scatter(mine("q", count), result)
        self.assertEqual(result.tolist(), folded(Op.SUM, count)[3 * comm.rank : 3 * comm.rank + 3])

    def test_reduce_scatter_of_blocks_of_different_length(self) -> None:
        counts = list(range(comm.size))
        result = zeros("f", comm.rank)
        comm.reduce_scatter(mine("f", sum(counts)), result, counts=counts)
        begin = sum(counts[: comm.rank])
        self.assertEqual(result.tolist(), folded(Op.SUM, sum(counts))[begin : begin + comm.rank])


class Moves(unittest.TestCase):
    def test_broadcast_from_each_rank(self) -> None:
        # "h" is no type of the library: it travels as bytes.
        for root, kind in itertools.product(range(comm.size), INTEGERS + FLOATS + "h"):
            data = mine(kind)
            comm.broadcast(data, root)
            self.assertEqual(data.tolist(), values(root), f"{kind} from {root}")

    def test_the_root_may_broadcast_what_is_read_only(self) -> None:
        data = b"abc" if comm.rank == 0 else bytearray(3)
        comm.broadcast(data)
        self.assertEqual(data, b"abc")

    def test_all_gather(self) -> None:
        result = zeros("h", 37 * comm.size)
        comm.all_gather(mine("h"), result)
        self.assertEqual(result.tolist(), sum(every(), []))

    def test_all_gather_of_different_lengths(self) -> None:
        counts = [rank + 1 for rank in range(comm.size)]
        result = zeros("h", sum(counts))
        comm.all_gather(mine("h", comm.rank + 1), result, counts)
        self.assertEqual(result.tolist(), sum((values(rank, rank + 1) for rank in range(comm.size)), []))

    def test_all_to_all(self) -> None:
        result = zeros("d", 2 * comm.size)
        comm.all_to_all(mine("d", 2 * comm.size), result)
        begin = 2 * comm.rank
        self.assertEqual(result.tolist(), sum((data[begin : begin + 2] for data in every(2 * comm.size)), []))

    def test_all_to_all_of_different_lengths(self) -> None:
        # Rank r sends s elements, each r, to rank s.
        sent, received = list(range(comm.size)), [comm.rank] * comm.size
        result = zeros("h", sum(received))
        comm.all_to_all(array.array("h", [comm.rank] * sum(sent)), result, sent, received)
        self.assertEqual(result.tolist(), sum(([of] * comm.rank for of in range(comm.size)), []))

    def test_gather_and_scatter(self) -> None:
        for root, counts in itertools.product(range(comm.size), (None, [rank + 2 for rank in range(comm.size)])):
            with self.subTest(root=root, counts=counts):
                lengths = counts or [5] * comm.size
                whole = zeros("h", sum(lengths)) if comm.rank == root else None
                comm.gather(mine("h", lengths[comm.rank]), whole, root, counts)
                if whole is not None:
                    self.assertEqual(whole.tolist(), sum((values(r, n) for r, n in enumerate(lengths)), []))
                result = zeros("h", lengths[comm.rank])
                comm.scatter(whole, result, root, counts)
                self.assertEqual(result, mine("h", lengths[comm.rank]))

    def test_barrier(self) -> None:
        comm.barrier()


class Messages(unittest.TestCase):
    def test_a_ring_in_a_group(self) -> None:
        result = zeros("d", 100_000)
        with dure.group():
            comm.send(array.array("d", [comm.rank] * 100_000), (comm.rank + 1) % comm.size)
            comm.recv(result, (comm.rank - 1) % comm.size)
        self.assertEqual(result[-1], (comm.rank - 1) % comm.size)

    def test_messages_outside_of_a_group(self) -> None:
        if comm.rank == 0 and comm.size > 1:
            comm.send(mine("h"), 1)
        elif comm.rank == 1:
            result = zeros("h", 37)
            comm.recv(result, 0)
            self.assertEqual(result.tolist(), values(0))

    def test_an_exception_discards_the_group(self) -> None:
        data = mine("d")
        with self.assertRaises(KeyError), dure.group():
            comm.all_reduce(data)
            raise KeyError
        self.assertEqual(data, mine("d"))
        comm.all_reduce(data)
        self.assertEqual(data.tolist(), folded(Op.SUM))


class Communicators(unittest.TestCase):
    def test_rank_and_size(self) -> None:
        self.assertEqual(repr(comm), f"<dure.Communicator, rank {comm.rank} of {comm.size}>")
        self.assertRegex(dure.__version__, r"^\d+\.\d+\.\d+$")

    def test_split(self) -> None:
        part = comm.split(comm.rank % 2, key=-comm.rank)
        ranks = [rank for rank in reversed(range(comm.size)) if rank % 2 == comm.rank % 2]
        self.assertEqual((part.rank, part.size), (ranks.index(comm.rank), len(ranks)))
        data = array.array("i", [comm.rank])
        part.all_reduce(data)
        self.assertEqual(data[0], sum(ranks))
        part.finalize()

    def test_a_rank_without_color_gets_none(self) -> None:
        part = comm.split(0 if comm.rank == 0 else None)
        if comm.rank == 0:
            self.assertEqual(part.size, 1)
            part.finalize()
        else:
            self.assertIsNone(part)

    def test_duplicates_in_threads_of_their_own(self) -> None:
        # A call that waits lets the other thread go on.
        others = [comm.duplicate() for _ in range(2)]
        data = [array.array("d", [1]) for _ in others]
        threads = [threading.Thread(target=other.all_reduce, args=[x]) for other, x in zip(others, data, strict=True)]
        for thread in threads if comm.rank % 2 == 0 else reversed(threads):
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([x[0] for x in data], [comm.size] * 2)
        for other in others:
            other.finalize()

    def test_by_an_id(self) -> None:
        its_id = dure.unique_id() if comm.rank == 0 else bytearray(128)
        comm.broadcast(its_id)
        with dure.Communicator(rank=comm.rank, size=comm.size, id=bytes(its_id), timeout=30, check=True) as other:
            data = array.array("d", [1])
            other.all_reduce(data)
            self.assertEqual(data[0], comm.size)
        with self.assertRaisesRegex(dure.InvalidUsageError, f"communicator of rank {comm.rank} was finalized"):
            other.barrier()

    def test_shrink(self) -> None:
        if comm.size == 1:
            self.skipTest("it takes two ranks")
        other = comm.duplicate()
        if comm.rank > 0:
            rest = other.shrink([0])
            self.assertEqual((rest.rank, rest.size), (comm.rank - 1, comm.size - 1))
            rest.finalize()
        comm.barrier()
        other.abort()


class Errors(unittest.TestCase):
    def refused(self, pattern: str, call: object, *arguments: object, **keywords: object) -> None:
        """Fails unless a call is refused with a text that matches."""
        with self.assertRaisesRegex(dure.InvalidArgumentError, pattern):
            call(*arguments, **keywords)

    def test_buffers_that_cannot_be_taken(self) -> None:
        me = f"of rank {comm.rank}"
        self.refused(f"send {me} is a int .allowed: objects with the buffer protocol", comm.all_reduce, 7)
        self.refused(f"send {me} is read-only", comm.all_reduce, b"abc")
        whole = memoryview(bytearray(8))
        self.refused(f"send {me} of shape .4,. and strides .2,. is not contiguous", comm.all_reduce, whole[::2])
        self.refused("elements that cannot be combined: int of 2 bytes", comm.all_reduce, mine("h"))
        self.refused("elements that cannot be combined: bool of 1 bytes", comm.all_reduce, whole.cast("?"))
        self.refused(f"recv {me} has 3 elements .allowed: 37", comm.all_reduce, mine("d"), zeros("d", 3))
        self.refused("float of 8 bytes, and recv .* of float of 4 bytes", comm.all_reduce, mine("d"), zeros("f", 37))

    def test_numbers_that_cannot_be(self) -> None:
        data = mine("d")
        self.refused(f"op 9 on rank {comm.rank} .allowed: Op.SUM", comm.all_reduce, data, op=9)
        self.refused(f"(?s)root.*{comm.size}", comm.broadcast, data, comm.size)
        self.refused(f"counts of rank {comm.rank} is .-1. ", comm.all_gather, data, data, [-1])
        self.refused("one of send_counts and recv_counts", comm.all_to_all, data, zeros("d", 37), [1] * comm.size)
        self.refused("id of rank 0 has 3 bytes .allowed: 128", dure.Communicator, rank=0, size=1, id=b"abc")
        self.refused("slots of 100 bytes", dure.Communicator, slot_bytes=100)
        with self.assertRaisesRegex(dure.InvalidUsageError, "rank=0, size=None, id=None"):
            dure.Communicator(rank=0)

    def test_errors_are_pythons_too(self) -> None:
        self.assertTrue(issubclass(dure.InvalidArgumentError, ValueError))
        self.assertTrue(issubclass(dure.TimeoutError, TimeoutError))

    def test_calls_that_differ(self) -> None:
        if comm.size == 1:
            self.skipTest("it takes two ranks")
        other = comm.duplicate()
        with self.assertRaisesRegex(dure.InvalidUsageError, "all-reduce.*rank"):
            if comm.rank == 0:
                other.all_reduce(mine("d"))
            else:
                other.all_reduce(mine("f"))
        other.abort()

    def test_abort_is_a_remote_error_for_others(self) -> None:
        other = comm.duplicate()
        if comm.rank == 0:
            other.abort()
            with self.assertRaisesRegex(dure.InvalidUsageError, "finalized or aborted"):
                other.barrier()
        else:
            with self.assertRaisesRegex(dure.RemoteError, f"rank {comm.rank}"):
                other.barrier()
            other.abort()
        comm.barrier()
