"""libdure.so: where it is, what its functions take, and what their results mean.

ctypes releases the interpreter's lock while a function runs, so other threads go on while a rank waits for its peers.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_void_p
from pathlib import Path

from ._errors import BY_CODE, Error, HostError

UNIQUE_ID_BYTES = 128
_UNDEFINED_INT = -(2**31)
_MAGIC = 0xCAFEBEEF
SUCCESS = 0
DEGRADED = 9


class UniqueId(ctypes.Structure):
    """``dureUniqueId``."""

    _fields_ = [("internal", c_ubyte * UNIQUE_ID_BYTES)]


class Config(ctypes.Structure):
    """``dureConfig_t``: settings that were not given are as the environment says."""

    _fields_ = [
        ("size", c_size_t),
        ("magic", c_uint),
        ("version", c_uint),
        ("blocking", c_int),
        ("cgaClusterSize", c_int),
        ("minCTAs", c_int),
        ("maxCTAs", c_int),
        ("netName", c_char_p),
        ("splitShare", c_int),
        ("trafficClass", c_int),
        ("commName", c_char_p),
        ("collnetEnable", c_int),
        ("CTAPolicy", c_int),
        ("shrinkShare", c_int),
        ("nvlsCTAs", c_int),
        ("nChannelsPerNetPeer", c_int),
        ("nvlinkCentricSched", c_int),
        ("timeoutMs", c_int),
        ("deterministic", c_int),
        ("check", c_int),
        ("lanes", c_int),
        ("slots", c_int),
        ("slotBytes", c_int),
        ("algo", c_char_p),
    ]

    def __init__(self) -> None:
        integers = {name: _UNDEFINED_INT for name, kind in self._fields_ if kind is c_int}
        super().__init__(size=ctypes.sizeof(self), magic=_MAGIC, version=version_code(), **integers)


_COUNTS = POINTER(c_size_t)
_COLLECTIVE = [c_void_p, c_void_p, c_size_t, c_int]
_END = [c_void_p, c_void_p]  # communicator and stream

_ARGUMENTS = {
    "dureGetVersion": [POINTER(c_int)],
    "dureGetUniqueId": [POINTER(UniqueId)],
    "dureCommInitRankConfig": [POINTER(c_void_p), c_int, UniqueId, c_int, POINTER(Config)],
    "dureCommInitEnv": [POINTER(c_void_p), POINTER(Config)],
    "dureCommSplit": [c_void_p, c_int, c_int, POINTER(c_void_p), POINTER(Config)],
    "dureCommDup": [c_void_p, POINTER(c_void_p)],
    "dureCommShrink": [c_void_p, POINTER(c_int), c_int, POINTER(c_void_p), POINTER(Config), c_int],
    "dureCommDestroy": [c_void_p],
    "dureCommAbort": [c_void_p],
    "dureCommCount": [c_void_p, POINTER(c_int)],
    "dureCommUserRank": [c_void_p, POINTER(c_int)],
    "dureGroupStart": [],
    "dureGroupEnd": [],
    "dureGroupSimulateEnd": [c_void_p],
    "dureAllReduce": [*_COLLECTIVE, c_int, *_END],
    "dureReduce": [*_COLLECTIVE, c_int, c_int, *_END],
    "dureReduceScatter": [*_COLLECTIVE, c_int, *_END],
    "dureBcast": [c_void_p, c_size_t, c_int, c_int, *_END],
    "dureAllGather": [*_COLLECTIVE, *_END],
    "dureAlltoAll": [*_COLLECTIVE, *_END],
    "dureGather": [*_COLLECTIVE, c_int, *_END],
    "dureScatter": [*_COLLECTIVE, c_int, *_END],
    "dureBarrier": _END,
    "dureAllToAllv": [c_void_p, _COUNTS, _COUNTS, c_void_p, _COUNTS, _COUNTS, c_int, *_END],
    "dureAllGatherv": [c_void_p, c_size_t, c_void_p, _COUNTS, _COUNTS, c_int, *_END],
    "dureReduceScatterv": [c_void_p, _COUNTS, _COUNTS, c_void_p, c_size_t, c_int, c_int, *_END],
    "dureGatherv": [c_void_p, c_size_t, c_void_p, _COUNTS, _COUNTS, c_int, c_int, *_END],
    "dureScatterv": [c_void_p, _COUNTS, _COUNTS, c_void_p, c_size_t, c_int, c_int, *_END],
    "dureSend": [c_void_p, c_size_t, c_int, c_int, *_END],
    "dureRecv": [c_void_p, c_size_t, c_int, c_int, *_END],
}


def _load() -> ctypes.CDLL:
    found = sorted(Path(__file__).parent.glob("libdure.so.*"))
    if not found:
        raise HostError(
            f"libdure.so is not in {Path(__file__).parent}: install the package, which builds it, instead of "
            "importing its source"
        )
    library = ctypes.CDLL(str(found[0]))
    library.dureGetLastError.restype = c_char_p
    library.dureGetLastError.argtypes = [c_void_p]
    for name, arguments in _ARGUMENTS.items():
        getattr(library, name).argtypes = arguments
    return library


_LIBRARY = _load()


def call(name: str, *arguments: object) -> None:
    """Calls a function of the library; raises what its result means."""
    result = getattr(_LIBRARY, name)(*arguments)
    if result not in (SUCCESS, DEGRADED):
        text = _LIBRARY.dureGetLastError(None).decode()
        raise BY_CODE.get(result, Error)(text)


def version_code() -> int:
    """Version of the library: 10000 * major + 100 * minor + patch."""
    version = c_int()
    call("dureGetVersion", ctypes.byref(version))
    return version.value
