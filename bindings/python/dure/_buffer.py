"""Buffers: where an object's elements are, how many there are, and of what type.

An object is asked for the buffer protocol (bytes, bytearray, array.array, memoryview, NumPy arrays), and if it has none
for DLPack (PyTorch tensors and others).
"""

import ctypes
import math
import sys
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint16,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass

from ._errors import InvalidArgumentError

# dureDataType_t by kind of element and bytes of one.
_TYPES = {
    ("int", 1): 0,
    ("uint", 1): 1,
    ("int", 4): 2,
    ("uint", 4): 3,
    ("int", 8): 4,
    ("uint", 8): 5,
    ("float", 2): 6,
    ("float", 4): 7,
    ("float", 8): 8,
    ("bfloat", 2): 9,
    ("float8_e4m3fn", 1): 10,
    ("float8_e5m2", 1): 11,
}
_UINT8 = 1

# Kinds of element by format of the buffer protocol (those of `struct`) and by type code of DLPack.
_FORMATS = (
    dict.fromkeys("bhilqn", "int") | dict.fromkeys("cBHILQN", "uint") | dict.fromkeys("efd", "float") | {"?": "bool"}
)
_DLPACK_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool", 10: "float8_e4m3fn", 12: "float8_e5m2"}
_DLPACK_CPU = 1


@dataclass(slots=True)
class Buffer:
    """Elements in memory, contiguous. `owner` keeps them there."""

    name: str
    address: int
    count: int
    kind: str
    item_bytes: int
    owner: object

    def elements(self) -> tuple[int, int]:
        """How elements travel that nobody combines: a type of the library, and how many of it are one element. What the
        library does not know travels as bytes."""
        known = _TYPES.get((self.kind, self.item_bytes))
        return (_UINT8, self.item_bytes) if known is None else (known, 1)

    def combined(self) -> int:
        """The type as which elements are combined."""
        known = _TYPES.get((self.kind, self.item_bytes))
        if known is None:
            allowed = ", ".join(sorted({f"{kind} of {item_bytes}" for kind, item_bytes in _TYPES}))
            raise InvalidArgumentError(
                f"{self.name} has elements that cannot be combined: {self.type_name()} (allowed: {allowed} bytes)"
            )
        return known

    def type_name(self) -> str:
        """The type of an element, for people."""
        return f"{self.kind} of {self.item_bytes} bytes"


def buffer(name: str, value: object, writable: bool) -> Buffer:
    """The elements of an argument, which may be written if `writable`."""
    try:
        view = memoryview(value)
    except TypeError:
        return _from_dlpack(name, value)
    return _from_view(name, view, writable)


class _PyBuffer(ctypes.Structure):
    """``Py_buffer``, whose layout is part of Python's stable ABI."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", ctypes.py_object),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, POINTER(_PyBuffer), c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [POINTER(_PyBuffer)]


def _from_view(name: str, view: memoryview, writable: bool) -> Buffer:
    if not view.c_contiguous:
        raise InvalidArgumentError(
            f"{name} of shape {view.shape} and strides {view.strides} is not contiguous (allowed: contiguous buffers)"
        )
    if writable and view.readonly:
        raise InvalidArgumentError(f"{name} is read-only (allowed: buffers that can be written)")
    order, letters = (view.format[0], view.format[1:]) if view.format[0] in "@=<>!" else ("@", view.format)
    if order not in "@=" and order != ("<" if sys.byteorder == "little" else ">"):
        raise InvalidArgumentError(
            f"{name} has elements of another byte order, format {view.format!r} (allowed: this host's)"
        )
    raw = _PyBuffer()
    _get_buffer(view, raw, 0)
    address = raw.buf or 0
    # The memoryview itself holds on to the memory.
    _release_buffer(raw)
    kind = _FORMATS.get(letters, f"format {view.format!r}")
    return Buffer(name, address, view.nbytes // max(view.itemsize, 1), kind, view.itemsize, view)


class _DLTensor(ctypes.Structure):
    """The part of ``DLManagedTensor`` that is looked at, at its beginning."""

    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.argtypes = [ctypes.py_object, c_char_p]
_capsule_pointer.restype = c_void_p


def _from_dlpack(name: str, value: object) -> Buffer:
    if not hasattr(value, "__dlpack__"):
        raise InvalidArgumentError(
            f"{name} is a {type(value).__name__} (allowed: objects with the buffer protocol, or with __dlpack__)"
        )
    try:
        device = tuple(map(int, value.__dlpack_device__()))
        # A capsule that nobody takes over frees itself.
        capsule = value.__dlpack__() if device[0] == _DLPACK_CPU else None
    except (BufferError, RuntimeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} cannot be had by DLPack: {error}") from error
    if capsule is None:
        raise InvalidArgumentError(f"{name} is on DLPack device {device} (allowed: the host's, {_DLPACK_CPU})")
    tensor = _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    shape = tensor.shape[: tensor.ndim]
    strides = tensor.strides[: tensor.ndim] if tensor.strides else None
    count = math.prod(shape)
    if strides and count > 0 and not _is_contiguous(shape, strides):
        raise InvalidArgumentError(
            f"{name} of shape {tuple(shape)} and strides {tuple(strides)} is not contiguous (allowed: contiguous ones)"
        )
    kind = _DLPACK_CODES.get(tensor.code, f"DLPack type {tensor.code}")
    item_bytes = tensor.bits * tensor.lanes // 8
    return Buffer(name, (tensor.data or 0) + tensor.byte_offset, count, kind, item_bytes, (value, capsule))


def _is_contiguous(shape: list[int], strides: list[int]) -> bool:
    return all(
        length == 1 or stride == math.prod(shape[axis + 1 :])
        for axis, (length, stride) in enumerate(zip(shape, strides, strict=True))
    )


def counts(name: str, values: object, size: int, factor: int) -> ctypes.Array:
    """Element counts, one a rank, as the library takes them."""
    numbers = list(values)
    if len(numbers) != size or any(number < 0 for number in numbers):
        raise InvalidArgumentError(f"{name} is {numbers} (allowed: {size} numbers of 0 and up, one a rank)")
    return (c_size_t * size)(*(number * factor for number in numbers))
