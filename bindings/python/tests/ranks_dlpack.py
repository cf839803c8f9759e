"""Tensors and NumPy's arrays, as each rank tests them: python -m unittest ranks_dlpack. Needs torch, and NumPy."""

import unittest

import dure
import numpy
import torch


class Elsewhere:
    """A tensor on a device."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self) -> None:
        raise AssertionError("it was not to be asked for")


class Foreign(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.comm = dure.Communicator()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.comm.finalize()

    def test_tensors_of_all_types(self) -> None:
        size = self.comm.size
        for dtype in (
            torch.uint8,
            torch.int8,
            torch.int32,
            torch.int64,
            torch.half,
            torch.bfloat16,
            torch.float,
            torch.double,
        ):
            tensor = torch.arange(20, dtype=dtype)[4:]
            self.comm.all_reduce(tensor)
            self.assertEqual(tensor.tolist(), [size * number for number in range(4, 20)], dtype)

    def test_tensors_that_nobody_combines(self) -> None:
        for dtype in (torch.bool, torch.int16, torch.complex64):
            tensor = torch.full((3,), self.comm.rank + 1).to(dtype)
            self.comm.broadcast(tensor)
            self.assertEqual(tensor.tolist(), torch.ones(3, dtype=dtype).tolist())

    def test_arrays(self) -> None:
        for dtype in (numpy.uint8, numpy.int64, numpy.float16, numpy.float64):
            data = numpy.ones((2, 3), dtype)
            result = numpy.zeros_like(data)
            self.comm.all_reduce(data, result)
            self.assertEqual(result.tolist(), (self.comm.size * data).tolist())

    def test_what_cannot_be_taken(self) -> None:
        for value, pattern in (
            (torch.ones(4, 4).t(), r"shape \(4, 4\) and strides \(1, 4\) is not contiguous"),
            (torch.ones(2, device="meta"), "cannot be had by DLPack: .*meta"),
            (torch.ones(2, requires_grad=True), "cannot be had by DLPack: .*gradient"),
            (Elsewhere(), r"is on DLPack device \(2, 0\) .allowed: the host's, 1"),
            (numpy.ones((4, 4)).T, "not contiguous"),
            (numpy.ones(2, ">f8"), "another byte order, format '>d'"),
        ):
            with self.assertRaisesRegex(dure.InvalidArgumentError, pattern):
                self.comm.all_reduce(value)
