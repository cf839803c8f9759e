"""Dure: collective communication between processes.

::

    import array
    import dure

    with dure.Communicator() as comm:
        x = array.array("f", [1, 2, 3])
        comm.all_reduce(x)

:mod:`dure.torch` is the back end for ``torch.distributed``.
"""

from ._communicator import Communicator, Op, group, unique_id
from ._errors import (
    DeviceError,
    Error,
    HostError,
    InternalError,
    InvalidArgumentError,
    InvalidUsageError,
    RemoteError,
    TimeoutError,
)
from ._library import version_code as _version_code

#: Version of the library.
__version__ = "{}.{}.{}".format(*(_version_code() // unit % 100 for unit in (10_000, 100, 1)))

__all__ = [
    "Communicator",
    "DeviceError",
    "Error",
    "HostError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidUsageError",
    "Op",
    "RemoteError",
    "TimeoutError",
    "group",
    "unique_id",
]
