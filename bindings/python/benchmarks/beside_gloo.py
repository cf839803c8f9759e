"""Times the back end dure beside gloo, in one run: all-reduce by size, and steps of training by DDP and FSDP.

    torchrun --nproc-per-node 2 benchmarks/beside_gloo.py

The two take turns, so that what else the machine does meets both. Each time is the median over the turns of the
median over a turn's calls, on the slowest rank; so is the processor time of a rank's threads, of which only the ratio
is shown.
A ratio below 1 means that dure takes less.
"""

import argparse
import functools
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


def measure(body: Callable[[], object], calls: int) -> tuple[float, float]:
    """Median time of a call in one turn, and median processor time."""
    walls, cpus = [], []
    for _ in range(calls):
        wall, cpu = time.perf_counter(), time.process_time()
        body()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def compare(what: str, bodies: dict[str, Callable[[], object]], calls: int, turns: int) -> None:
    """Prints a row, on rank 0."""
    for body in bodies.values():
        measure(body, 3)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in bodies}
    for _ in range(turns):
        for name, body in bodies.items():
            dist.barrier()
            taken[name].append(measure(body, calls))
    medians = [[statistics.median(column) for column in zip(*taken[name], strict=True)] for name in BACK_ENDS]
    slowest = torch.tensor(medians, dtype=torch.float64)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        (ours, our_cpu), (theirs, their_cpu) = slowest.tolist()
        times = f"{1e6 * ours:>12.1f} {1e6 * theirs:>12.1f}"
        print(f"{what:>24} {times} {ours / theirs:>8.2f} {our_cpu / their_cpu:>8.2f}", flush=True)


def all_reduces(groups: dict[str, dist.ProcessGroup], turns: int) -> None:
    """All-reduce of floats, by size; in the caller's thread, and in the background."""
    for shift in range(3, 27, 2):
        size = 1 << shift
        tensor = torch.zeros(size // 4)
        calls = max(10, min(200, (1 << 26) // size))
        for background in (False, True):
            bodies = {name: functools.partial(all_reduce, tensor, group, background) for name, group in groups.items()}
            compare(f"{'async' if background else 'all_reduce'} {size} B", bodies, calls, turns)


def all_reduce(tensor: torch.Tensor, group: dist.ProcessGroup, background: bool) -> None:
    """One all-reduce, and waits for it."""
    work = dist.all_reduce(tensor, group=group, async_op=background)
    if background:
        work.wait()


def steps(groups: dict[str, dist.ProcessGroup], turns: int) -> None:
    """Steps of training a transformer of 1.6 million parameters."""
    for way in ("ddp", "fsdp"):
        bodies = {}
        for name, group in groups.items():
            model = transformer.distributed(way, group, width=256)
            optimizer = torch.optim.AdamW(model.parameters())
            words = transformer.sequences(0, dist.get_rank())
            bodies[name] = functools.partial(transformer.step, model, optimizer, words)
        compare(f"step of {way}", bodies, 10, turns)


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=9, help="how often each back end has its turn (default 9)")
    turns = arguments.parse_args().turns
    dist.init_process_group("gloo")
    groups = {name: dist.new_group(backend=name) for name in BACK_ENDS}
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} ranks, torch {torch.__version__}; microseconds")
        print(f"{'':>24} {'dure':>12} {'gloo':>12} {'ratio':>8} {'cpu':>8}")
    all_reduces(groups, turns)
    steps(groups, turns)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
