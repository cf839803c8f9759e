"""Dure in the tables of a harness of peers, as a file for its `run.py --extra`.

PEERS is the harness's folder, ROOT the one that its build.sh filled, DURE_LIB the one with libdure.so (absolute paths):

    cc -O2 -Ibindings/capi/include perftests/peers/pb_dure.c -L$DURE_LIB -ldure -L$ROOT/bin -lpb -Wl,-rpath,$ROOT/bin \
        -o $ROOT/bin/pb_dure
    DURE_LIB=$DURE_LIB $PEERS/run.py --root $ROOT --extra perftests/peers/extra.py --peers dure --media shm,lo,veth

Two peers: `dure` with the harness's own buffers, `dure-alloc` with memory that peers of the same host write directly.
Other DURE_ settings of the environment reach the ranks. The namespaces of `veth` are made by the harness's netns.sh.

run.py executes this file among its own names. There R is the folder of --root, and PEERS the table of peers.
"""
import os
import random

# libdure.so refuses DURE_ names that it does not know, so this one goes no further.
LIBRARY = os.environ.pop("DURE_LIB", None)


def script(ranks):
    """A command that starts some ranks, waits for them, and fails with the first that did."""
    # A build folder has the library under one name, and the loader looks for another one: a preloaded one is found.
    start = f"env DURE_RANK=$rank LD_PRELOAD={LIBRARY}/libdure.so {R}/bin/pb_dure"
    ranks = " ".join(str(rank) for rank in ranks)
    return ["bash", "-c", f"for rank in {ranks}; do {start} & done; for job in $(jobs -p); do wait $job || exit; done"]


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
        if medium != "veth":
            # One command, so that the harness can move it into a namespace of its own.
            return script(range(n)), env
        # One command a namespace: as on hosts, its ranks are one session, between which the scheduler shares the cores.
        halves = {"peersA": range(n // 2), "peersB": range(n // 2, n)}
        return [["ip", "netns", "exec", name] + script(ranks) for name, ranks in halves.items()], env

    return launch


if LIBRARY is None:
    raise SystemExit("DURE_LIB is not set: the folder with libdure.so")
PEERS["dure"] = dure("malloc")
PEERS["dure-alloc"] = dure("dure")
