#!/usr/bin/env bash
# Every collective, type, operation, algorithm and number of ranks, with every result checked. Stops at the first wrong value.
#
#   perftests/matrix.sh [DURE] [FOLDER]
#
# DURE is the program (default: target/release/dure, built if it is not there); FOLDER gets the results as JSON and the
# summary (default: a temporary one). Takes less than 20 minutes on two cores.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dure=${1:-$here/target/release/dure}
if [ ! -x "$dure" ] && [ $# -eq 0 ]; then
    cargo build --manifest-path "$here/Cargo.toml" --release -p dure-perf
fi
folder=${2:-$(mktemp -d)}
mkdir -p "$folder"

collectives="all-reduce all-gather reduce-scatter all-to-all broadcast reduce gather scatter sendrecv barrier"
ragged="all-gather-v reduce-scatter-v all-to-all-v gather-v scatter-v"
reducing="all-reduce reduce-scatter reduce"
rows=0 wrong=0 runs=0 begin=$SECONDS

# Runs one sweep and adds up what it found. The first argument names it.
sweep() {
    local name=$1 file="$folder/$1.json" found
    shift
    # A wrong value is status 1 as well: read what was measured before giving up.
    local status=0
    "$dure" perf "$@" --timeout 120s --json "$file" >"$folder/$name.txt" 2>"$folder/$name.err" || status=$?
    if [ $status -eq 2 ] && grep -q 'does not serve' "$folder/$name.err"; then
        printf '%-44s refused\n' "$name" | tee -a "$folder/summary.txt"
        return
    fi
    if [ ! -s "$file" ]; then
        echo "$name: dure perf $* failed with status $status" >&2
        cat "$folder/$name.err" >&2
        exit 1
    fi
    found=$(sed -n 's/^# Out of bounds values : \([0-9]*\) .*/\1/p' "$folder/$name.txt")
    local count
    count=$(grep -vc '^#' "$folder/$name.txt")
    runs=$((runs + 1)) rows=$((rows + count)) wrong=$((wrong + found))
    printf '%-44s %6d rows %6d wrong %6d s\n' "$name" "$count" "$found" $((SECONDS - begin)) | tee -a "$folder/summary.txt"
    if [ "$found" -ne 0 ] || [ "$status" -ne 0 ]; then
        echo "$name: dure perf $* has wrong values, see $folder/$name.txt" >&2
        exit 1
    fi
}

: >"$folder/summary.txt"
for collective in $collectives $ragged; do
    # Many calls of short messages, few of long ones.
    sweep "$collective-2" "$collective" --local 2 -b 8 -e 1M -f 2 -n 20 -w 2
    [ "$collective" = barrier ] || sweep "$collective-2-long" "$collective" --local 2 -b 2M -e 128M -f 2 -n 4 -w 1
done
for ranks in 1 3 4 5 8; do
    for collective in $collectives $ragged; do
        sweep "$collective-$ranks" "$collective" --local $ranks -b 8 -e 16M -f 2 -n 2 -w 1
    done
done
for ranks in 1 2 3 4 5 8; do
    for collective in $collectives; do
        case " $reducing " in
        *" $collective "*) sweep "$collective-$ranks-ops" "$collective" --local $ranks -b 8 -e 1M -f 16 -n 2 -w 1 -d all -o all ;;
        *) sweep "$collective-$ranks-types" "$collective" --local $ranks -b 8 -e 1M -f 16 -n 2 -w 1 -d all ;;
        esac
    done
done
# Every algorithm by name, also where it would not be chosen, on one lane and on more.
for ranks in 2 3 4 5 8; do
    while read -r algorithm served; do
        for collective in ${served//,/}; do
            for lanes in 1 3; do
                sweep "$collective-$ranks-$algorithm-$lanes" "$collective" --local $ranks --algo "$algorithm" --lanes $lanes \
                    -b 8 -e 4M -f 8 -n 2 -w 1
            done
        done
    done < <("$dure" plan list)
done
for collective in broadcast reduce gather scatter; do
    sweep "$collective-3-roots" "$collective" --local 3 -b 8 -e 1M -f 16 -n 2 -w 1 -r all
done
for collective in $collectives; do
    sweep "$collective-2-tcp" "$collective" --local 2 -b 8 -e 16M -f 16 -n 2 -w 1 --transport tcp
    sweep "$collective-2-registered" "$collective" --local 2 -b 8 -e 16M -f 16 -n 2 -w 1 --alloc dure
done

printf '%d runs, %d rows, %d wrong values, %d s; results in %s\n' $runs $rows $wrong $((SECONDS - begin)) "$folder" | tee -a "$folder/summary.txt"
