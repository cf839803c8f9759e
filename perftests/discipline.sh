#!/bin/bash
# What it costs to share memory without coherent caches: perftests/discipline.sh [ROUNDS]
# Two processes through a pool on this machine's memory, in software mode (lines are flushed) and in hardware mode (nothing is), in
# turn. Prints medians per size, and fails when a 64-byte message one way costs more than 4 times, or one of 1 MiB or more reaches less
# than 60 % of the bandwidth.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
dure=${CARGO_TARGET_DIR:-target}/release/dure
make --silent build
pool=$(mktemp -u /dev/shm/dure-discipline.XXXXXX)
rows=$(mktemp)
trap 'rm -f "$pool" "$rows"' EXIT
"$dure" pool create --size 1G --members 2 "$pool" >/dev/null

for ((round = 0; round < rounds; round++)); do
    for mode in software hardware; do
        for collective in broadcast all-reduce; do
            DURE_POOL=$pool DURE_TRANSPORT=cxl DURE_POOL_COHERENCE=$mode \
                "$dure" perf "$collective" --local 2 -b 64 -e 64M -f 4 -n 50 -w 10 |
                awk -v key="$collective $mode" '$1 ~ /^[0-9]+$/ { print key, $1, $6 }' >>"$rows"
        done
    done
done

# One way is a broadcast from one rank to the other.
sort -k1,1 -k3,3n -k2,2 -k4,4n "$rows" | awk '
    function flush_group() { if (n) median[group] = (n % 2) ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2; n = 0 }
    { key = $1 " " $2 " " $3; if (key != group) { flush_group(); group = key }
      v[++n] = $4; if (!(($1, $3) in seen)) { seen[$1, $3] = 1; order[++rows] = $1 " " $3 } }
    END {
        flush_group()
        printf "%-11s %10s %14s %14s %6s\n", "", "bytes", "software, us", "hardware, us", "ratio"
        for (i = 1; i <= rows; i++) {
            split(order[i], part, " ")
            s = median[part[1] " software " part[2]]; h = median[part[1] " hardware " part[2]]
            printf "%-11s %10d %14.2f %14.2f %6.2f\n", part[1], part[2], s, h, s / h
            if (part[1] == "broadcast" && (part[2] == 64 && s > 4 * h || part[2] >= 1048576 && h < 0.6 * s)) missed = 1
        }
        exit missed
    }'
