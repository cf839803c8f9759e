"""Dure as a back end of ``torch.distributed``.

::

    import dure.torch
    import torch.distributed as dist

    dist.init_process_group("dure")

Importing this module registers the back end ``dure`` for tensors in the host's memory, and for those in the memory of the
devices that the environment variable ``DURE_DEVICE`` names. Ranks, sizes and meeting places are torch's own, so ``torchrun``
works as it is.
"""

import atexit
import os

try:
    import torch.distributed
except ImportError as missing:
    raise ImportError("dure.torch needs torch (pip install torch)") from missing

try:
    from . import _backend
except ImportError as missing:
    raise ImportError(
        "this installation of dure has no back end for the installed torch: install dure again from its source, with "
        "`pip install --no-build-isolation --force-reinstall --no-deps`, so that it is built with this torch"
    ) from missing

# Types of devices as torch names them; the last one is that of a plug-in for torch. One process group object is there for
# all of them.
DEVICES = ["cpu", "cuda", torch._C._get_privateuse1_backend_name()]

torch.distributed.Backend.register_backend("dure", _backend.create, extended_api=True, devices=DEVICES)


def _leave(process: int = os.getpid()) -> None:
    """Leaves what was not destroyed, while the interpreter lasts: threads of process groups let go of its tensors."""
    if os.getpid() == process:
        _backend.leave()


atexit.register(_leave)
