"""Ranks end without destroying their process group."""

import dure.torch  # noqa: F401, registers the back end
import torch
import torch.distributed as dist

dist.init_process_group("dure")
dist.all_reduce(torch.ones(1))
dist.all_reduce(torch.ones(1), async_op=True).wait()
