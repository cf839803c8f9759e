"""Dure in the tables of a harness of peers, as a file for its `run.py --extra`.

PEERS is the harness's folder, ROOT the one that its build.sh filled, DURE_LIB the one with libdure.so (absolute paths):

    cc -O2 -Ibindings/capi/include perftests/peers/pb_dure.c -L$DURE_LIB -ldure -L$ROOT/bin -lpb -Wl,-rpath,$ROOT/bin \
        -o $ROOT/bin/pb_dure
    DURE_LIB=$DURE_LIB $PEERS/run.py --root $ROOT --extra perftests/peers/extra.py --peers dure --media shm,lo,veth

Two peers: `dure` with the harness's own buffers, `dure-alloc` with memory that peers of the same host write directly.
Other DURE_ settings of the environment reach the ranks. The namespaces of `veth` are made by the harness's netns.sh.

run.py executes this file among its own names: R is its --root, PEERS its table.
"""
import os
import random

# libdure.so refuses DURE_ names that it does not know, so this one goes no further.
LIBRARY = os.environ.pop("DURE_LIB", None)


def dure(alloc):
    """A peer: from medium and number of ranks to commands and environment."""

    def launch(medium, n):
        host = "10.77.0.1" if medium == "veth" else "127.0.0.1"
        env = dict(
            DURE_SIZE=str(n),
            # Below the ports that Linux gives to outgoing connections.
            DURE_ROOT=f"{host}:{random.randrange(20000, 30000)}",
            DURE_SECRET="measured side by side",
            DURE_TIMEOUT="60s",
            DURE_TRANSPORT="pool" if medium == "shm" else "tcp",
            DURE_IFNAME="=pv0" if medium == "veth" else "=lo",
            PB_DURE_ALLOC=alloc,
            # Two ranks have a core each; more share them.
            PB_PIN="1" if n == 2 else "0",
        )
        # A build folder has the library under one name, and the loader looks for another one: a preloaded one is found.
        program = [f"LD_PRELOAD={LIBRARY}/libdure.so", f"{R}/bin/pb_dure"]
        if medium == "veth":
            place = lambda rank: "peersA" if rank < n // 2 else "peersB"
            return [["ip", "netns", "exec", place(rank), "env", f"DURE_RANK={rank}"] + program for rank in range(n)], env
        # One command, so that the harness can move all ranks into a namespace of its own.
        ranks = " ".join(str(rank) for rank in range(n))
        start = f"for rank in {ranks}; do env DURE_RANK=$rank {' '.join(program)} & done"
        return ["bash", "-c", f"{start}; for job in $(jobs -p); do wait $job || exit; done"], env

    return launch


if LIBRARY is None:
    raise SystemExit("DURE_LIB is not set: the folder with libdure.so")
PEERS["dure"] = dure("malloc")
PEERS["dure-alloc"] = dure("dure")
