"""PyTorch's own test cases of torch.distributed, which its package has, over Dure.

    BACKEND=dure WORLD_SIZE=2 python cases_of_torch.py                  those for a third party's back end
    BACKEND=gloo WORLD_SIZE=4 python cases_of_torch.py                  those for gloo, with Dure in its place
    BACKEND=mpi WORLD_SIZE=4 python cases_of_torch.py -k all_to_all     those of all-to-all, which torch has for MPI only

Cases that need an accelerator, more ranks or another back end skip themselves.
"""

import os
import unittest

import dure.torch  # noqa: F401
import torch.multiprocessing
from torch.distributed import Backend
from torch.testing._internal import common_distributed
from torch.testing._internal.distributed import distributed_test

NAME = os.environ["BACKEND"]
ANY_SOURCE = "messages from any rank are refused"
SPARSE = "sparse tensors are refused"

# What is left out, and why.
LEFT_OUT = {
    "test_send_recv_any_source": ANY_SOURCE,
    "test_send_recv_any_source_autograd_profiler": ANY_SOURCE,
    "test_send_recv_any_source_torch_profiler": ANY_SOURCE,
    "test_sparse_all_reduce_sum": SPARSE,
    "test_sparse_all_reduce_sum_cuda": SPARSE,
    "test_monitored_barrier_gloo": "it fails where ranks do not come within 2 s",
    "test_ddp_logging_data_cpu": "torch calls the back end of any third party 'custom' there",
}

for feature in ("ddp", "subgroup", "plugin"):
    common_distributed.DistTestCases.backend_feature[feature].add(NAME)
# Profilers see Dure's name, whoever's place it is in.
distributed_test.PROFILING_SUPPORTED_BACKENDS[:] = ["dure"]
distributed_test.SEND_RECV_PROFILING_SUPPORTED_BACKENDS[:] = ["dure"]
if NAME == "gloo":
    Backend._ensure_backend_registered(NAME)
    Backend._plugins["GLOO"] = Backend._plugins["DURE"]
else:
    # Which cases there are has been decided; this is what their process groups are made of.
    distributed_test.BACKEND = "dure"


class CasesOfTorch(distributed_test.TestDistBackend, distributed_test.DistributedTest._DistTestBase):
    def setUp(self) -> None:
        if self._testMethodName in LEFT_OUT:
            self.skipTest(LEFT_OUT[self._testMethodName])
        super().setUp()
        # Processes that are forked need not import torch again.
        self._start_processes(torch.multiprocessing.get_context("fork").Process)

    def _barrier(self, *args, timeout: float = 300, **kwargs) -> None:
        # As torch's, which has no patience with busy machines.
        super()._barrier(*args, timeout=timeout, **kwargs)


if __name__ == "__main__":
    unittest.main(verbosity=2)
