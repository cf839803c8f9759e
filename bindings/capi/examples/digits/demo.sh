#!/bin/bash
# What `make demo` runs: trains a small network on handwritten digits with two processes.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

say "training on $(wc -l <"$data") handwritten digits with 2 processes"
"$program" --local 2 --data "$data" --log "$build/digits.log.csv"
say "done in $SECONDS s; the loss curve is in $build/digits.log.csv"
