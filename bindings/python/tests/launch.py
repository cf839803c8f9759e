"""Starts the ranks of a test: each runs the tests of one module, in the same order."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Longer than anything here takes on a busy machine; a run that hangs ends.
PATIENCE = 300


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody who asks for any."""
    first = 28_000 + os.getpid() % 3_000
    for port in range(first, first + 1_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError(f"no port is free from {first} to {first + 999}")


def ranks(size: int, *arguments: str) -> list[subprocess.CompletedProcess]:
    """Runs `size` processes of Python with the same arguments, which find each other; what became of them."""
    root = f"127.0.0.1:{free_port()}"
    started = []
    for rank in range(size):
        env = os.environ | {
            "DURE_ROOT": root,
            "DURE_SIZE": str(size),
            "DURE_RANK": str(rank),
            "DURE_SECRET": "test",
            "DURE_TIMEOUT": "60s",
        }
        command = [sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(command, cwd=HERE, env=env, text=True, **pipes))
    ended = []
    try:
        for process in started:
            output, _ = process.communicate(timeout=PATIENCE)
            ended.append(subprocess.CompletedProcess(process.args, process.returncode, output))
    finally:
        for process in started:
            process.kill()
    return ended


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Runs a command, with more in its environment."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    env = os.environ | environment
    return subprocess.run(command, cwd=HERE, env=env, text=True, timeout=PATIENCE, check=False, **pipes)


def torchrun(size: int, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs `size` ranks by torchrun, with more in their environment."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", *arguments]
    return run(command, environment)


def expect_success(*processes: subprocess.CompletedProcess) -> None:
    """Fails with everybody's output unless all ended well."""
    if any(process.returncode != 0 for process in processes):
        texts = (f"--- process {number}, status {p.returncode}\n{p.stdout}" for number, p in enumerate(processes))
        raise AssertionError("\n".join(texts))
