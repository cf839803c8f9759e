"""Times the back end dure beside gloo, in one run: all-reduce by size, and steps of training by DDP and FSDP.

    torchrun --nproc-per-node 2 benchmarks/beside_gloo.py

The two take turns, so that what else the machine does meets both. Each figure is the median over the turns of the median
over a turn's calls, on the slowest rank. A ratio below 1 means that dure is faster.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dure.torch  # noqa: F401, registers the back end
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import transformer  # noqa: E402

BACK_ENDS = ("dure", "gloo")


def seconds(body: Callable[[], None], calls: int) -> float:
    """Median time of a call in one turn."""
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        body()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def compare(bodies: dict[str, Callable[[], None]], calls: int, turns: int) -> dict[str, float]:
    """Times by back end, on the slowest rank."""
    for body in bodies.values():
        seconds(body, 3)
    taken: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(turns):
        for name, body in bodies.items():
            dist.barrier()
            taken[name].append(seconds(body, calls))
    slowest = torch.tensor([statistics.median(times) for times in taken.values()], dtype=torch.float64)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return dict(zip(taken, slowest.tolist(), strict=True))


def show(what: str, times: dict[str, float]) -> None:
    """One row, on rank 0."""
    if dist.get_rank() == 0:
        us = {name: 1e6 * time for name, time in times.items()}
        print(f"{what:>24} {us['dure']:>12.1f} {us['gloo']:>12.1f} {us['dure'] / us['gloo']:>8.2f}", flush=True)


def all_reduces(groups: dict[str, dist.ProcessGroup], turns: int) -> None:
    """All-reduce of floats, by size; in the caller's thread, and in the background."""
    for shift in range(3, 27, 2):
        size = 1 << shift
        tensor = torch.ones(size // 4)
        calls = max(10, min(200, (1 << 26) // size))
        sync = {name: lambda group=group: dist.all_reduce(tensor, group=group) for name, group in groups.items()}
        show(f"all_reduce {size} B", compare(sync, calls, turns))
        background = {
            name: lambda group=group: dist.all_reduce(tensor, group=group, async_op=True).wait()
            for name, group in groups.items()
        }
        show(f"async {size} B", compare(background, calls, turns))


def steps(groups: dict[str, dist.ProcessGroup], turns: int) -> None:
    """Steps of training a transformer of 3.2 million parameters."""
    for way in ("ddp", "fsdp"):
        bodies = {}
        for name, group in groups.items():
            model = transformer.distributed(way, group, width=256)
            optimizer = torch.optim.AdamW(model.parameters())
            words = transformer.sequences(0, dist.get_rank())
            bodies[name] = lambda model=model, optimizer=optimizer, words=words: transformer.step(
                model, optimizer, words
            )
        show(f"step of {way}", compare(bodies, 5, turns))


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=9, help="how often each back end has its turn (default 9)")
    turns = arguments.parse_args().turns
    dist.init_process_group("gloo")
    groups = {name: dist.new_group(backend=name) for name in BACK_ENDS}
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} ranks, torch {torch.__version__}; microseconds")
        print(f"{'':>24} {'dure':>12} {'gloo':>12} {'ratio':>8}")
    all_reduces(groups, turns)
    steps(groups, turns)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
