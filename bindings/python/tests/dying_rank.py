"""Rank 1 ends before a call that rank 0 makes: it dies, or it just ends, as the argument says."""

import os
import sys

import dure.torch  # noqa: F401, registers the back end
import torch
import torch.distributed as dist

dist.init_process_group("dure")
if dist.get_rank() == 0:
    dist.all_reduce(torch.ones(1))
elif sys.argv[1] == "dies":
    os._exit(0)
