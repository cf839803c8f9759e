#!/bin/bash
# With the same global batch the loss curve does not depend on the number of processes, nor on what is between them.
# Trains with 1, 2 and 4 processes on this host, and with 2 in network namespaces joined by a veth pair, which share no
# memory. Fails unless all curves agree within TOLERANCE and the network recognises ACCURACY of the test images.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

TOLERANCE=1e-4 # relative, of the loss after each epoch: sums of f32 in another order differ, and training magnifies it
ACCURACY=0.95
LIMIT=120 # seconds that one training may take
logs=$(mktemp -d "$build/check.XXXXXX")
spaces=()
failures=0

clean_up() {
    kill $(jobs -p) 2>/dev/null || true
    for space in "${spaces[@]}"; do
        ip netns delete "$space"
    done
    rm -r "$logs"
}
trap clean_up EXIT

# train NAME ARGUMENT...: runs the program; its output is shown when it fails.
train() {
    local name=$1
    shift
    timeout "$LIMIT" "$program" --data "$data" --log "$logs/$name" "$@" >"$logs/$name.out" 2>&1 && return
    cat "$logs/$name.out" >&2
    die "training failed: $name"
}

# as_rank NUMBER ROOT COMMAND...: in the environment of one of two ranks that meet at ROOT.
as_rank() {
    DURE_RANK=$1 DURE_SIZE=2 DURE_ROOT=$2 DURE_SECRET=$secret "${@:3}"
}

# Prints a row of the table. Compares the curve with that of one process.
compare() {
    local name=$1 note=${2:-}
    awk -F, -v name="$name" -v note="$note" -v tolerance="$TOLERANCE" -v accuracy="$ACCURACY" '
        FNR == 1 { next }
        NR == FNR { reference[$1] = $2; epochs++; next }
        {
            difference = ($2 - reference[$1]) / reference[$1]
            if (difference < 0) difference = -difference
            if (difference > worst) worst = difference
            compared++; loss = $2; reached = $3; hash = $4
        }
        END {
            good = compared == epochs && epochs > 0 && worst <= tolerance && reached >= accuracy
            printf "%-22s %6d  %.9f  %6.2f %%  %10.1e  %s  %s%s\n", name, compared, loss, 100 * reached, worst, hash,
                good ? "ok" : "FAILED", note
            exit !good
        }' "$logs/1 process" "$logs/$name" || failures=$((failures + 1))
}

# A port that nobody listens on, below those that Linux gives to outgoing connections.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        grep -qi "$(printf ':%04X ' "$port")" /proc/net/tcp /proc/net/tcp6 || break
    done
    echo "$port"
}

# Two ranks that start from different weights must notice. Also: ranks that were started one by one.
refuse_different_weights() {
    local port rank ranks=()
    port=$(free_port)
    for rank in 0 1; do
        as_rank "$rank" "127.0.0.1:$port" \
            timeout "$LIMIT" "$program" --data "$data" --epochs 1 --seed "$rank" >"$logs/different.$rank" 2>&1 &
        ranks+=($!)
    done
    for rank in 0 1; do
        if wait "${ranks[$rank]}" || ! grep -q "weights of rank 1 differ" "$logs/different.$rank"; then
            cat "$logs"/different.* >&2
            die "rank $rank did not notice that the weights differ"
        fi
    done
}

# Two namespaces, 10.77.0.1 and 10.77.0.2, with nothing between them but a wire.
make_namespaces() {
    [ "$(id -u)" = 0 ] && "$root/.ci/setup" ip unshare || return
    local side
    for side in 1 2; do
        ip netns add "digits-$$-$side" 2>"$logs/netns" || return
        spaces+=("digits-$$-$side")
    done
    ip link add veth1 netns "${spaces[0]}" type veth peer name veth2 netns "${spaces[1]}" || return
    for side in 1 2; do
        ip -n "${spaces[side - 1]}" address add "10.77.0.$side/24" dev "veth$side"
        ip -n "${spaces[side - 1]}" link set "veth$side" up
        ip -n "${spaces[side - 1]}" link set lo up
    done
}

# inside SIDE COMMAND...: in a namespace, with a /dev/shm and System V memory of its own.
inside() {
    ip netns exec "${spaces[$1 - 1]}" unshare --mount --ipc \
        sh -c 'mount -t tmpfs none /dev/shm && exec "$@"' sh "${@:2}"
}

# Rank 1 is given no data: it has them from rank 0. Sets: sent, the bytes that rank 0 sent over the wire.
train_between_namespaces() {
    local name="2 network namespaces" other
    as_rank 1 10.77.0.1:20077 inside 2 timeout "$LIMIT" "$program" --data /nowhere >"$logs/other.out" 2>&1 &
    other=$!
    as_rank 0 10.77.0.1:20077 inside 1 timeout "$LIMIT" "$program" --data "$data" --log "$logs/$name" \
        >"$logs/$name.out" 2>&1 || { cat "$logs/$name.out" "$logs/other.out" >&2; die "training failed: $name"; }
    wait "$other" || { cat "$logs/other.out" >&2; die "rank 1 failed: $name"; }
    sent=$(inside 1 cat /sys/class/net/veth1/statistics/tx_bytes)
}

secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
say "training with 1, 2 and 4 processes"
train "1 process" --local 1
train "2 processes" --local 2
train "4 processes" --local 4
refuse_different_weights
if make_namespaces; then
    say "training in two network namespaces"
    train_between_namespaces
    # Each rank sends at least the gradients, 4 bytes a weight.
    [ "$sent" -gt 8000000 ] || die "only $sent bytes crossed the wire: where were the gradients?"
fi

printf '\n%-22s %6s  %11s  %8s  %10s  %-16s\n' run epochs 'final loss' accuracy 'max. diff.' 'hash of weights'
compare "1 process"
compare "2 processes"
compare "4 processes"
if [ -n "${sent:-}" ]; then
    compare "2 network namespaces" ", $((sent / 1000000)) MB sent over TCP"
else
    echo "2 network namespaces   SKIPPED: needs root, ip and permission to make network namespaces"
fi
printf '\ntolerance %s of the loss of each epoch; weights bit-equal on all ranks in every run\n' "$TOLERANCE"
[ "$failures" = 0 ] || die "$failures of the runs failed"
