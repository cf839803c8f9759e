"""Communicators, and the calls on them."""

import ctypes
import enum
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ._buffer import Buffer, buffer, counts
from ._errors import InvalidArgumentError, InvalidUsageError
from ._library import UNIQUE_ID_BYTES, Config, UniqueId, call


class Op(enum.IntEnum):
    """How elements are combined. Integers wrap."""

    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    #: The sum, divided by the number of ranks.
    AVG = 4
    #: The three on bits are for integers only.
    AND = 0x7FFFFFF0
    OR = 0x7FFFFFF1
    XOR = 0x7FFFFFF2


def unique_id() -> bytes:
    """Makes an id by which the ranks of one communicator find each other.

    The program carries it to them by its own means. It holds a secret: whoever has it can join. This process receives
    the ranks that meet by it, so it must live until they have met.
    """
    made = UniqueId()
    call("dureGetUniqueId", ctypes.byref(made))
    return bytes(made.internal)


# Buffers of calls in the group of a thread, which must stay until the group ends.
_group = threading.local()


@contextmanager
def group() -> Iterator[None]:
    """Calls of this thread inside of ``with dure.group():`` run when it ends, all at once.

    Sends and receives of a group do not wait for one another. An exception inside leaves all of its calls undone.
    """
    outer = getattr(_group, "kept", None)
    if outer is None:
        _group.kept = []
    try:
        call("dureGroupStart")
        try:
            yield
        except BaseException:
            try:
                call("dureGroupSimulateEnd", None)
            except InvalidUsageError:
                # It says that there is no estimate, and has discarded the group.
                pass
            raise
        call("dureGroupEnd")
    finally:
        if outer is None:
            _group.kept = None


class Communicator:
    """One rank's membership in a group of processes.

    Without arguments rank, number of ranks and meeting place come from the environment that ``torchrun``, ``mpirun`` or
    ``srun`` left, or from ``DURE_RANK``, ``DURE_SIZE``, ``DURE_ROOT`` (``host:port``) and ``DURE_SECRET``. With
    ``rank``, ``size`` and ``id`` (of :func:`unique_id`, the same on all ranks) it needs no environment. Making one
    waits for all ranks.

    ``timeout`` is how long a rank waits for others, in seconds; ``name`` begins the texts of errors; ``transports``,
    ``algorithms``, ``lanes``, ``slots``, ``slot_bytes``, ``deterministic`` and ``check`` are as the variables of
    docs/environment.md (``DURE_TRANSPORT``, ``DURE_ALGO``, ...). What is not given is as the environment says.

    All ranks make the same calls on it, in the same order. A call returns when it is done on this rank, and lets other
    threads run meanwhile. Buffers are contiguous: objects with the buffer protocol, such as ``bytearray``,
    ``array.array`` and NumPy's arrays, or tensors in the host's memory with ``__dlpack__``.

    As a context manager it is finalized at the end, or aborted when there was an exception.
    """

    def __init__(
        self,
        *,
        rank: int | None = None,
        size: int | None = None,
        id: bytes | None = None,  # noqa: A002, the word of the C interface
        timeout: float | None = None,
        name: str | None = None,
        transports: str | None = None,
        algorithms: str | None = None,
        lanes: int | None = None,
        slots: int | None = None,
        slot_bytes: int | None = None,
        deterministic: bool | None = None,
        check: bool | None = None,
    ) -> None:
        settings = {
            "timeoutMs": None if timeout is None else round(timeout * 1000),
            "commName": None if name is None else name.encode(),
            "netName": None if transports is None else transports.encode(),
            "algo": None if algorithms is None else algorithms.encode(),
            "lanes": lanes,
            "slots": slots,
            "slotBytes": slot_bytes,
            "deterministic": None if deterministic is None else int(deterministic),
            "check": None if check is None else int(check),
        }
        config = Config()
        for field, value in settings.items():
            if value is not None:
                setattr(config, field, value)
        handle = ctypes.c_void_p()
        if rank is None and size is None and id is None:
            call("dureCommInitEnv", ctypes.byref(handle), config)
        elif rank is None or size is None or id is None:
            raise InvalidUsageError(
                f"a communicator needs all of rank, size and id, or none of them: rank={rank}, size={size}, id="
                f"{'None' if id is None else 'given'}"
            )
        elif len(id) != UNIQUE_ID_BYTES:
            raise InvalidArgumentError(f"id of rank {rank} has {len(id)} bytes (allowed: {UNIQUE_ID_BYTES})")
        else:
            its_id = UniqueId.from_buffer_copy(id)
            call("dureCommInitRankConfig", ctypes.byref(handle), size, its_id, rank, config)
        self._adopt(handle)

    def _adopt(self, handle: ctypes.c_void_p) -> None:
        self._handle: ctypes.c_void_p | None = handle
        number = ctypes.c_int()
        call("dureCommUserRank", handle, ctypes.byref(number))
        self._rank = number.value
        call("dureCommCount", handle, ctypes.byref(number))
        self._size = number.value

    @classmethod
    def _made(cls, handle: ctypes.c_void_p) -> "Communicator":
        made = cls.__new__(cls)
        made._adopt(handle)
        return made

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self._size

    def __repr__(self) -> str:
        return f"<dure.Communicator, rank {self._rank} of {self._size}>"

    def __enter__(self) -> "Communicator":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._handle is not None:
            self.finalize() if kind is None else self.abort()

    # ---- Collectives ----

    def all_reduce(self, send: Any, recv: Any = None, op: Op = Op.SUM) -> None:
        """Every rank gets the combination of all ranks' elements, in ``recv`` or in place."""
        source, target = self._pair("send", send, "recv", recv)
        self._expect(target, source.count)
        self._call("dureAllReduce", source, target, source.count, self._type(source, op), op)

    def reduce(self, send: Any, recv: Any = None, op: Op = Op.SUM, root: int = 0) -> None:
        """The root gets the combination of all ranks' elements, in ``recv`` or in place. Others give no ``recv``."""
        if self._rank == root:
            source, target = self._pair("send", send, "recv", recv)
            self._expect(target, source.count)
        else:
            source, target = self._reads("send", send), None
        self._call("dureReduce", source, target, source.count, self._type(source, op), op, root)

    def reduce_scatter(self, send: Any, recv: Any, op: Op = Op.SUM, counts: Sequence[int] | None = None) -> None:
        """Rank r gets block r of the combination of all ranks' elements.

        Blocks have equal length, or ``counts[r]`` elements, the same on all ranks.
        """
        source, target = self._pair("send", send, "recv", recv)
        if counts is None:
            self._expect(source, target.count * self._size)
            self._call("dureReduceScatter", source, target, target.count, self._type(source, op), op)
            return
        lengths = self._counts("counts", counts, source)
        self._expect(target, counts[self._rank])
        self._call("dureReduceScatterv", source, lengths, None, target, target.count, self._type(source, op), op)

    def broadcast(self, data: Any, root: int = 0) -> None:
        """Every rank gets the root's elements, in place."""
        data = self._reads("data", data) if self._rank == root else self._writes("data", data)
        kind, factor = data.elements()
        self._call("dureBcast", data, data.count * factor, kind, root)

    def all_gather(self, send: Any, recv: Any, counts: Sequence[int] | None = None) -> None:
        """Every rank gets all ranks' elements, one rank's after the other's.

        All ranks give as many, or ``counts[r]`` elements, the same list on all ranks.
        """
        source, target = self._pair("send", send, "recv", recv)
        kind, factor = source.elements()
        if counts is None:
            self._expect(target, source.count * self._size)
            self._call("dureAllGather", source, target, source.count * factor, kind)
            return
        lengths = self._counts("counts", counts, target, factor)
        self._expect(source, counts[self._rank])
        self._call("dureAllGatherv", source, source.count * factor, target, lengths, None, kind)

    def all_to_all(
        self,
        send: Any,
        recv: Any,
        send_counts: Sequence[int] | None = None,
        recv_counts: Sequence[int] | None = None,
    ) -> None:
        """Block s of rank r's ``recv`` is block r of rank s's ``send``.

        Blocks have equal length, or those of the two lists, which all ranks or none give: ``send_counts[s]`` elements
        go to rank s, which expects as many.
        """
        source, target = self._pair("send", send, "recv", recv)
        kind, factor = source.elements()
        if (send_counts is None) != (recv_counts is None):
            raise InvalidArgumentError(
                f"rank {self._rank} gives one of send_counts and recv_counts (allowed: both or none)"
            )
        if send_counts is None:
            if source.count % self._size != 0:
                raise InvalidArgumentError(
                    f"send of rank {self._rank} has {source.count} elements (allowed: a multiple of {self._size}, the "
                    "number of ranks)"
                )
            self._expect(target, source.count)
            self._call("dureAlltoAll", source, target, source.count // self._size * factor, kind)
            return
        sent = self._counts("send_counts", send_counts, source, factor)
        received = self._counts("recv_counts", recv_counts, target, factor)
        self._call("dureAllToAllv", source, sent, None, target, received, None, kind)

    def gather(self, send: Any, recv: Any = None, root: int = 0, counts: Sequence[int] | None = None) -> None:
        """The root gets all ranks' elements, one rank's after the other's. Others give no ``recv``.

        All ranks give as many, or ``counts[r]`` elements, the same list on all ranks.
        """
        source = self._reads("send", send)
        target = self._writes("recv", recv) if self._rank == root else None
        kind, factor = source.elements()
        length = source.count * factor
        if target is not None:
            self._same_type(source, target)
        if counts is None:
            self._expect(target, source.count * self._size)
            self._call("dureGather", source, target, length, kind, root)
            return
        lengths = self._counts("counts", counts, target, factor)
        self._expect(source, counts[self._rank])
        self._call("dureGatherv", source, length, target, lengths, None, kind, root)

    def scatter(self, send: Any, recv: Any, root: int = 0, counts: Sequence[int] | None = None) -> None:
        """Rank r gets block r of the root's elements. Others give None for ``send``.

        Blocks have equal length, or ``counts[r]`` elements, the same list on all ranks.
        """
        target = self._writes("recv", recv)
        source = self._reads("send", send) if self._rank == root else None
        kind, factor = target.elements()
        length = target.count * factor
        if source is not None:
            self._same_type(source, target)
        if counts is None:
            self._expect(source, target.count * self._size)
            self._call("dureScatter", source, target, length, kind, root)
            return
        lengths = self._counts("counts", counts, source, factor)
        self._expect(target, counts[self._rank])
        self._call("dureScatterv", source, lengths, None, target, length, kind, root)

    def barrier(self) -> None:
        """No rank's call returns before every rank has made it."""
        self._call("dureBarrier")

    # ---- Messages ----

    def send(self, data: Any, peer: int) -> None:
        """Sends elements to a rank. The k-th send to a rank meets its k-th receive from this one.

        It may wait for the receive: sends and receives that depend on each other belong into one :func:`group`.
        """
        data = self._reads("data", data)
        kind, factor = data.elements()
        self._call("dureSend", data, data.count * factor, kind, peer)

    def recv(self, data: Any, peer: int) -> None:
        """Receives from a rank as many elements of the same type as it sends."""
        data = self._writes("data", data)
        kind, factor = data.elements()
        self._call("dureRecv", data, data.count * factor, kind, peer)

    # ---- Other communicators, and the end ----

    def split(self, color: int | None, key: int = 0) -> "Communicator | None":
        """Makes communicators of the ranks that give the same color (0 or more), ordered by ``key`` and then by rank.

        All ranks call it. A rank that gives None gets None.
        """
        handle = ctypes.c_void_p()
        call("dureCommSplit", self._open(), -1 if color is None else color, key, ctypes.byref(handle), None)
        return None if color is None else self._made(handle)

    def duplicate(self) -> "Communicator":
        """Makes a communicator of the same ranks, with a sequence of calls of its own. All ranks call it."""
        handle = ctypes.c_void_p()
        call("dureCommDup", self._open(), ctypes.byref(handle))
        return self._made(handle)

    def shrink(self, excluded: Sequence[int], abort: bool = False) -> "Communicator":
        """Makes a communicator of all ranks but the excluded ones, such as those that died.

        The ranks that stay call it, with the same list, also on a communicator that failed. ``abort`` ends calls that
        are under way on this one first.
        """
        handle = ctypes.c_void_p()
        ranks = (ctypes.c_int * len(excluded))(*excluded)
        call("dureCommShrink", self._open(), ranks, len(excluded), ctypes.byref(handle), None, int(abort))
        return self._made(handle)

    def abort(self) -> None:
        """Ends the communicator on all ranks, now. Whoever waits on it, in other threads too, gets a RemoteError."""
        handle, self._handle = self._handle, None
        call("dureCommAbort", handle)

    def finalize(self) -> None:
        """Leaves the communicator in order: all ranks call it, and it waits for them."""
        handle = self._open()
        self._handle = None
        call("dureCommDestroy", handle)

    # ---- Arguments ----

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise InvalidUsageError(f"the communicator of rank {self._rank} was finalized or aborted")
        return self._handle

    def _call(self, name: str, *arguments: Any) -> None:
        handle = self._open()
        kept = getattr(_group, "kept", None)
        if kept is not None:
            kept.append(arguments)
        plain = [argument.address if isinstance(argument, Buffer) else argument for argument in arguments]
        call(name, *plain, handle, None)

    def _named(self, name: str) -> str:
        return f"{name} of rank {self._rank}"

    def _reads(self, name: str, value: Any) -> Buffer:
        return buffer(self._named(name), value, writable=False)

    def _writes(self, name: str, value: Any) -> Buffer:
        return buffer(self._named(name), value, writable=True)

    def _pair(self, name: str, value: Any, other_name: str, other: Any) -> tuple[Buffer, Buffer]:
        """What is read and what is written: the same if the other one is None."""
        if other is None:
            both = self._writes(name, value)
            return both, both
        source, target = self._reads(name, value), self._writes(other_name, other)
        self._same_type(source, target)
        return source, target

    def _same_type(self, source: Buffer, target: Buffer) -> None:
        if (source.kind, source.item_bytes) != (target.kind, target.item_bytes):
            raise InvalidArgumentError(
                f"{source.name} has elements of {source.type_name()}, and {target.name} of {target.type_name()} "
                "(allowed: one type)"
            )

    def _expect(self, its: Buffer | None, count: int) -> None:
        if its is not None and its.count != count:
            raise InvalidArgumentError(f"{its.name} has {its.count} elements (allowed: {count})")

    def _counts(self, name: str, values: Sequence[int], its: Buffer | None, factor: int = 1) -> ctypes.Array:
        lengths = counts(self._named(name), values, self._size, factor)
        self._expect(its, sum(values))
        return lengths

    def _type(self, source: Buffer, op: Op) -> int:
        """The type as which elements are combined."""
        try:
            Op(op)
        except ValueError:
            allowed = ", ".join(f"Op.{one.name}" for one in Op)
            raise InvalidArgumentError(f"op {op!r} on rank {self._rank} (allowed: {allowed})") from None
        return source.combined()
